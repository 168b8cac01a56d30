// Which cases of a bench have become slower: two results files, what their differences cost an epoch, and a gate.
#include "bench/results.h"
#include "engine/check.h"
#include "tools/cli/arguments.h"
#include "tools/cli/program.h"
#include "tools/statistics/timing_comparison.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace microtome {
namespace {

constexpr double epoch_images = 262'144;  // of PCam's training split
constexpr std::string_view total_prefix = "total/";
constexpr std::string_view every_batch = "/all";  // at a name's end: of an update, which knows no batch

struct Options {
  std::string before, after, gate;
  std::array<std::string, 2> floor;
  bool all = false, allow_different = false, json = false, csv = false;
};

/// The median of what a GPU's cases ran at; 0 for other devices.
double clock_mhz(const Results& results) {
  std::vector<double> clocks;
  for (const BenchCase& one : results.cases) {
    if (const auto clock = one.counters.find("sm_MHz"); clock != one.counters.end()) clocks.push_back(clock->second);
  }
  if (clocks.empty()) return 0;
  std::nth_element(clocks.begin(), clocks.begin() + static_cast<std::ptrdiff_t>(clocks.size() / 2), clocks.end());
  return clocks[clocks.size() / 2];
}

std::string clock_text(double mhz) {
  return mhz > 0 ? fmt::format("{:.0f} MHz", mhz) : "";
}

std::string listed(const std::set<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list.append(list.empty() ? "" : ", ").append(word);
  return list;
}

/// What may not differ silently. Of precisions and batches those count that the files have no case in common of.
struct Differences {
  struct One {
    std::string what, before, after;
  };
  std::vector<One> list;
  bool precision = false, batch = false;
  std::set<std::string> devices;  // as they stand in names, where they differ

  Differences(const Results& before, const Results& after) {
    for (const char* key : {"device", "device_description", "power_limit_watt"}) {
      const std::string &a = before.said(key), &b = after.said(key);
      if (a != b) list.push_back({key, a, b});
    }
    constexpr double alike = 1.03;
    const double a = clock_mhz(before), b = clock_mhz(after);
    if (a > b * alike || b > a * alike) list.push_back({"clocks", clock_text(a), clock_text(b)});
    const std::string &was = before.said("device"), &is = after.said("device");
    if (was != is) devices = {was.substr(0, was.find(':')), is.substr(0, is.find(':'))};
    precision = differ("precision", before, after, [](const BenchCase& one) { return one.precision; });
    batch =
        differ("batch", before, after, [](const BenchCase& one) { return one.batch > 0 ? fmt::format("{}", one.batch) : ""; });
  }

 private:
  template <class Of>
  bool differ(const char* what, const Results& before, const Results& after, const Of& of) {
    std::set<std::string> a, b, both;
    for (const BenchCase& one : before.cases) a.insert(of(one));
    for (const BenchCase& one : after.cases) b.insert(of(one));
    a.erase("");
    b.erase("");
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::inserter(both, both.end()));
    if (!both.empty() || (a.empty() && b.empty())) return false;
    list.push_back({what, listed(a), listed(b)});
    return true;
  }
};

Differences permitted(const Results& before, const Results& after, bool allow) {
  const Differences differences(before, after);
  if (allow || differences.list.empty()) return differences;
  Report report{.where = before.file.string() + " and " + after.file.string(),
                .next = "--allow-different, if that is what you want to see"};
  for (const auto& [what, a, b] : differences.list) {
    report.expected += fmt::format("{}{} {}", report.expected.empty() ? "" : "; ", what, a.empty() ? "unknown" : a);
    report.found += fmt::format("{}{} {}", report.found.empty() ? "" : "; ", what, b.empty() ? "unknown" : b);
  }
  fail(ExitCode::usage, "these results are not of the same thing", report);
}

