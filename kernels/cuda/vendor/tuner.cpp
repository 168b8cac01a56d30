#include "kernels/cuda/vendor/tuner.h"

#include "engine/median.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace microtome::cuda {

namespace {

constexpr int rounds = 12;          // the first loads modules, and is not counted
constexpr int probation = 3;        // counted rounds before anyone may drop out
constexpr double far_behind = 1.2;  // times the best

struct Times {
  std::vector<double> cold, warm;
  bool failed = false;

  double cost() const { return (median(cold) + median(warm)) / 2; }
};

}  // namespace

std::optional<Fastest> fastest(std::size_t candidates, const std::function<std::optional<Sample>(std::size_t)>& sample) {
  std::vector<Times> times(candidates);
  std::vector<std::size_t> running(candidates);
  std::iota(running.begin(), running.end(), std::size_t{0});
  std::optional<Fastest> best;
  for (int round = 0; round < rounds && !running.empty(); ++round) {
    for (const std::size_t i : running) {
      const std::optional<Sample> seen = sample(i);
      times[i].failed = !seen;
      if (!seen || round == 0) continue;
      times[i].cold.push_back(seen->cold_us);
      times[i].warm.push_back(seen->warm_us);
    }
    std::erase_if(running, [&](std::size_t i) { return times[i].failed; });
    if (round < probation) continue;
    best.reset();
    for (const std::size_t i : running) {
      const double cost = times[i].cost();
      if (!best || cost < best->time_us) best = {i, cost};
    }
    std::erase_if(running, [&](std::size_t i) { return times[i].cost() > far_behind * best->time_us; });
  }
  return best;
}

Stopwatch::Stopwatch(const Context& context, cudnnHandle_t handle, const OperationGraph& graph,
                     const std::vector<ExecutionPlan>& plans)
    : context_(context), handle_(handle), plans_(plans), executions_(plans.size()) {
  // Small numbers, as bf16 and as f32: zeros would draw less power than real data and let clocks rise.
  constexpr int some_number = 0x3c;
  for (const TensorSpec& spec : graph.arguments()) {
    if (spec.by_value) {
      arguments_.push_back({spec.id, &one_});
      continue;
    }
    const Buffer& tensor = tensors_.emplace_back(context.allocate(extent_bytes(spec)));
    check(cudaMemsetAsync(tensor.data(), some_number, tensor.size_bytes(), context.stream()));
    arguments_.push_back({spec.id, tensor.data()});
  }
  std::size_t workspace_bytes = 1;
  for (const ExecutionPlan& plan : plans) workspace_bytes = std::max(workspace_bytes, plan.workspace_bytes());
  workspace_ = context.allocate(workspace_bytes);
  // Twice the cache would empty it. Four times take 50 us and more to write, so that all that is to be timed is queued behind
  // that, and the host's share of a launch is not in the times.
  int cache_bytes = 0, device = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&cache_bytes, cudaDevAttrL2CacheSize, device));
  flush_ = context.allocate(4 * static_cast<std::size_t>(cache_bytes));
  for (cudaEvent_t& event : events_) check(cudaEventCreate(&event));
}

Stopwatch::~Stopwatch() {
  for (const cudaEvent_t event : events_) check_nothrow(cudaEventDestroy(event));
}

std::optional<Sample> Stopwatch::sample(std::size_t number) {
  const auto run = [&] { executions_[number].run(handle_, plans_[number], arguments_, workspace_.data()); };
  try {
    check(cudaMemsetAsync(flush_.data(), 0, flush_.size_bytes(), context_.stream()));
    check(cudaEventRecord(events_[0], context_.stream()));
    run();
    check(cudaEventRecord(events_[1], context_.stream()));
    run();
    check(cudaEventRecord(events_[2], context_.stream()));
    check(cudaEventSynchronize(events_[2]));
    float cold_ms = 0, warm_ms = 0;
    check(cudaEventElapsedTime(&cold_ms, events_[0], events_[1]));
    check(cudaEventElapsedTime(&warm_ms, events_[1], events_[2]));
    return Sample{cold_ms * 1e3, warm_ms * 1e3};
  } catch (const Error&) {
    return {};
  }
}

}  // namespace microtome::cuda
