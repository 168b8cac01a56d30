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
#include <map>
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

/// Why these are no metrics; empty where they are.
std::string no_metrics(const Json& json) {
  for (const char* key : {"loss", "accuracy", "auc"}) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_number()) return "is damaged";
    const double value = json[key];
    if (!(value >= 0) || (key != std::string_view("loss") && value > 1))
      return fmt::format("is damaged: {} cannot be {}", key, json[key].dump());
  }
  return "";
}

/// Where one says another thing than the other: "is another cell's: its seed is 1".
std::string difference(const Json& found, const Json& expected) {
  for (const auto& [key, value] : expected.items())
    if (found.contains(key) && found[key] != value)
      return fmt::format("is another cell's: its {} is {}", key, brief(found[key]));
  return "";
}

/// `why` the file is none, or that it was changed.
std::string as_sealed(const Json& json, std::string why) {
  return why.empty() && !is_as_sealed(json) ? "was changed since it was written" : why;
}

/// Why the file, read as `json`, is no result of the cell; empty where it is one.
std::string no_result(const Json& json, const Cell& cell) {
  if (!json.is_object() || !json.contains("test")) return "is damaged";
  if (const std::string why = no_metrics(json["test"]); !why.empty()) return why;
  return as_sealed(json, difference(json, {{"net", cell.net},
                                           {"mode", cell.mode},
                                           {"preprocess", cell.preprocess},
                                           {"augment", cell.augment},
                                           {"seed", cell.seed}}));
}

/// The same of what evaluate wrote of it.
std::string no_views(const Json& json, const Cell& cell, const Json& result) {
  const std::string why = no_metrics(json);
  if (!why.empty()) return why;
  if (are_of_other_images(json)) return "is of other images than the run's";
  Json expected{{"net", cell.net}, {"preprocess", cell.preprocess}};
  if (result.is_object() && result["test"].contains("n")) expected["n"] = result["test"]["n"];
  return as_sealed(json, difference(json, expected));
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

/// Figures of two data sets do not stand side by side under one name.
void refuse_other_data(std::vector<CellState>& states) {
  std::map<std::string, const CellState*> first;  // of each data set, that says its images
  for (CellState& state : states) {
    if (state.status != CellStatus::done || split_digests(state.result).is_null()) continue;
    const CellState& one = *first.try_emplace(state.cell.data, &state).first->second;
    if (split_digests(state.result) == split_digests(one.result)) continue;
    state.status = CellStatus::failed;
    state.exit_code = static_cast<int>(ExitCode::data);
    state.why = fmt::format("its images are not those of {}: take {} away, and resume with the right ones", one.cell.name(),
                            state.folder.string());
    state.result = state.tta = {};
  }
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

bool are_of_other_images(const Json& tta) {
  return tta.value("same_data", Json()) == false;
}

Json split_digests(const Json& result) {
  return result.is_object() ? result.value("split_digests", Json()) : Json();
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
  const std::string untrained = result ? no_result(*result, planned.cell) : "is not there";
  const bool trained = untrained.empty();
  const std::string unseen = tta ? no_views(*tta, planned.cell, trained ? *result : Json()) : "is not there";
  const bool viewed = unseen.empty();
  read_options(state.folder / "config.toml", {{"split-by", &state.split_by}, {"statistics", &state.statistics}});
  if (trained) state.result = *result;
  if (viewed) state.tta = *tta;
  if (trained && (viewed || !views)) {
    state.status = CellStatus::done;
  } else if (const std::optional<Failure> failure = read_failure(state.folder)) {
    state.status = CellStatus::failed;
    state.why = failure->what;
    state.exit_code = failure->exit_code;
  } else if (fs::exists(state.folder / "config.toml")) {
    state.status = CellStatus::stopped;
    if (result && !trained) state.why = "result.json " + untrained;
    if (tta && !viewed) state.why = "tta.json " + unseen;
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
  refuse_other_data(states);
  return states;
}

}  // namespace microtome
