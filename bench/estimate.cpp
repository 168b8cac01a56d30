#include "bench/estimate.h"

#include "bench/case_name.h"
#include "bench/problems.h"
#include "engine/check.h"
#include "engine/median.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>

namespace microtome {
namespace {

constexpr int smallest_image = 8, largest_image = 4096;

/// Problems have the names that they have among all sizes that were benchmarked together.
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

}  // namespace

StepEstimate estimate_step(const Results& results, std::string_view net, int side, int batch) {
  std::map<std::string, double> seconds;
  for (const BenchCase& one : results.cases) seconds.emplace(one.name, median(one.seconds));
  const bench::CaseName of_file = bench::case_name(results.cases.front().name).value_or(bench::CaseName{});

  StepEstimate step;
  for (const bench::Problem& problem : bench::enumerate(sizes_of(results)).all) {
    const auto uses = problem.uses.find({std::string(net), side});
    if (uses == problem.uses.end() || problem.deferred) continue;
    const auto name = [&](const std::string& pass) {
      const std::string images = bench::is_update(problem) ? "all" : bench::batch_name(batch);
      return bench::case_name({problem.op + "_" + pass, problem.label, of_file.device, of_file.precision, images});
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

}  // namespace microtome