/// A case's name without the segments in which the two files differ as a whole.
std::string key_of(const BenchCase& one, const Differences& differences) {
  std::string key = "/" + one.name + "/";
  const auto drop = [&](const std::string& segment) {
    if (const auto found = key.find("/" + segment + "/"); found != std::string::npos) key.erase(found, segment.size() + 1);
  };
  for (const std::string& device : differences.devices) drop(device);
  if (differences.precision) drop(one.precision);
  if (differences.batch && one.batch > 0) drop(fmt::format("n{}", one.batch));
  return key.substr(1, key.size() - 2);
}

struct Side {
  const Results& results;
  std::vector<Timings> timings;
  std::map<std::string, std::size_t> cases;  // by key
};

/// Where batches differ a call is that of one image.
Side side_of(const Results& results, const Differences& differences) {
  Side side{results};
  for (const BenchCase& one : results.cases) {
    const std::string key = key_of(one, differences);
    if (!side.cases.emplace(key, side.timings.size()).second)
      fail(ExitCode::usage, "several cases become the same",
           {.where = results.file.string(), .found = key, .next = "files of one device, precision and batch each"});
    const double images = differences.batch && one.batch > 0 ? one.batch : 1;
    Timings& timings = side.timings.emplace_back(Timings{key, one.seconds});
    for (double& s : timings.seconds) s /= images;
    const auto uses = one.counters.find("uses");
    if (uses != one.counters.end() && one.batch > 0) timings.calls = uses->second * epoch_images * images / one.batch;
  }
  return side;
}

/// Chains and whole networks are made of what other cases are, and deferral takes the place of others.
bool adds_up(const std::string& key) {
  return !key.starts_with("chain_") && !key.starts_with("network_") && !key.ends_with("/deferred") &&
         key.find("/deferred/") == std::string::npos;
}

/// A network's seconds an epoch, where the counters "uses:<net>" of `after` say what is its own; one sum for each device,
/// precision, batch and cache, a repetition each, of the cases that `before` has too.
void add_totals(Side& side, const Side& before, const Side& after) {
  std::map<std::string, Timings> totals;
  const auto add = [&](const std::string& name, const std::vector<double>& seconds, double calls) {
    Timings& total = totals.try_emplace(name, Timings{name, std::vector<double>(seconds.size()), 1}).first->second;
    total.seconds.resize(std::min(total.seconds.size(), seconds.size()));
    for (std::size_t r = 0; r < total.seconds.size(); ++r) total.seconds[r] += seconds[r] * calls;
  };
  std::set<int> batches;
  for (const BenchCase& one : after.results.cases) batches.insert(one.batch);
  struct Once {
    std::string name;
    std::vector<double> seconds;
  };
  std::vector<Once> once_a_step;
  for (const auto& [key, place] : side.cases) {
    const auto found = after.cases.find(key);
    if (found == after.cases.end() || !before.cases.contains(key) || !adds_up(key)) continue;
    const auto& counters = after.results.cases[found->second].counters;
    const double calls = after.timings[found->second].calls;
    const std::vector<double>& seconds = side.timings[place].seconds;
    const auto uses = counters.find("uses");
    if (uses == counters.end() || uses->second <= 0) continue;
    const bool is_update = key.ends_with(every_batch);
    if (calls == 0 && !is_update) continue;  // on a batch that no network has
    const std::size_t of_what = key.find('/', std::min(key.find('/'), key.size() - 1) + 1);
    for (auto use = counters.lower_bound("uses:"); use != counters.end() && use->first.starts_with("uses:"); ++use) {
      const std::string name =
          std::string(total_prefix) + use->first.substr(5) + (of_what < key.size() ? key.substr(of_what) : "");
      if (is_update) {
        once_a_step.push_back({name.substr(0, name.size() - every_batch.size()), seconds});
      } else {
        add(name, seconds, calls * use->second / uses->second);
      }
    }
  }
  for (const auto& [name, seconds] : once_a_step) {
    for (const int batch : batches) {
      const std::string total = fmt::format("{}/n{}", name, batch);
      if (totals.contains(total)) add(total, seconds, epoch_images / batch);
    }
  }
  for (auto& [name, total] : totals) side.timings.push_back(std::move(total));
}

