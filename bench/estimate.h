// An epoch estimated from microbenchmarks: what `bench` measured of each op, as often as the network has it.
#pragma once

#include "bench/results.h"

#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// A training step whose batch-norms are all applied, one op after another on caches as its own last call left them. No gaps,
/// no streams side by side.
struct StepEstimate {
  double seconds = 0;
  int pieces = 0;  // of work, those missing too
  int measured = 0;
  std::vector<std::string> missing;  // names of cases, each once

  bool whole() const { return measured == pieces; }
};

/// Of a file of one device and one precision. Error(ExitCode::data) where it does not say which images it is of.
StepEstimate estimate_step(const Results& results, std::string_view net, int side, int batch);

}  // namespace microtome
