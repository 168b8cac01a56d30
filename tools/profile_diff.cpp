#include "tools/profile_diff.h"

#include "engine/check.h"
#include "tools/arguments.h"
#include "tools/comparison.h"
#include "tools/profile_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

namespace microtome {
namespace {

constexpr std::string_view whole_step = "(the step, untraced)", small_passes = "(passes under 0.5% of a step)";

Json read_profile(std::filesystem::path file) {
  if (std::filesystem::is_directory(file)) file /= "profile.json";
  std::ifstream stream(file);
  if (!stream) fail(ExitCode::data, "cannot read the profile", {.where = file.string(), .found = std::strerror(errno)});
  Json json;
  try {
    json = Json::parse(stream);
  } catch (const Json::exception& error) {
    fail(ExitCode::data, "the profile is not JSON", {.where = file.string(), .found = error.what()});
  }
  const std::string schema = json.is_object() && json.contains("schema") ? json["schema"].dump() : "none";
  if (schema != fmt::format("\"{}\"", profile_schema))
    fail(ExitCode::data, "the profile is of another schema",
         {.where = file.string(),
          .expected = std::string(profile_schema),
          .found = schema,
          .next = "profile again with this version"});
  json["file"] = file.string();
  return json;
}

struct Differences {
  Report report;
  bool batch = false;

  Differences(const Json& before, const Json& after) {
    const auto differ = [&](const char* part, const char* key) {
      const std::string a = before[part][key].dump(), b = after[part][key].dump();
      if (a == b) return false;
      const auto add = [&](std::string& list, const std::string& value) {
        list += fmt::format("{}{} {}", list.empty() ? "" : "; ", key, value);
      };
      add(report.expected, a), add(report.found, b);
      return true;
    };
    for (const char* key : {"name", "description"}) differ("device", key);
    for (const char* key : {"net", "mode", "image", "precision", "graph", "augment"}) differ("run", key);
    batch = differ("run", "batch_size");
  }
};

/// Seconds of an image where batches differ, else of a step; as untraced as what was traced can be.
std::vector<Timings> timings_of(const Json& profile, const std::vector<std::string>& large, bool an_image) {
  const double images = an_image ? profile["run"]["batch_size"].get<double>() : 1;
  const double calls = profile["method"]["epoch_steps"].get<double>() * images;
  const Json& distortion = profile["distortion"];
  const double scale = distortion["untraced_ns_per_step"].get<double>() / distortion["traced_ns_per_step"].get<double>();
  std::vector<Timings> all;
  const auto add = [&](std::string key, const Json& samples_ns, double factor) {
    Timings& timings = all.emplace_back(Timings{std::move(key), samples_ns.get<std::vector<double>>(), calls});
    for (double& s : timings.seconds) s *= factor * 1e-9 / images;
  };
  add(std::string(whole_step), distortion["untraced_samples_ns"], 1);
  Timings rest{std::string(small_passes), {}, calls};
  for (const Json& layer : profile["layers"]) {
    std::string key = layer["row"].get<std::string>();
    key += fmt::format("{}{}", key.empty() ? "" : " ", layer["pass"].get<std::string>());
    const bool alone = std::find(large.begin(), large.end(), key) != large.end();
    add(key, layer["traced_samples_ns"], scale);
    if (alone) continue;
    const std::vector<double> small = std::move(all.back().seconds);
    all.pop_back();
    rest.seconds.resize(small.size());
    for (std::size_t i = 0; i < small.size(); ++i) rest.seconds[i] += small[i];
  }
  if (!rest.seconds.empty()) all.push_back(std::move(rest));
  return all;
}

/// Those that take 0.5% of a step in either profile: of less, a change says little and costs less.
std::vector<std::string> large_passes(const Json& before, const Json& after) {
  std::vector<std::string> keys;
  for (const Json* profile : {&before, &after}) {
    const double step = (*profile)["distortion"]["untraced_ns_per_step"];
    for (const Json& layer : (*profile)["layers"]) {
      if (layer["ns_per_step"].get<double>() < 0.005 * step) continue;
      const std::string row = layer["row"];
      keys.push_back(fmt::format("{}{}{}", row, row.empty() ? "" : " ", layer["pass"].get<std::string>()));
    }
  }
  return keys;
}

/// "conv1_conv: engine 34 -> engine 57"
std::vector<std::string> changed_plans(const Json& before, const Json& after) {
  const auto of = [](const Json& profile) {
    std::map<std::string, std::string> plans;
    for (const Json& plan : profile["plans"]) {
      std::string& list = plans[plan["row"].get<std::string>()];
      list += fmt::format("{}{}", list.empty() ? "" : ", ", plan["implementation"].get<std::string>());
    }
    return plans;
  };
  const std::map<std::string, std::string> then = of(before), now = of(after);
  std::vector<std::string> lines;
  for (const auto& [row, plan] : then)
    if (const auto found = now.find(row); found != now.end() && found->second != plan)
      lines.push_back(fmt::format("{}: {} -> {}", row, plan, found->second));
  return lines;
}

std::string time_text(double seconds) {
  return seconds > 0 ? fmt::format("{:.4f}", seconds * 1e3) : "-";
}

void print_text(const std::vector<Comparison>& rows, const Json& before, const Json& after, bool all) {
  for (const Json* profile : {&before, &after})
    fmt::print("{:<7} {}: {} on {}, commit {}\n", profile == &before ? "before" : "after",
               (*profile)["file"].get<std::string>(), (*profile)["run"]["net"].get<std::string>(),
               (*profile)["device"]["description"].get<std::string>(), (*profile)["run"]["commit"].get<std::string>());
  std::size_t width = 12;
  for (const Comparison& c : rows) width = std::max(width, c.key.size());
  fmt::print("\n{:<10} {:<{}} {:>11} {:>11} {:>9} {:>20} {:>11}\n", "", "row and pass", width, "before, ms", "after, ms",
             "change", "95% interval", "s an epoch");
  for (const Comparison& c : rows) {
    if (!all && c.change == Change::same && c.key != whole_step) continue;
    fmt::print("{:<10} {:<{}} {:>11} {:>11}", name_of(c.change), c.key, width, time_text(c.before), time_text(c.after));
    if (c.before > 0 && c.after > 0)
      fmt::print(" {:>+8.1f}% {:>20} {:>+11.4f}", 100 * (c.ratio - 1),
                 std::isfinite(c.high) ? fmt::format("{:+.1f}% to {:+.1f}%", 100 * (c.low - 1), 100 * (c.high - 1)) : "unknown",
                 c.epoch_seconds);
    fmt::print("\n");
  }
  for (const std::string& line : changed_plans(before, after)) fmt::print("plan       {}\n", line);
}

Json to_json(const std::vector<Comparison>& rows, const Json& before, const Json& after) {
  Json json{
      {"schema", "microtome.profile_diff.1"}, {"before", before["file"]}, {"after", after["file"]}, {"layers", Json::array()}};
  for (const Comparison& c : rows)
    json["layers"].push_back({{"key", c.key},
                              {"class", name_of(c.change)},
                              {"before_seconds", c.before},
                              {"after_seconds", c.after},
                              {"change", c.ratio - 1},
                              {"interval_95", {c.low - 1, std::isfinite(c.high) ? Json(c.high - 1) : Json(nullptr)}},
                              {"seconds_per_epoch", c.epoch_seconds}});
  json["plans"] = changed_plans(before, after);
  return json;
}

}  // namespace

int profile_diff(int argc, const char* const* argv) {
  std::string before_path, after_path, gate_text;
  bool allow_different = false, all = false, json = false;
  Arguments arguments(
      "profile diff", "Show which passes of which rows have become slower or faster between two profiles.",
      "BEFORE AFTER [options]",
      {"profile diff profiles/before profiles/after", "profile diff before/profile.json after/profile.json --gate 3%"});
  arguments.add_positional(
      {.name = "before", .placeholder = "BEFORE", .help = "a profile's folder, or its profile.json", .required = true},
      before_path);
  arguments.add_positional({.name = "after", .placeholder = "AFTER", .help = "likewise", .required = true}, after_path);
  arguments.add({.name = "gate",
                 .placeholder = "P%",
                 .help = "exit code 7 where the step, or a pass of 0.5% of it or more, is SLOWER by more than this share"},
                gate_text);
  arguments.add_flag(
      {.name = "allow-different", .help = "compare profiles of devices, networks, batches or options that differ"},
      allow_different);
  arguments.add_flag({.name = "all", .help = "list the passes that are the SAME too"}, all);
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, json);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();
  const bool gated = arguments.given("gate");
  const double gate = gated ? share_of(gate_text) : 0;

