#include "tools/profile/forecast.h"

#include "bench/estimate.h"
#include "engine/check.h"
#include "engine/model.h"
#include "kernels/planning_backend.h"
#include "tools/cli/arguments.h"
#include "tools/cli/json.h"
#include "tools/cli/terminal.h"
#include "tools/options/common.h"
#include "tools/profile/measured_step.h"
#include "tools/study/published_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <string>

namespace microtome {
namespace {

// The K80 carries two GPUs, of which a process uses one: its figures are of one.
constexpr Datasheet all_datasheets[] = {
    {"K80", 2014, 4.37, 0, 0, 240},       {"P100", 2016, 9.3, 0, 0, 732},         {"V100", 2017, 15.7, 0, 0, 900},
    {"A100", 2020, 19.5, 156, 312, 2039}, {"H100", 2022, 67, 494.7, 989.4, 3350}, {"H200", 2024, 67, 494.7, 989.4, 4800},
    {"B200", 2024, 80, 1100, 2250, 8000},
};

Precision precision_named(std::string_view name) {
  return name == "tf32" ? Precision::tf32 : name == "bf16" ? Precision::bf16 : Precision::f32;
}

/// What the study's framework computed in: float32, on Ampere with tensor cores unless asked not to.
Precision of_the_study(const Datasheet& device) {
  return device.tf32 > 0 ? Precision::tf32 : Precision::f32;
}

struct ForecastSettings {
  std::string net, precision = "f32", plan = "applied";
  std::string bench, measured;
  int batch_size = 32, images = paper_epoch_images, size = 96;
  bool json = false;
};

Arguments declare(ForecastSettings& s) {
  Arguments arguments(
      "profile forecast", "How long an epoch takes at least, by GPU datasheets, beside what the study measured.", "[options]",
      {"profile forecast", "profile forecast --net resnet50 --precision bf16 --plan deferred --batch-size 256"});
  arguments.add({.name = "net", .placeholder = "NAME", .help = "one network; without it all of them"}, s.net);
  arguments.add({.name = "precision", .help = "of activations and products"}, s.precision, {"f32", "tf32", "bf16"});
  arguments.add({.name = "plan", .help = "batch-norms applied in passes of their own, or by what reads them"}, s.plan,
                {"applied", "deferred"});
  arguments.add({.name = "batch-size", .letter = 'b', .help = "of a step", .unit = "images"}, s.batch_size, {1, 65536});
  arguments.add({.name = "images", .help = "in an epoch", .unit = "images"}, s.images, {1, 100'000'000});
  arguments.add({.name = "size", .help = "side of an image", .unit = "pixels"}, s.size, {8, 1024});
  arguments.add({.name = "bench",
                 .placeholder = "FILE",
                 .help = "results of `bench` instead of datasheets: each op of the network as often as a step has it"},
                s.bench);
  arguments.add({.name = "measured",
                 .placeholder = "DIR",
                 .help = "with --bench: a profile's folder, or a run's, of one network on the same device, to compare"},
                s.measured);
  arguments.add_flag({.name = "json", .help = "one JSON document instead of tables"}, s.json);
  return arguments;
}

/// A network, or one with a frozen base where the study has times of that.
struct Subject {
  const Network* network;
  bool frozen_base;

