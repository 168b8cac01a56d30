#include "tools/study/cells.h"

#include "engine/check.h"
#include "nets/nets.h"
#include "tools/report/scores.h"
#include "tools/statistics/auc_inference.h"
#include "tools/statistics/classification.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace microtome {
namespace {

TestScores read_test_scores(const std::filesystem::path& file) {
  LabelledScores csv = read_scores(file);  // which are what train or evaluate wrote: probabilities
  TestScores read{.labels = std::move(csv.labels), .scores = std::move(csv.scores), .groups = numbered(csv.groups)};
  if (!read.groups.empty()) read.group_count = 1 + std::ranges::max(read.groups);
  for (std::size_t i = 0; i < read.labels.size(); ++i) {
    const std::uint64_t id = csv.ids.empty() ? i : std::hash<std::string>()(csv.ids[i]);
    read.images = (read.images ^ (2 * id + read.labels[i])) * 0x9e3779b97f4a7c15u;
  }
  return read;
}

/// Of the images that `metrics` is of.
std::optional<TestScores> scores_of(const CellState& state, const char* name, const Json& metrics,
                                    std::vector<std::string>& notes) {
  const std::filesystem::path file = state.folder / name;
  if (!std::filesystem::exists(file)) return std::nullopt;
  try {
    TestScores read = read_test_scores(file);
    if (const Json n = metrics.value("n", Json()); n.is_number() && n != read.scores.size())
      fail(ExitCode::data, "it lacks test images, or is of others",
           {.where = file.string(), .found = fmt::format("{} of {}", read.scores.size(), n.dump())});
    return read;
  } catch (const Error& error) {
    std::string place = error.report().where;
    if (place.starts_with(file.string())) place.erase(0, file.string().size());
    notes.push_back(
        fmt::format("{}/{}{} is left out: {} ({})", state.cell.name(), name, place, error.what(), error.report().found));
    return std::nullopt;
  }
}

std::optional<std::pair<double, double>> interval_of(const Json& metrics) {
  const auto found = metrics.find("auc_ci95");
  if (found == metrics.end() || !found->is_array() || found->size() != 2 || !(*found)[0].is_number() ||
      !(*found)[1].is_number())
    return std::nullopt;
  return std::pair((*found)[0].get<double>(), (*found)[1].get<double>());
}

std::optional<StudyRun> run_of(const CellState& state, std::vector<std::string>& notes) {
  if (state.status != CellStatus::done || !state.result.is_object() || !state.result.contains("test")) return std::nullopt;
  const Json& test = state.result["test"];
  if (!test.is_object()) return std::nullopt;
  StudyRun run{.state = &state,
               .loss = test.at("loss").get<double>(),
               .accuracy = test.at("accuracy").get<double>(),
               .auc = test.at("auc").get<double>(),
               .auc_ci95 = interval_of(test),
               .tta_auc = {},
               .scores = scores_of(state, "scores.csv", test, notes),
               .tta_scores = {}};
  if (state.tta.is_object() && state.tta.contains("auc")) {
    run.tta_auc = state.tta["auc"].get<double>();
    run.tta_scores = scores_of(state, "scores_tta.csv", state.tta, notes);
  }
  return run;
}

bool same_images(std::span<const StudyRun* const> runs) {
  return !runs.empty() && std::ranges::all_of(runs, [&](const StudyRun* run) {
    return run->scores && runs.front()->scores && run->scores->images == runs.front()->scores->images;
  });
}

std::vector<std::vector<double>> scores_of(std::span<const StudyRun* const> runs) {
  std::vector<std::vector<double>> all;
  for (const StudyRun* run : runs) all.push_back(run->scores->scores);
  return all;
}

Estimate estimate(std::span<const StudyRun> all) {
  Estimate e{.runs = static_cast<int>(all.size())};
  const double n = e.runs;
  std::vector<const StudyRun*> runs;
  for (const StudyRun& run : all) {
    e.loss += run.loss / n, e.accuracy += run.accuracy / n, e.auc += run.auc / n;
    runs.push_back(&run);
  }
  if (e.runs > 1) {
    double squares = 0;
    for (const StudyRun& run : all) squares += (run.auc - e.auc) * (run.auc - e.auc);
    e.deviation = std::sqrt(squares / (n - 1));
  }
  if (!same_images(runs)) {
    if (e.runs == 1) e.auc_ci95 = all[0].auc_ci95;
    return e;
  }
  const TestScores& first = *all[0].scores;
  const std::vector<std::vector<double>> scores = scores_of(runs);
  try {
    e.groups = first.group_count;
    if (e.groups > 0) {
      e.auc_ci95 = clustered_auc_ci95(first.labels, scores, first.groups, 0);
    } else {
      e.auc_ci95 = mean_auc_ci95(first.labels, scores);
    }
  } catch (const Error&) {  // one image of a class, or too few groups: nothing to estimate from
  }
  return e;
}

}  // namespace

