// Every op of all networks, each pass of each distinct problem, chains of them and whole networks, beside what the
// device can do at best.
//   bench --device cuda:0 --precision bf16 [--batch 32,256] [Google Benchmark's]
// Time is that of many instances recorded as one step and replayed, the median over --samples replays; cold cases run instances
// in turn on so much memory that none of it is found in a cache. Before it is timed a case is held against the reference.
// Results (--benchmark_out=FILE) are Google Benchmark's own JSON.
#include "bench/cases.h"
#include "bench/chains.h"
#include "bench/listing.h"
#include "bench/machine.h"
#include "bench/networks.h"
#include "bench/roofs.h"
#include "bench/runner.h"
#include "engine/check.h"
#include "kernels/backend.h"
#include "tools/cli/arguments.h"
#include "tools/cli/program.h"
#include "tools/cli/signals.h"
#include "tools/cli/terminal.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace microtome::bench {
namespace {

constexpr double listed_below = 0.8;  // of the copy rate, where nothing else is asked for

struct Options {
  std::string device = "auto", precision = "f32", batches = "32,256", sizes = "96,50", net;
  int large_mb = 512, samples = 20;
  double at_least = listed_below;
  bool judges = false, list = false, json = false, plans = false;
};

Arguments declare(Options& o) {
  Arguments arguments("bench", "Every op of all networks beside the device's roofs: times, FLOP/s, bytes/s, checked first.",
                      "[options] [--benchmark_…]",
                      {"bench --list", "bench --device cuda:0 --precision bf16 --benchmark_filter=conv_forward/resnet50:",
                       "bench --device cuda:0 --precision bf16 --benchmark_filter='/large|/cold' --benchmark_repetitions=5 "
                       "--benchmark_out=h200.json",
                       "bench --device cpu --batch 4 --benchmark_filter=^max_pool --samples 5",
                       "bench --device cuda:0 --precision bf16 --plans --batch 64 --benchmark_filter=/resnet50:"});
  arguments.add({.name = "device", .letter = 'd', .help = "auto, cpu, cuda:N or reference"}, o.device);
  arguments.add({.name = "precision", .letter = 'p', .help = "of activations and products"}, o.precision,
                {"f32", "tf32", "bf16"});
  arguments.add({.name = "batch", .letter = 'b', .placeholder = "N,N", .help = "batch sizes", .unit = "images"}, o.batches);
  arguments.add({.name = "size", .placeholder = "N,N", .help = "sides of the images", .unit = "pixels"}, o.sizes);
  arguments.add({.name = "net", .placeholder = "NAME", .help = "what one network has, under the names it has for all of them"},
                o.net);
  arguments.add({.name = "samples", .help = "replays of a case, of which the median counts"}, o.samples, {1, 1'000'000});
  arguments.add({.name = "large-mb",
                 .help = "of a large case's largest tensor, and of what cold cases run through: four times the largest cache",
                 .unit = "MB"},
                o.large_mb, {1, 2000});
  arguments.add(
      {.name = "at-least",
       .placeholder = "SHARE",
       .help = "exit code 7 where a large case moves its bytes at less than this share of the copy rate; without it those "
               "are listed"},
      o.at_least, {0.0, 10.0});
  arguments.heading("Instead of measuring");
  arguments.add_flag({.name = "list", .help = "count what there is to measure; needs no device"}, o.list);
  arguments.add_flag({.name = "plans", .help = "the algorithm, or engine, knobs and workspace, that each convolution gets"},
                     o.plans);
  arguments.heading("Output");
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, o.json);
  return arguments;
}

std::vector<int> numbers(const std::string& option, const std::string& text, int highest) {
  std::vector<int> values;
  for (const std::string& word : words_of(option, text)) {
    int value = 0;
    const char* const end = word.data() + word.size();
    const auto [next, error] = std::from_chars(word.data(), end, value);
    if (error != std::errc{} || next != end || value < 1 || value > highest)
      fail(ExitCode::usage, fmt::format("--{} takes whole numbers, commas between", option),
           {.expected = fmt::format("each from 1 to {}", highest), .found = word, .next = "bench --help"});
    values.push_back(value);
  }
  return values;
}

Precision precision_named(const std::string& name) {
  return name == "bf16" ? Precision::bf16 : name == "tf32" ? Precision::tf32 : Precision::f32;
}

