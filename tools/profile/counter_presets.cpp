#include "tools/profile/counter_presets.h"

#include "engine/check.h"
#include "engine/nearest.h"
#include "tools/cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>

namespace microtome {
namespace {

const Counter known_counters[] = {
    {"dram", "dram__bytes.sum", "MB", 1e-6},  // read from and written to the device's memory
    {"l2", "lts__t_bytes.sum", "MB", 1e-6},   // asked of the second level cache
    {"tensor", "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed", "%"},
    {"sm", "sm__throughput.avg.pct_of_peak_sustained_elapsed", "%"},
    {"occupancy", "sm__warps_active.avg.pct_of_peak_sustained_active", "%"},
};

Counter counter_named(const std::string& name) {
  if (const auto* found =
          std::find_if(std::begin(known_counters), std::end(known_counters), [&](const Counter& c) { return c.name == name; });
      found != std::end(known_counters))
    return *found;
  if (name.find("__") != std::string::npos) return {name, name, ""};
  std::vector<std::string> names;
  for (const Counter& c : known_counters) names.push_back(c.name);
  const std::string meant = nearest(name, names);
  fail(
      ExitCode::usage, fmt::format("there is no counter \"{}\"", name),
      {.expected = meant.empty() ? "dram, l2, tensor, sm, occupancy, or a name of Nsight Compute's such as dram__bytes_read.sum"
                                 : fmt::format("did you mean {}?", meant)});
}

}  // namespace

std::string heading(const Counter& counter) {
  return counter.unit.empty() ? counter.name : fmt::format("{}, {}", counter.name, counter.unit);
}

std::vector<Counter> counters_named(std::string_view list) {
  std::vector<Counter> counters;
  for (const std::string& name : words_of("counters", list)) {
    Counter counter = counter_named(name);
    if (std::any_of(counters.begin(), counters.end(), [&](const Counter& c) { return c.metric == counter.metric; }))
      fail(ExitCode::usage, fmt::format("--counters names {} twice", counter.name));
    counters.push_back(std::move(counter));
  }
  return counters;
}

}  // namespace microtome
