#include "tools/benched.h"

#include "bench/problems.h"
#include "engine/check.h"
#include "tools/profile_tables.h"
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

constexpr int smallest_image = 8, largest_image = 4096;

/// Problems have the names that they have among all sizes that were benched together.
std::vector<int> sizes_of(const Results& results) {
  const std::string& text = results.said("sizes");
  const auto refuse = [&] {
    fail(ExitCode::data, "the results do not say which images they are of",
         {.where = results.file.string() + ", context, sizes",
          .expected = fmt::format("numbers from {} to {}, as in 96,50", smallest_image, largest_image),
          .found = text.empty() ? "none" : text});
  };
  std::vector<int> sizes;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    int size = 0;
    const char* const end = word.data() + word.size();
    const auto [rest, error] = std::from_chars(word.data(), end, size);
    if (error != std::errc{} || rest != end || size < smallest_image || size > largest_image) refuse();
    sizes.push_back(size);
  }
  if (sizes.empty()) refuse();
  return sizes;
}

/// A whole number as our programs write it.
int whole_number(const Json& json, const std::filesystem::path& file, const std::string& what, int lowest, int highest) {
  if (!json.is_number_integer() || json < lowest || json > highest)
    fail(ExitCode::data, "what was measured is damaged",
         {.where = fmt::format("{}, {}", file.string(), what),
          .expected = fmt::format("a whole number from {} to {}", lowest, highest),
          .found = json.dump()});
  return json;
}

double time_of(const Json& json, const std::filesystem::path& file, const std::string& what, double longest) {
  if (!json.is_number() || !(json.get<double>() > 0) || json.get<double>() > longest)
    fail(ExitCode::data, "what was measured is damaged",
         {.where = fmt::format("{}, {}", file.string(), what),
          .expected = fmt::format("more than 0, at most {:g}", longest),
          .found = json.dump()});
  return json;
}

/// Of an image's height and width.
int side_of(const Json& image, const std::filesystem::path& file) {
  return whole_number(image.at(0), file, "image", smallest_image, largest_image);
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
  return step;
}

MeasuredStep measured_step(const std::filesystem::path& folder) {
  const auto read = [](const std::filesystem::path& file) {
    std::ifstream in(file);
    return Json::parse(in, nullptr, false);
  };
  constexpr int most_images = 1'000'000'000, largest_batch = 65536;
  constexpr double longest_epoch = 1e9, longest_step_ns = 1e15;
  try {
    const std::filesystem::path profiled = folder / "profile.json", trained = folder / "result.json";
    if (const Json profile = read(profiled); !profile.is_discarded()) {
      if (const Json& schema = profile.at("schema"); schema != profile_schema)
        fail(ExitCode::data, "the profile is of another schema",
             {.where = profiled.string(),
              .expected = std::string(profile_schema),
              .found = schema.dump(),
              .next = "profile again with this version"});
      const Json &run = profile.at("run"), &step_ns = profile.at("distortion").at("untraced_ns_per_step");
      return {.net = run.at("net"),
              .mode = run.at("mode"),
              .device = profile.at("device").at("name"),
              .precision = run.at("precision"),
              .side = side_of(run.at("image"), profiled),
              .batch = whole_number(run.at("batch_size"), profiled, "batch_size", 1, largest_batch),
              .seconds = time_of(step_ns, profiled, "untraced_ns_per_step", longest_step_ns) * 1e-9};
    }
    if (const Json run = read(trained); !run.is_discarded() && run.at("seconds_per_epoch") != 0) {
      const int batch = whole_number(run.at("batch_size"), trained, "batch_size", 1, largest_batch);
      const double images = whole_number(run.at("train_images"), trained, "train_images", 1, most_images);
      return {.net = run.at("net"),
              .mode = run.at("mode"),
              .device = run.at("device"),
              .precision = run.at("precision"),
              .side = run.contains("image") ? side_of(run["image"], trained) : 0,
              .batch = batch,
              .seconds = time_of(run.at("seconds_per_epoch"), trained, "seconds_per_epoch", longest_epoch) /
                         std::ceil(images / batch)};
    }
  } catch (const Json::exception&) {
  }
  fail(ExitCode::data, "this is neither a profile's folder nor a run's",
       {.where = folder.string(), .expected = "profile.json, or result.json of a run of one epoch or more"});
}

}  // namespace microtome