struct RunComparison {
  std::vector<Comparison> cases, totals;
  NoiseFloor floor;
  std::optional<Gate> gate;
  double typical = 1;  // the median ratio

  int count(Change change) const {
    return static_cast<int>(std::count_if(cases.begin(), cases.end(), [=](const Comparison& c) { return c.change == change; }));
  }
};

std::size_t least_repetitions(const Results& results) {
  std::size_t least = results.cases.front().seconds.size();
  for (const BenchCase& one : results.cases) least = std::min(least, one.seconds.size());
  return least;
}

/// Slower, or not right any more.
Gate gate_of(std::span<const Comparison> comparisons, double share, const Results& before, const Results& after) {
  Gate gate = microtome::gate_of(comparisons, share);
  for (const std::string& name : after.failed)
    if (std::find(before.failed.begin(), before.failed.end(), name) == before.failed.end()) gate.failed_by.push_back(name);
  return gate;
}

RunComparison compare_files(const Options& options, std::optional<double> gate, const Results& before, const Results& after) {
  const Differences differences = permitted(before, after, options.allow_different);
  if (gate) {
    for (const Results* results : {&before, &after})
      require_enough_for_a_gate(least_repetitions(*results), results->file.string(), "bench with --benchmark_repetitions=10");
  }
  RunComparison compared;
  Side a = side_of(before, differences), b = side_of(after, differences);
  if (!options.floor[0].empty()) {
    const Results one = read_results(options.floor[0]), other = read_results(options.floor[1]);
    permitted(before, one, options.allow_different);
    permitted(one, other, options.allow_different);
    Side c = side_of(one, differences), d = side_of(other, differences);
    add_totals(c, a, b);
    add_totals(d, a, b);
    compared.floor = NoiseFloor(c.timings, d.timings);
  }
  add_totals(a, a, b);
  add_totals(b, a, b);
  constexpr double usually_relevant = 0.05, least_relevant = 0.01;
  const double relevant = gate ? std::max(*gate, least_relevant) : usually_relevant;
  std::vector<double> ratios;
  std::vector<Comparison> all = compare(a.timings, b.timings, compared.floor, relevant);
  if (gate) compared.gate = gate_of(all, *gate, before, after);
  for (Comparison& one : all) {
    const bool total = one.key.starts_with(total_prefix);
    if (!total && one.before > 0 && one.after > 0) ratios.push_back(one.ratio);
    (total ? compared.totals : compared.cases).push_back(std::move(one));
  }
  if (ratios.empty())
    fail(ExitCode::usage, "the two files have no case in common",
         {.where = before.file.string() + " and " + after.file.string(),
          .found = fmt::format("{} and {}", before.cases.front().name, after.cases.front().name)});
  std::nth_element(ratios.begin(), ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2), ratios.end());
  compared.typical = ratios[ratios.size() / 2];
  return compared;
}

std::string time_text(double seconds) {
  if (seconds == 0) return "-";
  if (seconds < 1e-3) return fmt::format("{:.4g} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.4g} ms", seconds * 1e3);
  return fmt::format("{:.4g} s", seconds);
}

