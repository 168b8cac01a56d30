// Which of several plans is fastest: choosing by times that somebody measures, and measuring them on the device.
#pragma once

#include "kernels/cuda/device/context.h"
#include "kernels/cuda/vendor/cudnn.h"

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace microtome::cuda {

/// One go: with none of its data in the L2 cache, and again at once.
struct Sample {
  double cold_us = 0, warm_us = 0;
};

struct Fastest {
  std::size_t candidate = 0;
  double time_us = 0;
};

/// The candidate with the least (median cold + median warm) / 2. In a training step an activation has just been written and
/// lies in L2 as far as it fits, while weights and what the forward pass left do not: the truth is between the two, so neither
/// may be given away for the other. Candidates take turns, so that a clock that drifts drifts for all; who is far behind after
/// a few rounds drops out, as does one for which `sample` has none. None where all did.
std::optional<Fastest> fastest(std::size_t candidates, const std::function<std::optional<Sample>(std::size_t)>& sample);

/// Times plans of one graph on memory of its own, as large as the real one.
class Stopwatch {
 public:
  /// Throws Error(ExitCode::memory).
  Stopwatch(const Context& context, cudnnHandle_t handle, const OperationGraph& graph, const std::vector<ExecutionPlan>& plans);
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  /// None where it does not run.
  std::optional<Sample> sample(std::size_t plan);

 private:
  const Context& context_;
  cudnnHandle_t handle_;
  const std::vector<ExecutionPlan>& plans_;
  std::vector<Execution> executions_;
  std::vector<Buffer> tensors_;
  std::vector<Execution::Argument> arguments_;
  Buffer workspace_, flush_;
  float one_ = 1;
  std::array<cudaEvent_t, 3> events_{};
};

}  // namespace microtome::cuda
