#include "tools/study/cell.h"

#include "data/file.h"
#include "engine/check.h"
#include "tools/cli/documents.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <thread>
#include <utility>

namespace microtome {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> status_names{"waiting", "running", "stopped", "failed", "done"};

void write(const fs::path& file, const Json& document, std::string_view what) {
  const std::string text = to_text(document);
  const Bytes part = std::as_bytes(std::span(text.data(), text.size()));
  write_whole(file, {&part, 1}, what);
}

/// Nothing where there is no file; null where it is no document.
std::optional<Json> read(const fs::path& file) {
  std::error_code ignored;
  if (fs::status(file, ignored).type() == fs::file_type::not_found) return std::nullopt;
  const std::optional<Json> document = read_json(file);
  return document && document->is_object() ? *document : Json();
}

fs::path lock_of(const fs::path& study, const Cell& cell) {
  return study / "cells" / (cell.name() + ".lock");
}

bool is_running(const fs::path& study, const Cell& cell) {
  return is_locked(lock_of(study, cell));
}

bool are_metrics(const Json& json) {
  return std::ranges::all_of(std::array{"loss", "accuracy", "auc"},
                             [&](const char* key) { return json.is_object() && json.contains(key) && json[key].is_number(); });
}

[[noreturn]] void fail_damaged(const fs::path& plan, const std::string& found) {
  fail(ExitCode::data, "the list of the study's cells is damaged",
       {.where = plan.string(),
        .found = found,
        .next = "take it away: the same command as before writes it again, and no cell is lost"});
}

/// A part of a cell's name, which is a folder's.
std::string word(const Json& json, const fs::path& plan) {
  constexpr std::size_t longest = 64;
  const std::string text = json;
  const bool plain = std::ranges::all_of(text, [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
  if (text.empty() || text.size() > longest || !plain) fail_damaged(plan, fmt::format("{} where a word must be", brief(json)));
  return text;
}

template <class T>
T whole_number(const Json& json, const fs::path& plan) {
  // Of a number with a fraction, or too large a one, the library would make something.
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<T>::max()))
    fail_damaged(plan, fmt::format("{} where a whole number must be", brief(json)));
  return json.get<T>();
}

/// Sets what a run's config.toml says of its options.
void read_options(const fs::path& config, std::initializer_list<std::pair<std::string_view, std::string*>> options) {
  const std::string text = read_text_if_there(config, ExitCode::data).value_or("");
  for (std::string_view left = text, line; take_line(left, line);)
    for (const auto& [name, value] : options)
      if (const std::string begin = fmt::format("{} = \"", name); line.starts_with(begin) && line.ends_with('"'))
        *value = line.substr(begin.size(), line.size() - begin.size() - 1);
}

}  // namespace

std::string Cell::name() const {
  return fmt::format("{}-{}-{}-{}-{}-{}", data, net, mode, preprocess, augment, seed);
}

std::string_view name_of(CellStatus status) {
  return status_names[static_cast<std::size_t>(status)];
}

void write_plan(const fs::path& study, const StudyPlan& plan) {
  Json cells = Json::array();
  for (const auto& [cell, parent] : plan.cells)
    cells.push_back({{"data", cell.data},
                     {"net", cell.net},
                     {"mode", cell.mode},
                     {"preprocess", cell.preprocess},
                     {"augment", cell.augment},
                     {"seed", cell.seed},
                     {"parent", parent}});
  write(study / "cells.json", {{"epochs", plan.epochs}, {"tta", plan.views}, {"cells", cells}}, "list of cells");
}