  std::string name() const { return frozen_base ? std::string(network->name) + ", transfer" : std::string(network->name); }
};

std::vector<Subject> subjects(const ForecastSettings& s) {
  std::vector<Subject> all;
  for (const Network& network : networks()) {
    if (!s.net.empty() && find_network(s.net).name != network.name) continue;
    try {
      network.build(s.size);
    } catch (const Error&) {
      if (!s.net.empty()) throw;
      continue;  // too small an image for it
    }
    all.push_back({&network, false});
    if (study_seconds(network.name, true, "A100")) all.push_back({&network, true});
  }
  return all;
}

std::string cell(std::optional<double> seconds) {
  if (!seconds) return "-";
  return *seconds < 9.95 ? fmt::format("{:.2f}", *seconds) : fmt::format("{:.1f}", *seconds);
}

[[noreturn]] void fail_unbenched(const ForecastSettings& s, const StepEstimate& step) {
  fail(ExitCode::data,
       fmt::format("the results have nothing of {} at {}x{} in batches of {}", s.net, s.size, s.size, s.batch_size),
       {.where = s.bench,
        .expected = step.missing.empty() ? "" : fmt::format("a case {}", step.missing.front()),
        .next = fmt::format("bench --net {} --size {} --batch {} --benchmark_repetitions=5 --benchmark_out=ANOTHER.json", s.net,
                            s.size, s.batch_size)});
}

/// Names of cases for the one network that was asked for, else how many.
std::string missing_text(const StepEstimate& step, const std::string& net, bool by_name) {
  constexpr std::size_t shown = 10;
  const std::size_t names = by_name ? std::min(step.missing.size(), shown) : 0;
  std::string text;
  for (std::size_t i = 0; i < names; ++i) text += fmt::format("  {}\n", step.missing[i]);
  const std::size_t left = step.missing.size() - names;
  return left == 0 ? text : text + fmt::format("  {}{} of {}\n", names > 0 ? "and " : "", left, net);
}

/// From a results file, beside what was measured.
int forecast_benched(ForecastSettings s, const Arguments& arguments) {
  const Results results = read_results(s.bench);
  if (arguments.given("plan"))
    fail(ExitCode::usage, "--plan is of datasheets: what bench measures are batch-norms that are applied",
         {.next = "leave out --plan or --bench"});
  const auto require_benched = [&](const std::string& precision, const std::string& where) {
    if (results.said("precision") != precision)
      fail(ExitCode::usage, "the results are of another precision",
           {.where = where, .expected = results.said("precision"), .found = precision});
  };
  if (arguments.given("precision")) require_benched(s.precision, s.bench);
  std::optional<MeasuredStep> measured;
  if (!s.measured.empty()) {
    measured = measured_step(s.measured);
    const auto require_same = [&](std::string_view option, auto& ours, const auto& theirs) {
      if (arguments.given(option) && ours != theirs)
        fail(ExitCode::usage, fmt::format("--{} is not what was measured", option),
             {.where = s.measured, .expected = fmt::format("{}", theirs), .found = fmt::format("{}", ours)});
      ours = theirs;
    };
    require_same("net", s.net, measured->net);
    require_same("batch-size", s.batch_size, measured->batch);
    require_same("precision", s.precision, measured->precision);
    if (measured->side > 0) {
      require_same("size", s.size, measured->side);
    } else if (!arguments.given("size")) {
      fail(ExitCode::data, "the run does not say the size of its images",
           {.where = s.measured, .expected = "image in result.json", .found = "none", .next = "name it: --size PIXELS"});
    }
    require_benched(measured->precision, s.measured);
    if (measured->mode != "full")
      fail(ExitCode::usage, "a step that trains the head alone is not what is forecast",
           {.where = s.measured, .expected = "--mode full", .found = "--mode " + measured->mode});
    if (results.said("device") != measured->device)
      fail(ExitCode::usage, "the bench and the measurement are of different devices",
           {.where = s.bench, .expected = measured->device, .found = results.said("device")});
  }
  const double steps = static_cast<double>(s.images) / s.batch_size;
  Json document = {{"schema", "microtome.forecast.1"}, {"bench", s.bench},   {"device", results.said("device_description")},
                   {"batch_size", s.batch_size},       {"images", s.images}, {"size", s.size},
                   {"networks", Json::array()}};
  std::string text = fmt::format(
      "{}; batch {}, {}x{}, {} images an epoch; batch-norms applied, one op after another\n\n"
      "{:<20}{:>12}{:>12}{:>12}{:>9}{:>18}\n",
      results.said("device_description"), s.batch_size, s.size, s.size, with_separators(s.images), "", "step, ms", "epoch, s",
      "measured, s", "error", "pieces benchmarked");
  std::string missing;
  for (const Subject& subject : subjects(s)) {
    if (subject.frozen_base) continue;
    const std::string name(subject.network->name);
    const StepEstimate step = estimate_step(results, name, s.size, s.batch_size);
    if (step.measured == 0) {
      if (!s.net.empty()) fail_unbenched(s, step);
      continue;
    }
    // A sum of some pieces foretells nothing.
    const auto if_whole = [&](double value) { return step.whole() ? Json(value) : Json(nullptr); };
    const auto text_if_whole = [&](const std::string& value) { return step.whole() ? value : "-"; };
    Json json = {
        {"net", name},           {"step_seconds", if_whole(step.seconds)}, {"epoch_seconds", if_whole(step.seconds * steps)},
        {"pieces", step.pieces}, {"pieces_benched", step.measured},        {"missing", step.missing}};
    std::string beside = fmt::format("{:>12}{:>9}", "", "");
    if (measured) {
      const double error = step.seconds / measured->seconds - 1;
      beside = fmt::format("{:>12.2f}{:>9}", measured->seconds * steps, text_if_whole(fmt::format("{:+.1f}%", 100 * error)));
      json["measured_step_seconds"] = measured->seconds;
      json["error"] = if_whole(error);
    }
    text += fmt::format("{:<20}{:>12}{:>12}{}{:>18}\n", name, text_if_whole(fmt::format("{:.3f}", step.seconds * 1e3)),
                        text_if_whole(fmt::format("{:.2f}", step.seconds * steps)), beside,
                        fmt::format("{} of {}", step.measured, step.pieces));
    if (!step.whole()) missing += missing_text(step, name, !s.net.empty());
    document["networks"].push_back(std::move(json));
  }
  if (document["networks"].empty())
    fail(ExitCode::data, "the results have none of the networks at this size and batch", {.where = s.bench});
  fmt::print("{}", s.json ? to_text(document) : missing.empty() ? text : text + "\nnot in the results:\n" + missing);
  return 0;
}

}  // namespace

double Datasheet::tflop_per_second(Precision precision) const {
  return precision == Precision::bf16 ? bf16 : precision == Precision::tf32 ? tf32 : f32;
}

std::span<const Datasheet> datasheets() {
  return all_datasheets;
}

std::vector<Cost> step_costs(const Network& network, Extent image, bool frozen_base, int batch, Precision precision,
                             bool defers) {
  const auto backend = make_planning_backend(precision == Precision::bf16 ? DType::bf16 : DType::f32, defers);
  Graph graph = network.build(image);
  if (frozen_base) graph.freeze_base();
  Model model(std::move(graph), *backend);
  const Model::Request request{Mode::train, batch, batch};
  model.prepare({&request, 1});
  std::vector<Cost> step;
  for (const ScopedCost& call : model.program(Mode::train, batch).step_costs()) step.push_back(call.cost);
  return step;
}

std::optional<double> bound_seconds(std::span<const Cost> step, const Datasheet& device, Precision precision) {
  const double flop_per_second = device.tflop_per_second(precision) * 1e12, bytes_per_second = device.gb_per_second * 1e9;
  if (flop_per_second == 0) return std::nullopt;
  double seconds = 0;
  for (const Cost& call : step) seconds += std::max(call.flop / flop_per_second, call.bytes / bytes_per_second);
  return seconds;
}

int forecast(int argc, const char* const* argv) {
  ForecastSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  if (!s.measured.empty() && s.bench.empty())
    fail(ExitCode::usage, "--measured is to be compared with --bench",
         {.next = "profile forecast --bench FILE --measured DIR"});
  if (!s.bench.empty()) return forecast_benched(s, arguments);
  const Precision precision = precision_named(s.precision);
  const bool defers = s.plan == "deferred";
  const double steps = static_cast<double>(s.images) / s.batch_size;

  Json document = {{"schema", "microtome.forecast.1"}, {"precision", s.precision}, {"plan", s.plan},
                   {"batch_size", s.batch_size},       {"images", s.images},       {"size", s.size},
                   {"datasheets", Json::array()},      {"networks", Json::array()}};
  std::string text = fmt::format(
      "Seconds an epoch of {} images of {}x{} takes at least: batch {}, {}, batch-norms {}. Each pass of each row at the\n"
      "datasheet's FLOP/s or bytes/s, whichever takes longer; no launches, no waiting, nothing kept in a cache.\n\n{:<26}",
      with_separators(s.images), s.size, s.size, s.batch_size, s.precision, s.plan, "");
  for (const Datasheet& device : datasheets()) {
    text += fmt::format("{:>9}", device.gpu);
    document["datasheets"].push_back({{"gpu", device.gpu},
                                      {"year", device.year},
                                      {"f32_tflop_per_second", device.f32},
                                      {"tf32_tflop_per_second", device.tf32},
                                      {"bf16_tflop_per_second", device.bf16},
                                      {"gb_per_second", device.gb_per_second}});
  }
  text += "\n";
  for (const auto& [heading, figure] : {std::pair("TFLOP/s", 0), std::pair("GB/s", 1)}) {
    text += fmt::format("{:<26}", heading);
    for (const Datasheet& device : datasheets()) {
      const double value = figure == 0 ? device.tflop_per_second(precision) : device.gb_per_second;
      text += fmt::format("{:>9}", value > 0 ? fmt::format("{:g}", value) : "-");
    }
    text += "\n";
  }
  text += "\n";

  std::string study;
  for (const Subject& subject : subjects(s)) {
    const std::vector<Cost> step = step_costs(*subject.network, s.size, subject.frozen_base, s.batch_size, precision, defers);
    // The study's own: batch 32, float32, nothing deferred.
    const bool in_study = study_seconds(subject.network->name, subject.frozen_base, "A100").has_value();
    std::vector<Cost> theirs;
    if (in_study) theirs = step_costs(*subject.network, 96, subject.frozen_base, 32, Precision::f32, false);
    const Cost total = std::accumulate(step.begin(), step.end(), Cost{}, [](Cost sum, const Cost& c) { return sum += c; });
    Json json = {{"net", subject.network->name},
                 {"mode", subject.frozen_base ? "transfer" : "full"},
                 {"step_flop", total.flop},
                 {"step_bytes", total.bytes},
                 {"epoch_seconds", Json::object()}};
    text += fmt::format("{:<26}", subject.name());
    if (in_study) study += fmt::format("{:<26}", subject.name());
    for (const Datasheet& device : datasheets()) {
      std::optional<double> seconds = bound_seconds(step, device, precision);
      if (seconds) *seconds *= steps;
      text += fmt::format("{:>9}", cell(seconds));
      json["epoch_seconds"][std::string(device.gpu)] = seconds ? Json(*seconds) : Json(nullptr);
      const auto measured = study_seconds(subject.network->name, subject.frozen_base, device.gpu);
      if (!measured) continue;
      const double bound = *bound_seconds(theirs, device, of_the_study(device)) * paper_epoch_images / 32;
      study += fmt::format("{:>18}", fmt::format("{:g} = {:.1f} x {}", *measured, *measured / bound, cell(bound)));
      json["study"][std::string(device.gpu)] = {{"seconds", *measured}, {"bound_seconds", bound}};
    }
    text += "\n";
    if (in_study) study += "\n";
    document["networks"].push_back(std::move(json));
  }
  if (s.json) {
    fmt::print("{}", to_text(document));
    return 0;
  }
  fmt::print("{}", text);
  if (!study.empty()) {
    fmt::print(
        "\nWhat the study measured [Bonnet2021, Table 2]: seconds = so many times the bound of its own setting (96x96, batch "
        "32,\n"
        "float32, on the A100 TF32, nothing deferred)\n\n{:<26}{:>18}{:>18}{:>18}{:>18}\n{}",
        "", "K80", "P100", "V100", "A100", study);
  }
  return 0;
}

}  // namespace microtome