  const Json before = read_profile(before_path), after = read_profile(after_path);
  Differences differences(before, after);
  if (!allow_different && !differences.report.found.empty()) {
    differences.report.where = before["file"].get<std::string>() + " and " + after["file"].get<std::string>();
    differences.report.next = "--allow-different, if that is what you want to see";
    fail(ExitCode::usage, "these profiles are not of the same thing", differences.report);
  }
  const std::vector<std::string> large = large_passes(before, after);
  const std::vector<Timings> then = timings_of(before, large, differences.batch),
                             now = timings_of(after, large, differences.batch);
  const std::vector<Comparison> rows = compare(then, now, {}, gated ? std::max(gate, 0.01) : 0.05);
  const int needed = repetitions_needed(static_cast<int>(rows.size())),
            have = static_cast<int>(std::min(then[0].seconds.size(), now[0].seconds.size()));
  if (have < needed)
    fmt::print(stderr, "profile: {} steps on either side; it takes {} to show one changed pass among {}\n", have, needed,
               rows.size());
  const auto over = std::count_if(
      rows.begin(), rows.end(), [&](const Comparison& c) { return gated && c.change == Change::slower && c.ratio > 1 + gate; });
  if (json) {
    Json document = to_json(rows, before, after);
    if (gated) document["gate"] = {{"threshold", gate}, {"passed", over == 0}};
    fmt::print("{}", to_text(document));
  } else {
    print_text(rows, before, after, all);
    if (gated) fmt::print("gate {:.4g}%: {}\n", 100 * gate, over == 0 ? "passed" : fmt::format("failed by {}", over));
  }
  return static_cast<int>(over == 0 ? ExitCode::done : ExitCode::verdict);
}

}  // namespace microtome
