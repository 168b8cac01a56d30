// The plans of one device: each problem's is made once, whoever asks for it, on several threads where there are many to make.
// Which of cuDNN's engines runs is its own first choice or, if asked for, what the tuner finds fastest on the device.
#pragma once

#include "kernels/cuda/device/context.h"
#include "kernels/cuda/vendor/cudnn.h"
#include "kernels/cuda/vendor/plan_cache.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace microtome::cuda {

/// What cuDNN is asked for. `key` says all that tells it from others of this device and this cuDNN.
struct Problem {
  std::string key;
  std::function<OperationGraph()> graph;
  EngineLimits limits;
};

/// Alternatives to one end, the preferred one first; where cuDNN has no engine for one the next is tried.
using Alternatives = std::vector<Problem>;

/// Used by one thread at a time. Plans live as long as this does.
class Plans {
 public:
  explicit Plans(Context& context);
  ~Plans();

  cudnnHandle_t handle() const { return handles_[static_cast<std::size_t>(context_.stream_index())].raw(); }

  struct Found {
    const ExecutionPlan* plan = nullptr;
    std::size_t alternative = 0;
  };

  /// The first alternative that has a plan, which is made now if it was not yet; a null plan where none has.
  Found find(const Alternatives& alternatives);

  /// To be made at the next make_wanted(): together with others, by all cores.
  void want(Alternatives alternatives);
  void make_wanted();

 private:
  struct Job;

  bool is_selected(const Alternatives& alternatives) const;
  void make(std::vector<Job>& jobs);
  void prepare(Job& job, cudnnHandle_t handle) const;
  void select(Job& job);
  std::optional<ExecutionPlan> timed_before(const Target& target, const Problem& problem, const OperationGraph& graph) const;
  std::vector<ExecutionPlan> contenders(const Target& target, const Problem& problem, const OperationGraph& graph) const;
  std::string cache_key(const Problem& problem) const { return machine_ + problem.key; }

  Context& context_;
  std::vector<CudnnHandle> handles_;  // of the streams
  std::vector<CudnnHandle> workers_;  // one a thread; they outlive the plans, whose descriptors name them
  std::string machine_;               // "NVIDIA H200, 132 SMs, cuDNN 91900: "
  PlanCache cache_;
  std::map<std::string, std::optional<ExecutionPlan>> plans_;
  std::map<std::string, Alternatives> wanted_;  // by the key of the preferred alternative
  bool warned_ = false;                         // that an alternative was lost
};

/// All that precedes a capture of `step`: it runs once to hand in the plans that it needs, then as a warm-up with these.
void warm_up(Context& context, Plans& plans, const std::function<void()>& step);

}  // namespace microtome::cuda
