// What a measured run says, worked out to an epoch of its data.
#pragma once

#include "engine/cost.h"
#include "tools/cli/json.h"
#include "tools/profile/counter_presets.h"
#include "tools/profile/measure.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

constexpr std::string_view profile_schema = "microtome.profile.1";

/// What an epoch of the whole data set has more of than the short run that was measured.
struct Epoch {
  double images = 0, steps = 0;
  double statistics = 1, validation = 1;  // times what was measured
};

struct LedgerLine {
  std::string name;
  double seconds = 0;  // an epoch
  std::string note;
};

/// A pass of a row; times are a step's, as it is untraced.
struct LayerLine {
  std::string row, kind;  // "" and "step" where the pass belongs to no row
  Pass pass = Pass::forward;
  double ns = 0, low_ns = 0, high_ns = 0;  // with the mean's interval of 95%; 0 where that is unknown
  double calls = 0, pieces = 0;            // of the network's plan; of work on the device
  Cost cost;                               // none where it says zero
  double bound_ns = 0;                     // what the cost takes at the roofs; 0 where these are not known
  bool compute_bound = false;
  std::vector<double> samples_ns;              // as traced
  std::vector<std::optional<double>> counted;  // by the profile's counters, in their units

  double of_bound() const { return ns > 0 ? bound_ns / ns : 0; }
  double saving_ns() const { return bound_ns > 0 ? std::max(0.0, ns - bound_ns) : 0; }
};

struct KernelLine {
  std::string name;
  double ns = 0, pieces = 0;  // a step
  Activity::Launch launch;
  std::vector<std::string> scopes;
};

struct Advice {
  double seconds = 0;  // an epoch's, that it could spare at most
  std::string what, evidence, next;
};

struct Profile {
  Json run, device;
  Sampling sampling;
  Epoch epoch;
  Roofs roofs;
  double untraced_ns = 0, traced_ns = 0;  // medians over steps
  std::vector<double> untraced_samples_ns;
  double layers_ns = 0;                // median of what was found by row and pass, as traced
  double attributed = 0, overlap = 0;  // shares of the traced steps' time
  std::uint64_t dropped = 0;
  int unfinished = 0;
  std::string note;
  std::vector<LedgerLine> ledger;  // sums to epoch_seconds
  double epoch_seconds = 0;
  std::vector<Counter> counters;  // that were read
  std::vector<LayerLine> layers;  // in the network's order
  std::vector<std::string> rows;  // all of the network's
  std::vector<KernelLine> kernels;
  std::vector<PlannedKernel> plans;
  ProgramMemory memory;
  std::vector<Advice> advice;  // the largest gain first

  double seconds(double step_ns) const { return step_ns * 1e-9 * epoch.steps; }
};

/// `program`: of a training step; `counters`: that `measured` was asked for.
Profile make_profile(const Measurement& measured, const Model& model, const Program& program, const Sampling& sampling,
                     const Epoch& epoch, const std::vector<Counter>& counters, Json run);

std::string where(const LayerLine& line);  // "conv1_conv forward"

std::vector<LayerLine> by_saving(const Profile& profile);  // the largest first
std::vector<LayerLine> by_time(const Profile& profile);    // likewise

/// A kind of row with all its passes.
struct KindLine {
  std::string kind;
  int rows = 0;
  double forward_ns = 0, backward_ns = 0, flop = 0, bytes = 0, bound_ns = 0;

  double ns() const { return forward_ns + backward_ns; }
};
std::vector<KindLine> by_kind(const Profile& profile);

/// Bytes of the arena in use at each moment of a step, by row and whether gradients.
std::vector<std::size_t> memory_over_step(const ProgramMemory& memory);

}  // namespace microtome