int factor_bits(Precision precision) {
  return precision == Precision::bf16 ? 8 : precision == Precision::tf32 ? 11 : 24;
}

/// Keys of the results' context that `add_context` sets.
constexpr std::string_view own_context[] = {"microtome_schema",
                                            "device",
                                            "device_description",
                                            "versions",
                                            "compiler",
                                            "commit",
                                            "precision",
                                            "sizes",
                                            "roof_copy_bytes_per_second",
                                            "roof_resident_copy_bytes_per_second",
                                            "roof_product_flop_per_second",
                                            "gpu_uuid",
                                            "driver",
                                            "sm_mhz",
                                            "memory_mhz",
                                            "power_limit_watt",
                                            "temperature_celsius",
                                            "throttle_reasons"};

/// Google Benchmark's flags, as a call has them. Some that it does not understand end the program as if all were well.
class Flags {
 public:
  /// One iteration is --samples replays; how many iterations there are is Google Benchmark's own affair, if asked for.
  explicit Flags(char* program) : words_{program, "--benchmark_min_time=0"} {}

  int repetitions() const { return std::atoi(value("--benchmark_repetitions").value_or("1").c_str()); }

  static bool is_one(std::string_view word) { return word.starts_with("--benchmark_"); }

  void add(std::string word) { words_.push_back(std::move(word)); }

  /// The last one's; empty for a flag without a value.
  std::optional<std::string> value(std::string_view name) const {
    for (auto word = words_.rbegin(); word != words_.rend(); ++word) {
      const std::size_t equals = std::min(word->find('='), word->size());
      if (word->substr(0, equals) == name) return word->substr(std::min(equals + 1, word->size()));
    }
    return std::nullopt;
  }

  bool lists() const {
    const std::optional<std::string> said = value("--benchmark_list_tests");
    return said && *said != "false" && *said != "0" && *said != "no";
  }
  bool prints_json() const { return value("--benchmark_format") == "json"; }
  bool writes_json() const { return value("--benchmark_out") && value("--benchmark_out_format").value_or("json") == "json"; }

  void require_sound() const {
    for (const char* name : {"--benchmark_format", "--benchmark_out_format"}) {
      const std::optional<std::string> form = value(name);
      if (form && *form != "console" && *form != "json")  // in CSV all cases would need the same counters
        refuse(name, "console or json", *form);
    }
    if (const auto times = value("--benchmark_repetitions"); times && repetitions() < 1)
      refuse("--benchmark_repetitions", "1 or more", *times);
    if (const auto context = value("--benchmark_context"))
      for (const std::string& word : words_of("benchmark_context", *context)) {
        const std::string key = word.substr(0, word.find('='));
        if (std::ranges::find(own_context, key) != std::end(own_context))
          fail(ExitCode::usage, "--benchmark_context names what bench says itself", {.found = key, .next = "another name"});
      }
    if (const auto file = value("--benchmark_out"); file && file->empty()) refuse("--benchmark_out", "a file", "");
    if (const auto counters = value("--benchmark_perf_counters"))
      fail(ExitCode::machine, "bench reads no hardware counters",
           {.found = *counters, .next = "perf stat -e EVENT, on a GPU profile --print-ncu ROW"});
  }

  /// After everything is.
  void require_written() const {
    const std::optional<std::string> file = value("--benchmark_out");
    const auto cannot = [](const std::string& where) {
      fail(ExitCode::memory, "cannot write the results", {.where = where, .found = "the disk is full, or gone"});
    };
    if (!std::cout.flush()) cannot("standard output");
    if (!file) return;
    std::ifstream written(*file, std::ios::binary | std::ios::ate);
    char last = 0;
    for (auto at = written.tellg(); at > 0 && (last == 0 || last == '\n');) written.seekg(at -= 1).get(last);
    if (!written || (writes_json() ? last != '}' : last == 0)) cannot(*file);
  }

  /// Before anything is measured.
  void require_writable() const {
    const std::optional<std::string> file = value("--benchmark_out");
    if (file && !std::ofstream(*file, std::ios::app))
      fail(ExitCode::usage, "cannot write the results",
           {.where = *file, .found = std::strerror(errno), .next = "another --benchmark_out"});
  }

