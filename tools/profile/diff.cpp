#include "tools/profile/diff.h"

#include "engine/check.h"
#include "tools/cli/arguments.h"
#include "tools/cli/json.h"
#include "tools/profile/recorded_profile.h"
#include "tools/statistics/timing_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace microtome {
namespace {

constexpr std::string_view whole_step = "(the step, untraced)", small_passes = "(passes under 0.5% of a step)";

struct Differences {
  Report report;
  bool batch = false;

  Differences(const RecordedProfile& before, const RecordedProfile& after) {
    for (const auto& [key, was] : before.setting) {
      const std::string& is = after.setting.at(key);
      if (was == is) continue;
      const auto add = [&](std::string& list, const std::string& value) {
        list += fmt::format("{}{} {}", list.empty() ? "" : "; ", key, value);
      };
      add(report.expected, was), add(report.found, is);
      batch |= key == "batch_size";
    }
  }
};

/// Seconds of an image where batches differ, else of a step; as untraced as what was traced can be.
std::vector<Timings> timings_of(const RecordedProfile& side, const std::set<std::string>& large, bool an_image) {
  const double images = an_image ? side.batch : 1, calls = side.epoch_steps * images;
  std::vector<Timings> all;
  const auto add = [&](const std::string& key, std::vector<double> samples_ns, double factor) {
    std::erase(samples_ns, 0.0);  // steps that did without
    if (samples_ns.empty()) return;
    for (double& s : samples_ns) s *= factor * 1e-9 / images;
    all.push_back({key, std::move(samples_ns), calls});
  };
  add(std::string(whole_step), side.untraced_samples_ns, 1);
  const double scale = side.untraced_ns / side.traced_ns;
  std::vector<double> rest;
  for (const RecordedProfile::Layer& layer : side.layers) {
    if (large.contains(layer.key)) {
      add(layer.key, layer.traced_samples_ns, scale);
      continue;
    }
    rest.resize(std::max(rest.size(), layer.traced_samples_ns.size()));
    for (std::size_t i = 0; i < layer.traced_samples_ns.size(); ++i) rest[i] += layer.traced_samples_ns[i];
  }
  add(std::string(small_passes), rest, scale);
  return all;
}

/// Those that take 0.5% of a step in either profile: of less, a change says little and costs less.
std::set<std::string> large_passes(const RecordedProfile& before, const RecordedProfile& after) {
  std::set<std::string> keys;
  for (const RecordedProfile* side : {&before, &after})
    for (const RecordedProfile::Layer& layer : side->layers)
      if (layer.ns >= 0.005 * side->untraced_ns) keys.insert(layer.key);
  return keys;
}

/// What the step leaves open its passes cannot settle: they are not all of it.
std::string verdict(const Gate& gate) {
  const bool open = std::ranges::find(gate.undecided, whole_step) != gate.undecided.end();
  if (!gate.passed() || !open) return gate.text();
  const std::size_t passes = gate.undecided.size() - 1;
  return fmt::format(
      "gate {:.4g}%: cannot tell: the step itself is AMBIGUOUS and may be slower by more{}; profile with more --steps",
      100 * gate.share, passes > 0 ? fmt::format(", as may {} of its passes", passes) : "");
}

/// "conv1_conv: engine 34 -> engine 57"
std::vector<std::string> changed_plans(const RecordedProfile& before, const RecordedProfile& after) {
  std::vector<std::string> lines;
  for (const auto& [row, plan] : before.plans)
    if (const auto found = after.plans.find(row); found != after.plans.end() && found->second != plan)
      lines.push_back(fmt::format("{}: {} -> {}", row, plan, found->second));
  return lines;
}

std::string time_text(double seconds) {
  return seconds > 0 ? fmt::format("{:.4f}", seconds * 1e3) : "-";
}

void print_text(const std::vector<Comparison>& rows, const RecordedProfile& before, const RecordedProfile& after, bool all) {
  for (const RecordedProfile* side : {&before, &after})
    fmt::print("{:<7} {}: {} on {}, commit {}\n", side == &before ? "before" : "after", side->file, side->net, side->device,
               side->commit);
  for (const RecordedProfile* side : {&before, &after})
    if (side->lost_records > 0)
      fmt::print("INCOMPLETE {}: {} records of the device's are lost, and what they said of passes\n", side->file,
                 side->lost_records);
  std::size_t width = 12;
  for (const Comparison& c : rows) width = std::max(width, c.key.size());
  fmt::print("\n{:<10} {:<{}} {:>11} {:>11} {:>9} {:>20} {:>11}\n", "", "row and pass", width, "before, ms", "after, ms",
             "change", "95% interval", "s an epoch");
  for (const Comparison& c : rows) {
    if (!all && c.change == Change::unchanged && c.key != whole_step) continue;
    fmt::print("{:<10} {:<{}} {:>11} {:>11}", name_of(c.change), c.key, width, time_text(c.before), time_text(c.after));
    if (c.before > 0 && c.after > 0)
      fmt::print(" {:>+8.1f}% {:>20} {:>+11.4f}", 100 * (c.ratio - 1),
                 std::isfinite(c.high) ? fmt::format("{:+.1f}% to {:+.1f}%", 100 * (c.low - 1), 100 * (c.high - 1)) : "unknown",
                 c.epoch_seconds);
    fmt::print("\n");
  }
  fmt::print(
      "before, after: the median of each side; change, and with it s an epoch: the median of after / before over all pairs, "
      "another ratio where times scatter\n");
  for (const std::string& line : changed_plans(before, after)) fmt::print("plan       {}\n", line);
}

Json to_json(const std::vector<Comparison>& rows, const RecordedProfile& before, const RecordedProfile& after) {
  Json json{{"schema", "microtome.profile_diff.1"}, {"before", before.file}, {"after", after.file}, {"layers", Json::array()}};
  for (const Comparison& c : rows) {
    const bool both = c.before > 0 && c.after > 0;
    const auto known = [](bool is_known, double value) { return is_known && std::isfinite(value) ? Json(value) : Json(); };
    json["layers"].push_back({{"key", c.key},
                              {"class", name_of(c.change)},
                              {"before_seconds", known(c.before > 0, c.before)},
                              {"after_seconds", known(c.after > 0, c.after)},
                              {"change", known(both, c.ratio - 1)},
                              {"interval_95", {known(both, c.low - 1), known(both, c.high - 1)}},
                              {"floor", known(both, c.floor)},
                              {"seconds_per_epoch", known(both, c.epoch_seconds)}});
  }
  json["lost_records"] = {before.lost_records, after.lost_records};
  json["plans"] = changed_plans(before, after);
  return json;
}

}  // namespace