StudyPlan read_plan(const fs::path& study) {
  const fs::path file = study / "cells.json";
  const std::optional<Json> json = read(file);
  if (!json)
    fail(ExitCode::data, "there is no study",
         {.where = study.string(), .expected = "cells.json", .next = "name its folder with --out"});
  if (json->is_null()) fail_damaged(file, "no JSON document");
  try {
    StudyPlan plan{.epochs = whole_number<int>(json->at("epochs"), file), .views = json->at("tta"), .cells = {}};
    for (const Json& c : json->at("cells")) {
      const std::string parent = c.at("parent");
      const auto is_parent = [&](const PlannedCell& before) { return before.cell.name() == parent; };
      if (!parent.empty() && std::ranges::none_of(plan.cells, is_parent))
        fail_damaged(file, fmt::format("a cell that begins with {}, which is not before it", parent));
      const auto part = [&](const char* key) { return word(c.at(key), file); };
      plan.cells.push_back({.cell = {.net = part("net"),
                                     .data = part("data"),
                                     .mode = part("mode"),
                                     .preprocess = part("preprocess"),
                                     .augment = part("augment"),
                                     .seed = whole_number<std::uint64_t>(c.at("seed"), file)},
                            .parent = parent});
    }
    return plan;
  } catch (const Json::exception& error) {
    fail_damaged(file, error.what());
  }
}

CellLock::CellLock(const fs::path& study, const Cell& cell) {
  const fs::path path = lock_of(study, cell);
  constexpr int looks = 10;
  for (int i = 0; i < looks; ++i) {
    lock_.emplace(path);
    if (lock_->held()) return;
    if (lock_->error() != 0)
      fail(ExitCode::usage, "cannot write to the study's folder",
           {.where = path.string(), .found = std::strerror(lock_->error())});
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void write_failure(const fs::path& cell, const Failure& failure) {
  write(cell / "failed.json", {{"exit_code", failure.exit_code}, {"what", failure.what}}, "cell's failure");
}

std::optional<Failure> read_failure(const fs::path& cell) {
  const std::optional<Json> json = read(cell / "failed.json");
  if (!json) return std::nullopt;
  try {
    return Failure{.exit_code = json->at("exit_code"), .what = json->at("what")};
  } catch (const Json::exception&) {
    return Failure{.exit_code = static_cast<int>(ExitCode::data), .what = "failed.json is damaged"};
  }
}

int epochs_done(const fs::path& cell) {
  const std::string text = read_text_if_there(cell / "metrics.csv", ExitCode::data).value_or("");
  const auto lines = static_cast<int>(std::ranges::count(text, '\n'));
  return std::max(lines - 1, 0);
}

CellState read_cell(const fs::path& study, const PlannedCell& planned, bool views) {
  CellState state{.cell = planned.cell, .folder = study / "cells" / planned.cell.name()};
  state.epochs_done = epochs_done(state.folder);
  const std::optional<Json> result = read(state.folder / "result.json"), tta = read(state.folder / "tta.json");
  const bool trained = result && result->contains("test") && are_metrics((*result)["test"]);
  const bool viewed = tta && are_metrics(*tta);
  read_options(state.folder / "config.toml", {{"split-by", &state.split_by}, {"statistics", &state.statistics}});
  if (trained) state.result = *result;
  if (viewed) state.tta = *tta;
  if (trained && (viewed || !views)) {
    state.status = CellStatus::done;
  } else if (const std::optional<Failure> failure = read_failure(state.folder)) {
    state.status = CellStatus::failed;
    state.why = failure->what;
  } else if (fs::exists(state.folder / "config.toml")) {
    state.status = CellStatus::stopped;
    if (result && !trained) state.why = "result.json is damaged";
    if (tta && !viewed) state.why = "tta.json is damaged";
  }
  return state;
}

std::vector<CellState> read_study(const fs::path& folder) {
  const StudyPlan plan = read_plan(folder);
  std::vector<CellState> states;
  for (const PlannedCell& planned : plan.cells) {
    CellState state = read_cell(folder, planned, plan.views);
    if (state.status != CellStatus::done && is_running(folder, planned.cell)) {
      state.status = CellStatus::running;
      state.why.clear();
    }
    if (!planned.parent.empty() && state.status == CellStatus::waiting) {
      const auto parent = std::ranges::find(states, planned.parent, [](const CellState& o) { return o.cell.name(); });
      require(parent != states.end(), "study: ", planned.parent, " comes after its child");
      if (parent->status == CellStatus::failed) state.status = CellStatus::failed;
      if (parent->status == CellStatus::failed)
        state.why = fmt::format("{} failed, whose weights it begins with", planned.parent);
      else if (parent->status != CellStatus::done)
        state.why = fmt::format("{} comes first", planned.parent);
    }
    states.push_back(std::move(state));
  }
  return states;
}

}  // namespace microtome