bool has_published_base(std::string_view net) {
  const auto found = std::ranges::find(networks(), net, &Network::name);
  return found != networks().end() && found->top;
}

bool Arm::matches(const Arm& other) const {
  return data == other.data && net == other.net && mode == other.mode && preprocess == other.preprocess &&
         augment == other.augment;
}

std::optional<ArmTest> compare(const Arm& a, const Arm& b) {
  ArmTest test;
  std::vector<const StudyRun*> of_a, of_b;
  for (const StudyRun& run : a.runs) {
    const auto other = std::ranges::find(b.runs, run.state->cell.seed, [](const StudyRun& r) { return r.state->cell.seed; });
    if (other == b.runs.end()) continue;
    test.seeds.push_back(run.state->cell.seed);
    of_a.push_back(&run), of_b.push_back(&*other);
  }
  if (test.seeds.empty()) return std::nullopt;
  const double n = static_cast<double>(test.seeds.size());
  for (std::size_t i = 0; i < of_a.size(); ++i) test.auc_a += of_a[i]->auc / n, test.auc_b += of_b[i]->auc / n;
  if (test.seeds.size() > 1) {
    double squares = 0;
    for (std::size_t i = 0; i < of_a.size(); ++i)
      squares += std::pow(of_a[i]->auc - of_b[i]->auc - (test.auc_a - test.auc_b), 2);
    test.deviation = std::sqrt(squares / (n - 1));
  }
  std::vector<const StudyRun*> all = of_a;
  all.insert(all.end(), of_b.begin(), of_b.end());
  if (!same_images(all)) return test;
  try {
    const AucTest delong = delong_test(of_a[0]->scores->labels, scores_of(of_a), scores_of(of_b));
    test.doubt = delong.doubt;
    if (test.doubt.empty()) test.z = delong.z, test.p = delong.p, test.ci95 = delong.ci95;
  } catch (const Error& error) {
    test.doubt = error.what();
  }
  return test;
}

Study::Study(std::span<const CellState> states) : states_(states) {
  for (const CellState& state : states) {
    const Cell& cell = state.cell;
    const Arm like{cell.data, cell.net, cell.mode, cell.preprocess, cell.augment, {}, {}, {}};
    auto found = std::ranges::find_if(arms_, [&](const Arm& a) { return a.matches(like); });
    if (found == arms_.end()) found = arms_.insert(arms_.end(), like);
    found->cells.push_back(&state);
    if (std::optional<StudyRun> run = run_of(state, notes_)) found->runs.push_back(std::move(*run));
  }
  for (Arm& arm : arms_) arm.estimate = estimate(arm.runs);
}

const Arm* Study::arm(const Arm& like) const {
  const auto found = std::ranges::find_if(arms_, [&](const Arm& a) { return a.matches(like); });
  return found == arms_.end() ? nullptr : &*found;
}

std::vector<std::string> Study::data_sets() const {
  std::vector<std::string> names;
  for (const std::string name : {"pcam", "idc"})
    if (std::ranges::any_of(arms_, [&](const Arm& a) { return a.data == name; })) names.push_back(name);
  return names;
}

std::pair<std::string, std::string> Study::preprocess_and_augment(std::string_view data) const {
  const Arm* first = nullptr;
  for (const Arm& arm : arms_) {
    if (arm.data != data) continue;
    if (arm.preprocess == "paper" && arm.augment == "none") return {"paper", "none"};
    if (!first) first = &arm;
  }
  return first ? std::pair(first->preprocess, first->augment) : std::pair<std::string, std::string>("paper", "none");
}

bool Study::is_main(const Arm& arm) const {
  const auto [preprocess, augment] = preprocess_and_augment(arm.data);
  return arm.augment == augment && (arm.preprocess == preprocess || !has_published_base(arm.net));
}

const Arm* Study::main_arm(std::string_view data, std::string_view net, std::string_view mode) const {
  const auto found =
      std::ranges::find_if(arms_, [&](const Arm& a) { return a.data == data && a.net == net && a.mode == mode && is_main(a); });
  return found == arms_.end() ? nullptr : &*found;
}

}  // namespace microtome