  /// False where it has said what it does not understand.
  bool hand_over() {
    // The repetitions of a case, one after another, would share what noise there is just then.
    if (repetitions() > 1 && !value(interleaving)) words_.push_back(std::string(interleaving) + "=true");
    std::vector<char*> words;
    for (std::string& word : words_) words.push_back(word.data());
    int left = static_cast<int>(words.size());
    benchmark::Initialize(&left, words.data());
    return !benchmark::ReportUnrecognizedArguments(left, words.data());
  }

 private:
  [[noreturn]] static void refuse(const std::string& name, const std::string& expected, const std::string& found) {
    fail(ExitCode::usage, fmt::format("unknown value of {}", name),
         {.expected = expected, .found = found, .next = "bench --help"});
  }

  static constexpr const char* interleaving = "--benchmark_enable_random_interleaving";
  std::vector<std::string> words_;
};

/// As Google Benchmark reads it.
class Filter {
 public:
  explicit Filter(const std::string& text) : excludes_(text.starts_with('-')) {
    try {
      if (!text.empty() && text != "all") regex_ = std::regex(excludes_ ? text.substr(1) : text);
    } catch (const std::regex_error&) {
      fail(ExitCode::usage, "--benchmark_filter is no regular expression", {.found = text});
    }
  }
  bool passes(const std::string& name) const { return std::regex_search(name, regex_) != excludes_; }

 private:
  bool excludes_;
  std::regex regex_{"."};
};

/// Whether a network has the case, at whatever size: "resnet50", "resnet50@50".
bool is_of(const Case& one, const std::string& net) {
  return net.empty() || std::any_of(one.uses.begin(), one.uses.end(),
                                    [&](const auto& use) { return use.first.substr(0, use.first.find('@')) == net; });
}

/// What one network has, and in a list its rows alone.
void keep(Problems& problems, const std::string& net, bool rows_too) {
  const auto foreign = [&](const Problem::Where& where) { return where.first != net; };
  std::erase_if(problems.all, [&](const Problem& problem) {
    return std::all_of(problem.uses.begin(), problem.uses.end(), [&](const auto& use) { return foreign(use.first); });
  });
  if (!rows_too) return;
  for (Problem& problem : problems.all) std::erase_if(problem.uses, [&](const auto& use) { return foreign(use.first); });
  std::erase_if(problems.too_small, foreign);
}

void add_context(const Device& device, const Options& options, const Roofs& roofs) {
  const auto add = [](const std::string& key, const std::string& value) {
    require(std::ranges::find(own_context, key) != std::end(own_context), "bench: ", key, " is no key of our own");
    benchmark::AddCustomContext(key, value);
  };
  add("microtome_schema", "1");
  add("device", device.name);
  add("device_description", device.description);
  add("versions", device.versions);
  add("compiler", __VERSION__);
  add("commit", std::string(commit()));
  add("precision", options.precision);
  add("sizes", options.sizes);
  add("roof_copy_bytes_per_second", fmt::format("{:.4g}", roofs.copy));
  add("roof_resident_copy_bytes_per_second", fmt::format("{:.4g}", roofs.resident_copy));
  add("roof_product_flop_per_second", fmt::format("{:.4g}", roofs.product));
  if (const auto gpu = gpu_state(device.name)) {
    add("gpu_uuid", gpu->uuid);
    add("driver", gpu->driver);
    add("sm_mhz", fmt::format("{}", gpu->sm_mhz));
    add("memory_mhz", fmt::format("{}", gpu->memory_mhz));
    add("power_limit_watt", fmt::format("{}", gpu->power_limit_watt));
    add("temperature_celsius", fmt::format("{}", gpu->temperature_celsius));
    add("throttle_reasons", gpu->throttle_reasons);
  }
}

