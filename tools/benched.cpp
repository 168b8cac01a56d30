#include "tools/benched.h"

#include "bench/problems.h"
#include "engine/check.h"
#include "tools/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

namespace microtome {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// "cuda/bf16" of "conv_forward/resnet50:conv1_conv/cuda/bf16/n32".
std::string machine_of(const std::string& name) {
  const std::size_t label = name.find('/') + 1, device = name.find('/', label) + 1, precision = name.find('/', device) + 1;
  return name.substr(device, name.find('/', precision) - device);
}

/// Problems have the names that they have among all sizes that were benched together.
std::vector<int> sizes_of(const Results& results) {
  const std::string& text = results.said("sizes");
  std::vector<int> sizes;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    int size = 0;
    const char* const end = word.data() + word.size();
    if (const auto [rest, error] = std::from_chars(word.data(), end, size); error != std::errc{} || rest != end || size < 1)
      fail(ExitCode::data, "the results do not say which images they are of",
           {.where = results.file.string() + ", context, sizes", .expected = "numbers, as in 96,50", .found = text});
    sizes.push_back(size);
  }
  return sizes;
}

}  // namespace

BenchedStep benched_step(const Results& results, std::string_view net, int side, int batch) {
  std::map<std::string, double> seconds;
  for (const BenchCase& one : results.cases) seconds.emplace(one.name, median(one.seconds));
  const std::string machine = machine_of(results.cases.front().name);

  BenchedStep step;
  for (const bench::Problem& problem : bench::enumerate(sizes_of(results)).all) {
    const auto uses = problem.uses.find({std::string(net), side});
    if (uses == problem.uses.end() || problem.deferred) continue;
    const auto name = [&](const std::string& pass) {
      const std::string images = problem.op == "adam" ? "all" : fmt::format("n{}", batch);
      return fmt::format("{}_{}/{}/{}/{}", problem.op, pass, problem.label, machine, images);
    };
    std::vector<std::string> passes = bench::passes_of(problem);
    if (problem.op == "depthwise_conv") {  // both gradients at once, or one by one: never all three
      const bool at_once = seconds.contains(name("backward"));
      std::erase_if(passes,
                    [&](const std::string& pass) { return pass == "backward" ? !at_once : at_once && pass != "forward"; });
    }
    for (const std::string& pass : passes) {
      const auto found = seconds.find(name(pass));
      step.pieces += uses->second;
      if (found == seconds.end()) {
        step.missing.push_back(name(pass));
      } else {
        step.measured += uses->second;
        step.seconds += uses->second * found->second;
      }
    }
  }
  if (step.measured == 0)
    fail(ExitCode::data, fmt::format("the results have nothing of {} at {}x{} in batches of {}", net, side, side, batch),
         {.where = results.file.string(),
          .expected = step.missing.empty() ? "" : fmt::format("a case {}", step.missing.front()),
          .next = fmt::format("bench --net {} --size {} --batch {} --benchmark_repetitions=5 --benchmark_out={}", net, side,
                              batch, results.file.filename().string())});
  return step;
}

MeasuredStep measured_step(const std::filesystem::path& folder) {
  const auto read = [](const std::filesystem::path& file) {
    std::ifstream in(file);
    return Json::parse(in, nullptr, false);
  };
  try {
    if (const Json profile = read(folder / "profile.json"); !profile.is_discarded()) {
      const Json& run = profile.at("run");
      return {.net = run.at("net"),
              .mode = run.at("mode"),
              .device = profile.at("device").at("name"),
              .precision = run.at("precision"),
              .side = run.at("image").at(0),
              .batch = run.at("batch_size"),
              .seconds = profile.at("distortion").at("untraced_ns_per_step").get<double>() * 1e-9};
    }
    if (const Json run = read(folder / "result.json"); !run.is_discarded() && run.at("seconds_per_epoch") > 0) {
      const int batch = run.at("batch_size");
      const double steps = std::ceil(run.at("train_images").get<double>() / batch);
      return {.net = run.at("net"),
              .mode = run.at("mode"),
              .device = run.at("device"),
              .precision = run.at("precision"),
              .side = 0,
              .batch = batch,
              .seconds = run.at("seconds_per_epoch").get<double>() / steps};
    }
  } catch (const Json::exception&) {
  }
  fail(ExitCode::data, "this is neither a profile's folder nor a run's",
       {.where = folder.string(), .expected = "profile.json, or result.json of a run of one epoch or more"});
}

}  // namespace microtome
