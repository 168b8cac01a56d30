#include "kernels/cuda/profiling/trace.h"

#include "kernels/cuda/device/check.h"

#include <cuda_profiler_api.h>

#include <chrono>
#include <utility>

namespace microtome::cuda {

namespace {

/// For a profiler outside: `nsys profile -c cudaProfilerApi` keeps what is between start and stop.
class Bracket final : public CudaTrace {
 public:
  Bracket(ScopeListener*& slot, std::string why) : slot_(slot), why_(std::move(why)) { slot_ = this; }
  ~Bracket() override { slot_ = nullptr; }

  void start() override {
    check(cudaDeviceSynchronize());
    check(cudaProfilerStart());
    start_ns_ = now();
  }
  Recorded stop() override {
    check(cudaDeviceSynchronize());
    Recorded recorded{.start_ns = start_ns_, .end_ns = now(), .note = why_};
    check(cudaProfilerStop());
    return recorded;
  }
  void enter(const Scope&) override {}
  void leave() override {}

 private:
  static std::int64_t now() {
    using std::chrono::nanoseconds;
    return std::chrono::duration_cast<nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  ScopeListener*& slot_;
  std::string why_;
  std::int64_t start_ns_ = 0;
};

}  // namespace

std::unique_ptr<CudaTrace> make_trace(ScopeListener*& slot) {
  std::string why;
  if (auto trace = make_cupti_trace(slot, why)) return trace;
  return std::make_unique<Bracket>(slot, std::move(why));
}

}  // namespace microtome::cuda