int run(int argc, char** argv) {
  listen_to_signals();
  Options options;
  Arguments arguments = declare(options);
  Flags flags(argv[0]);
  std::vector<char*> ours{argv[0]};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!Flags::is_one(word)) {
      ours.push_back(argv[i]);
      continue;
    }
    // Google Benchmark itself takes no value behind a space.
    const bool separate = word.find('=') == std::string::npos && i + 1 < argc && argv[i + 1][0] != '-';
    flags.add(separate ? word + "=" + argv[++i] : word);
  }
  if (!arguments.parse(static_cast<int>(ours.size()), ours.data())) {
    fmt::print("\nGoogle Benchmark's\n");
    benchmark::PrintDefaultHelp();
    return 0;
  }
  options.judges = arguments.given("at-least");
  const std::vector<int> sizes = numbers("size", options.sizes, 4096), batches = numbers("batch", options.batches, 65536);
  flags.require_sound();
  if (!flags.hand_over()) return static_cast<int>(ExitCode::usage);

  Problems problems = enumerate(sizes);
  const std::string net(options.net.empty() ? "" : find_network(options.net).name);
  if (!net.empty()) keep(problems, net, options.list);
  if (options.list) {
    if (const std::string filter = benchmark::GetBenchmarkFilter(); !filter.empty())
      fail(ExitCode::usage, "--list counts the cases of every device and takes no filter",
           {.found = filter, .next = "bench --benchmark_list_tests --benchmark_filter=" + filter});
    fmt::print("{}", options.json ? json(problems) : table(problems));
    return 0;
  }
  const Precision precision = precision_named(options.precision);
  const std::unique_ptr<Backend> backend = make_backend(options.device, precision);
  const Filter filter(benchmark::GetBenchmarkFilter());
  const auto require_some = [](bool some, const char* name) {
    if (!some)
      fail(ExitCode::usage, "no case fits the filter",
           {.expected = fmt::format("a part of a name such as {}", name),
            .found = benchmark::GetBenchmarkFilter(),
            .next = "bench --benchmark_list_tests"});
  };
  if (options.plans) {
    const std::vector<Choice> found = choices(
        problems, batches, [&](const std::string& name) { return filter.passes(name); }, *backend);
    require_some(!found.empty(), "conv/resnet50:conv3_block2_2_conv/n64");
    fmt::print("{}", options.json ? json(found) : table(found));
    return 0;
  }

  const auto large_bytes = static_cast<std::size_t>(options.large_mb) * 1'000'000;
  const Setting setting{options.precision, factor_bits(precision), batches, large_bytes};
  std::vector<Case> cases = op_cases(problems, setting, *backend);
  for (const auto& more : {chain_cases(sizes, setting, *backend), network_cases(sizes, setting, *backend)})
    std::copy_if(more.begin(), more.end(), std::back_inserter(cases), [&](const Case& one) { return is_of(one, net); });
  const auto exists = [&](const Case& one) {
    try {
      return one.exists(*backend);
    } catch (const Error& error) {
      if (error.code() != ExitCode::memory) throw;
      return true;  // too large for this machine, which its run will say
    }
  };
  std::erase_if(cases, [&](const Case& one) { return !filter.passes(one.name) || !exists(one); });
  require_some(!cases.empty(), "conv_forward/resnet50:conv3_block2_2_conv/cuda/bf16/n64");
  if (flags.lists()) {
    auto names = nlohmann::json::array();
    for (const Case& one : cases) {
      names.push_back(one.name);
      if (!options.json) fmt::print("{}\n", one.name);
    }
    if (options.json) fmt::print("{}\n", names.dump(2));
    return 0;
  }
  flags.require_writable();
  const Roofs roofs = measure_roofs(*backend, large_bytes);
  const Device device = backend->device();
  add_context(device, options, roofs);

  const std::string what =
      fmt::format("{}, {}, {}; commit {}", device.description, device.versions, options.precision, commit());
  Terminal terminal(Verbosity::normal);
  begin_saving();
  const int code = run_cases(*backend, cases, roofs,
                             {.samples = options.samples,
                              .at_least = options.at_least,
                              .judges = options.judges,
                              .what = what,
                              .writes_json = flags.writes_json(),
                              .prints_json = options.json || flags.prints_json(),
                              .repetitions = flags.repetitions(),
                              .progress = [&](int done, int all) { terminal.progress("measuring", done, all, "repetitions"); },
                              .stop = [] { return stop_signal() != 0; }});
  flags.require_written();
  return stop_signal() != 0 ? 128 + stop_signal() : code;
}

}  // namespace
}  // namespace microtome::bench

int main(int argc, char** argv) {
  return microtome::run_program("bench", [&] { return microtome::bench::run(argc, argv); });
}