std::string change_text(double ratio) {
  return std::isinf(ratio) ? "inf" : fmt::format("{:+.1f}%", 100 * (ratio - 1));
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

void print_row(const Comparison& c, std::size_t width) {
  const bool both = c.before > 0 && c.after > 0;
  const std::string name = c.key.starts_with(total_prefix) ? c.key.substr(total_prefix.size()) : c.key;
  fmt::print("{} {} {:>10} {:>10}", padded(std::string(name_of(c.change)), 10), padded(name, width), time_text(c.before),
             time_text(c.after));
  if (both)
    fmt::print(" {:>8} {:>18} {:>7} {:>9}", change_text(c.ratio), change_text(c.low) + " to " + change_text(c.high),
               fmt::format("{:.1f}%", 100 * c.floor), c.epoch_seconds == 0 ? "-" : fmt::format("{:+.4g}", c.epoch_seconds));
  fmt::print("\n");
}

void print_table(const std::string& title, const std::vector<Comparison>& rows, bool all) {
  std::size_t width = title.size();
  const auto shown = [&](const Comparison& c) { return all || c.change != Change::unchanged; };
  if (std::none_of(rows.begin(), rows.end(), shown)) return;
  for (const Comparison& c : rows) width = std::max(width, shown(c) ? c.key.size() : 0);
  fmt::print("\n{:<10} {} {:>10} {:>10} {:>8} {:>18} {:>7} {:>9}\n", "", padded(title, width), "before", "after", "change",
             "95% interval", "floor", "s/epoch");
  for (const Comparison& c : rows) {
    if (shown(c)) print_row(c, width);
  }
}

void print_text(const RunComparison& compared, const Results& before, const Results& after, bool all) {
  for (const Results* results : {&before, &after})
    fmt::print("{:<7} {}: {}, commit {}\n", results == &before ? "before" : "after", results->file.string(),
               results->said("device_description"), results->said("commit"));
  if (compared.floor.cases() > 0)
    fmt::print("floor   {:.2f}% for most, from {} cases of unchanged code\n", 100 * compared.floor.pooled(),
               compared.floor.cases());
  print_table("case", compared.cases, all);
  print_table("seconds an epoch", compared.totals, true);
  fmt::print("\n");
  for (const Change change :
       {Change::slower, Change::faster, Change::ambiguous, Change::unchanged, Change::appeared, Change::gone})
    fmt::print("{}{} {}", change == Change::slower ? "" : ", ", compared.count(change), name_of(change));
  fmt::print("; the median case changed by {}\n", change_text(compared.typical));
  if (!all && compared.count(Change::unchanged) > 0) fmt::print("--all lists the SAME too\n");
  if (compared.gate) fmt::print("{}\n", compared.gate->text());
}

nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

nlohmann::ordered_json to_json(const std::vector<Comparison>& rows) {
  auto list = nlohmann::ordered_json::array();
  for (const Comparison& c : rows) {
    nlohmann::ordered_json row{{"case", c.key}, {"class", name_of(c.change)}};
    if (c.before > 0) row["before_seconds"] = c.before;
    if (c.after > 0) row["after_seconds"] = c.after;
    if (c.before > 0 && c.after > 0) {
      row["change"] = c.ratio - 1;
      row["interval_95"] = {number(c.low - 1), number(c.high - 1)};
      row["floor"] = c.floor;
      if (c.epoch_seconds != 0) row["seconds_per_epoch"] = c.epoch_seconds;
    }
    list.push_back(std::move(row));
  }
  return list;
}

void print_json(const RunComparison& compared, const Results& before, const Results& after) {
  nlohmann::ordered_json json;
  for (const Results* results : {&before, &after})
    json[results == &before ? "before" : "after"] = {{"file", results->file.string()},
                                                     {"device", results->said("device")},
                                                     {"device_description", results->said("device_description")},
                                                     {"commit", results->said("commit")},
                                                     {"failed", results->failed}};
  if (compared.floor.cases() > 0) json["floor"] = {{"pooled", compared.floor.pooled()}, {"cases", compared.floor.cases()}};
  json["median_change"] = compared.typical - 1;
  json["cases"] = to_json(compared.cases);
  json["totals"] = to_json(compared.totals);
  if (compared.gate)
    json["gate"] = {{"threshold", compared.gate->share},
                    {"passed", compared.gate->passed()},
                    {"failed_by", compared.gate->failed_by},
                    {"undecided", compared.gate->undecided}};
  fmt::print("{}\n", json.dump(2));
}

/// As RFC 4180 wants it.
std::string csv_text(const std::string& text) {
  if (text.find_first_of(",\"\n") == text.npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

void print_csv(const RunComparison& compared) {
  fmt::print("class,case,before_s,after_s,change,low,high,floor,s_per_epoch\n");
  const auto cell = [](bool known, double value) {
    return known && std::isfinite(value) ? fmt::format(",{:.9g}", value) : ",";
  };
  for (const auto* rows : {&compared.cases, &compared.totals}) {
    for (const Comparison& c : *rows) {
      const bool both = c.before > 0 && c.after > 0;
      fmt::print("{},{}{}{}{}{}{}{}{}\n", name_of(c.change), csv_text(c.key), cell(c.before > 0, c.before),
                 cell(c.after > 0, c.after), cell(both, c.ratio - 1), cell(both, c.low - 1), cell(both, c.high - 1),
                 cell(both, c.floor), cell(both && c.epoch_seconds != 0, c.epoch_seconds));
    }
  }
}

void print_advice(const RunComparison& compared, const Results& before, const Results& after) {
  if (compared.floor.cases() == 0)
    fmt::print(stderr,
               "compare: without --floor what differs from one run to the next of the same code may count as a change\n");
  for (const Results* results : {&before, &after}) {
    const std::size_t repetitions = least_repetitions(*results);
    const int needed = repetitions_needed(static_cast<int>(results->cases.size()));
    if (repetitions < static_cast<std::size_t>(needed))
      fmt::print(stderr, "compare: {} has {} repetitions; it takes {} to show one changed case among {}\n",
                 results->file.string(), repetitions, needed, results->cases.size());
    for (const std::string& name : results->failed)
      fmt::print(stderr, "compare: in {} failed {}\n", results->file.string(), name);
  }
}

int compare_program(int argc, char** argv) {
  Options options;
  Arguments arguments(
      "compare", "Show which cases of a bench have become slower or faster, and what it costs an epoch.",
      "BEFORE.json AFTER.json [options]",
      {"compare before.json after.json", "compare before.json after.json --floor same1.json same2.json --gate 5%"});
  arguments.add_positional(
      {.name = "before", .placeholder = "BEFORE.json", .help = "what bench --benchmark_out wrote", .required = true},
      options.before);
  arguments.add_positional(
      {.name = "after", .placeholder = "AFTER.json", .help = "what it wrote of another commit", .required = true},
      options.after);
  arguments.add(
      {.name = "floor", .placeholder = "A1.json A2.json", .help = "two runs of one commit: what differs between them is noise"},
      options.floor);
  arguments.add(
      {.name = "gate",
       .placeholder = "P%",
       .help = "exit code 7 where a case or a network's total is SLOWER, by this share or more as far as its interval goes, or "
               "a case now fails"},
      options.gate);
  arguments.add_flag({.name = "allow-different", .help = "compare devices, clocks, precisions or batches that differ"},
                     options.allow_different);
  arguments.heading("Output");
  arguments.add_flag({.name = "all", .help = "list the cases that are the SAME too"}, options.all);
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, options.json);
  arguments.add_flag({.name = "csv", .help = "print a table as CSV on stdout"}, options.csv);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();
  if (options.json && options.csv) fail(ExitCode::usage, "--json and --csv exclude each other");

  const auto gate = arguments.given("gate") ? std::optional(share_of(options.gate)) : std::nullopt;
  const Results before = read_results(options.before), after = read_results(options.after);
  const RunComparison compared = compare_files(options, gate, before, after);
  print_advice(compared, before, after);
  if (options.json) {
    print_json(compared, before, after);
  } else if (options.csv) {
    print_csv(compared);
  } else {
    print_text(compared, before, after, options.all);
  }
  return static_cast<int>(compared.gate && !compared.gate->passed() ? ExitCode::verdict : ExitCode::done);
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("compare", [&] { return microtome::compare_program(argc, argv); });
}
