#include "bench/results.h"

#include "bench/case_name.h"
#include "engine/check.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>

namespace microtome {
namespace {

using Json = nlohmann::json;

std::vector<std::string_view> segments_of(std::string_view name) {
  std::vector<std::string_view> segments;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    segments.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return segments;
}

/// Without what Google Benchmark appends of how it measured.
std::string plain_name(std::string_view name) {
  std::string plain;
  for (const std::string_view segment : segments_of(name)) {
    const std::string_view key = segment.substr(0, segment.find(':'));
    if (key == "manual_time" || key == "real_time" || key == "process_time") continue;
    if (segment.size() > key.size() &&
        (key == "iterations" || key == "repeats" || key == "min_time" || key == "min_warmup_time" || key == "threads"))
      continue;
    plain.append(plain.empty() ? "" : "/").append(segment);
  }
  return plain;
}

BenchCase named_case(const std::string& name) {
  BenchCase one{.name = name};
  if (const auto parts = bench::case_name(name)) one.precision = parts->precision, one.batch = parts->images();
  return one;
}

double seconds_of(const Json& entry, const std::string& where) {
  const double time = entry.at("real_time").get<double>();
  const std::string unit = entry.value("time_unit", "ns");
  for (const auto& [known, seconds] :
       {std::pair("ns", 1e-9), std::pair("us", 1e-6), std::pair("ms", 1e-3), std::pair("s", 1.0)})
    if (unit == known) return time * seconds;
  fail(ExitCode::data, "a time is of an unknown unit", {.where = where, .expected = "ns, us, ms or s", .found = unit});
}

constexpr std::string_view not_counters[] = {
    "family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads", "iterations", "real_time",
    "cpu_time"};

Json parse_file(const std::filesystem::path& file) {
  if (std::filesystem::is_directory(file))
    fail(ExitCode::data, "cannot read the results", {.where = file.string(), .found = "a folder"});
  std::ifstream stream(file);
  if (!stream) fail(ExitCode::data, "cannot read the results", {.where = file.string(), .found = std::strerror(errno)});
  try {
    return Json::parse(stream);
  } catch (const Json::exception& error) {
    fail(ExitCode::data, "the results are not JSON", {.where = file.string(), .found = error.what()});
  }
}

void read(const Json& json, Results& results) {
  for (const auto& [key, value] : json.at("context").items())
    if (value.is_primitive()) results.context[key] = value.is_string() ? value.get<std::string>() : value.dump();
  if (results.said("microtome_schema") != results_schema) {
    const std::string& found = results.said("microtome_schema");
    fail(ExitCode::data, "these results are of another schema",
         {.where = results.file.string() + ", context, microtome_schema",
          .expected = std::string(results_schema),
          .found = found.empty() ? "none" : found,
          .next = "measure again with this version's build/bench/bench"});
  }
  std::map<std::string, std::size_t> places;
  for (const Json& entry : json.at("benchmarks")) {
    if (entry.value("run_type", "iteration") != "iteration") continue;
    const std::string name = plain_name(entry.at("name").get<std::string>());
    if (entry.value("error_occurred", false)) {
      if (std::find(results.failed.begin(), results.failed.end(), name) == results.failed.end()) results.failed.push_back(name);
      continue;
    }
    const auto [place, fresh] = places.try_emplace(name, results.cases.size());
    if (fresh) results.cases.push_back(named_case(name));
    BenchCase& one = results.cases[place->second];
    one.seconds.push_back(seconds_of(entry, results.file.string() + ", " + name));
    if (!(one.seconds.back() > 0) || !std::isfinite(one.seconds.back()))
      fail(ExitCode::data, "a time is not positive",
           {.where = results.file.string() + ", " + name, .found = fmt::format("{} s", one.seconds.back())});
    for (const auto& [key, value] : entry.items()) {
      const bool counts = std::find(std::begin(not_counters), std::end(not_counters), key) == std::end(not_counters);
      if (counts && value.is_number()) one.counters[key] = value.get<double>();
    }
  }
}

}  // namespace

const std::string& Results::said(std::string_view key) const {
  static const std::string nothing;
  const auto found = context.find(key);
  return found == context.end() ? nothing : found->second;
}

Results read_results(const std::filesystem::path& file) {
  Results results{.file = file};
  const Json json = parse_file(file);
  try {
    read(json, results);
  } catch (const Json::exception& error) {
    fail(ExitCode::data, "these are no results of a bench",
         {.where = file.string(), .expected = "what --benchmark_out writes as JSON", .found = error.what()});
  }
  const auto repeated = [](const BenchCase& one) { return one.seconds.size() > 1; };
  if (std::none_of(results.cases.begin(), results.cases.end(), repeated))
    fail(ExitCode::data, results.cases.empty() ? "there are no measurements" : "the measurements were not repeated",
         {.where = file.string(),
          .expected = "several repetitions of a case, not their mean alone",
          .found = fmt::format("{} cases once, {} that failed", results.cases.size(), results.failed.size()),
          .next = "build/bench/bench --benchmark_repetitions=10 --benchmark_out=FILE"});
  return results;
}

}  // namespace microtome
