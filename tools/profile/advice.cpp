#include "tools/profile/advice.h"

#include "engine/fit.h"

#include <fmt/format.h>

#include <algorithm>

namespace microtome {

std::vector<Advice> advise(const Profile& profile) {
  std::vector<Advice> advice;
  const auto seconds_of = [&](std::string_view name) {
    for (const LedgerLine& line : profile.ledger)
      if (line.name == name) return line.seconds;
    return 0.0;
  };
  const auto add = [&](double seconds, std::string what, std::string evidence, std::string next = "") {
    if (seconds >= 0.01 * profile.epoch_seconds)
      advice.push_back({seconds, std::move(what), std::move(evidence), std::move(next)});
  };
  std::vector<LayerLine> lines = by_saving(profile);
  lines.resize(std::min<std::size_t>(lines.size(), 3));
  for (const LayerLine& line : lines)
    add(profile.seconds(line.saving_ns()),
        fmt::format("{} is far from its {} roof", where(line), line.compute_bound ? "product" : "copy"),
        fmt::format("{:.2f} ms a step where {:.2f} would do at the measured roof: {:.0f}% of it", line.ns * 1e-6,
                    line.bound_ns * 1e-6, 100 * line.of_bound()),
        line.row.empty() ? "" : fmt::format("--explain {0}, on a GPU --print-ncu {0}", line.row));
  for (const KindLine& kind : by_kind(profile))
    if (kind.bound_ns > 0 && kind.rows > 3)
      add(profile.seconds(kind.ns() - kind.bound_ns), fmt::format("all {} rows of {}", kind.rows, kind.kind),
          fmt::format("{:.1f} ms a step, {:.0f}% of the roofs", kind.ns() * 1e-6, 100 * kind.bound_ns / kind.ns()));
  double small = 0, small_count = 0, spilled = 0, spilling = 0;
  for (const KernelLine& kernel : profile.kernels) {
    if (kernel.ns < 10'000 * kernel.pieces) small += kernel.ns, small_count += kernel.pieces;
    if (kernel.launch.local_bytes > 0) spilled += kernel.ns, ++spilling;
  }
  add(profile.seconds(small), fmt::format("{:.0f} kernels a step take less than 10 us each", small_count),
      "they cost more to start than to run: fuse them");
  add(profile.seconds(spilled), fmt::format("{:.0f} kernels spill registers or index arrays", spilling),
      "local memory in KERNELS");
  add(seconds_of("gaps in steps"), "the device waits within steps", "gaps between pieces of work",
      "--graph step, if it was off");
  add(seconds_of("gaps round steps"), "the device waits between steps", "gaps before the first piece and after the last");
  if (seconds_of("statistics") > 0.05 * profile.epoch_seconds)
    add(seconds_of("statistics"), "batch-norms' population statistics",
        fmt::format("up to {} forward passes after each epoch", population_batches),
        "--statistics moving, where an epoch has steps enough");
  add(seconds_of("saving"), "saving holds up training", "the ledger's row", "--checkpoint-every, a faster disk");
  std::sort(advice.begin(), advice.end(), [](const Advice& a, const Advice& b) { return a.seconds > b.seconds; });
  return advice;
}

}  // namespace microtome