int profile_diff(int argc, const char* const* argv) {
  std::string before_path, after_path, gate_text;
  std::array<std::string, 2> floor_paths;
  bool allow_different = false, all = false, json = false;
  Arguments arguments(
      "profile diff", "Show which passes of which rows have become slower or faster between two profiles.",
      "BEFORE AFTER [options]",
      {"profile diff profiles/before profiles/after", "profile diff before/profile.json after/profile.json --gate 3%",
       "profile diff profiles/before profiles/after --floor profiles/same1 profiles/same2 --gate 3%"});
  arguments.add_positional(
      {.name = "before", .placeholder = "BEFORE", .help = "a profile's folder, or its profile.json", .required = true},
      before_path);
  arguments.add_positional({.name = "after", .placeholder = "AFTER", .help = "a later one's", .required = true}, after_path);
  arguments.add(
      {.name = "floor", .placeholder = "A1 A2", .help = "two profiles of one commit: what differs between them is noise"},
      floor_paths);
  arguments.add(
      {.name = "gate",
       .placeholder = "P%",
       .help = "exit code 7 where the step, or a pass of 0.5% of it or more, is SLOWER, by this share or more as far as its "
               "interval goes, or where a profile is INCOMPLETE; 0 where it cannot tell, and says so"},
      gate_text);
  arguments.add_flag(
      {.name = "allow-different", .help = "compare profiles of devices, networks, batches or options that differ"},
      allow_different);
  arguments.add_flag({.name = "all", .help = "list the passes that are the SAME too"}, all);
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, json);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();
  const bool gated = arguments.given("gate");
  const double share = gated ? share_of(gate_text) : 0;

  const RecordedProfile before = read_profile(before_path), after = read_profile(after_path);
  const auto compared = [&](const RecordedProfile& one, const RecordedProfile& other) {
    Differences differences(one, other);
    if (!allow_different && !differences.report.found.empty()) {
      differences.report.where = one.file + " and " + other.file;
      differences.report.next = "--allow-different, if that is what you want to see";
      fail(ExitCode::usage, "these profiles are not of the same thing", differences.report);
    }
    return differences;
  };
  const Differences differences = compared(before, after);
  if (gated) {
    for (const RecordedProfile* side : {&before, &after})
      require_enough_for_a_gate(side->untraced_samples_ns.size(), side->file, "profile with more --steps");
  }
  const std::set<std::string> large = large_passes(before, after);
  const std::vector<Timings> then = timings_of(before, large, differences.batch),
                             now = timings_of(after, large, differences.batch);
  NoiseFloor floor;
  if (arguments.given("floor")) {
    const RecordedProfile one = read_profile(floor_paths[0]), other = read_profile(floor_paths[1]);
    compared(before, one);
    compared(one, other);
    floor = NoiseFloor(timings_of(one, large, differences.batch), timings_of(other, large, differences.batch));
  } else {
    fmt::print(stderr,
               "profile: without --floor what differs from one profile to the next of the same code may count as a change\n");
  }
  const std::vector<Comparison> rows = compare(then, now, floor, gated ? std::max(share, 0.01) : 0.05);
  const int needed = repetitions_needed(static_cast<int>(rows.size())),
            have = static_cast<int>(std::min(then[0].seconds.size(), now[0].seconds.size()));
  if (have < needed)
    fmt::print(stderr, "profile: {} steps on either side; it takes {} to show one changed pass among {}\n", have, needed,
               rows.size());
  std::optional<Gate> gate;
  if (gated) {
    gate = gate_of(rows, share);
    for (const RecordedProfile* side : {&before, &after})
      if (side->lost_records > 0) gate->failed_by.push_back(side->file + ", INCOMPLETE");
  }
  if (json) {
    Json document = to_json(rows, before, after);
    if (gate)
      document["gate"] = {{"threshold", gate->share},
                          {"passed", gate->passed()},
                          {"failed_by", gate->failed_by},
                          {"undecided", gate->undecided}};
    fmt::print("{}", to_text(document));
  } else {
    print_text(rows, before, after, all);
    if (gate) fmt::print("{}\n", verdict(*gate));
  }
  return static_cast<int>(gate && !gate->passed() ? ExitCode::verdict : ExitCode::done);
}

}  // namespace microtome
