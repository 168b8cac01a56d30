// An epoch foretold from microbenchmarks: what `bench` measured of each op, as often as the network has it.
#pragma once

#include "tools/results.h"

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// A training step whose batch-norms are all applied, one op after another on caches as its own last call left them. No gaps,
/// no lanes side by side.
struct BenchedStep {
  double seconds = 0;
  int pieces = 0;  // of work, those missing too
  int measured = 0;
  std::vector<std::string> missing;  // names of cases, each once

  bool whole() const { return measured == pieces; }
};

/// Of a file of one device and one precision. Error(ExitCode::data) where it does not say which images it is of.
BenchedStep benched_step(const Results& results, std::string_view net, int side, int batch);

/// What a step took: of a profile's folder the untraced step, of a run's the mean of its epochs.
struct MeasuredStep {
  std::string net, mode, device, precision;
  int side = 0, batch = 0;  // side 0 where a run of an older version does not say
  double seconds = 0;
};

/// Error(ExitCode::data) for a folder that is neither, and where what it says cannot be.
MeasuredStep measured_step(const std::filesystem::path& folder);

}  // namespace microtome
