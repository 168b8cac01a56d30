// A copy into pinned memory, queued on the stream of the ops: between two steps, so that it is whole, and no wait for the host.
// On a stream of its own it would come sooner, and race with the step that runs. The driver holds a bounded number of launches,
// so news is late by that many steps at most.
#include "kernels/cuda/device/async_read.h"

#include <cstring>
#include <vector>

namespace microtome::cuda {

namespace {

class PinnedAsyncRead final : public AsyncRead {
 public:
  PinnedAsyncRead(const Context& context, const void* device, std::size_t bytes)
      : context_(context), device_(device), copy_(bytes) {
    check(cudaEventCreateWithFlags(&arrived_, cudaEventDisableTiming));
    const cudaError_t status = cudaHostAlloc(&pinned_, bytes, cudaHostAllocDefault);
    if (status != cudaSuccess) check_nothrow(cudaEventDestroy(arrived_));
    check(status);
  }
  ~PinnedAsyncRead() override {
    if (under_way_) check_nothrow(cudaEventSynchronize(arrived_));
    check_nothrow(cudaFreeHost(pinned_));
    check_nothrow(cudaEventDestroy(arrived_));
  }

  const void* latest() override {
    if (under_way_) {
      const cudaError_t status = cudaEventQuery(arrived_);
      if (status == cudaErrorNotReady) return seen_ ? copy_.data() : nullptr;
      check(status);
      std::memcpy(copy_.data(), pinned_, copy_.size());
      seen_ = true;
    }
    check(cudaMemcpyAsync(pinned_, device_, copy_.size(), cudaMemcpyDeviceToHost, context_.stream()));
    check(cudaEventRecord(arrived_, context_.stream()));
    under_way_ = true;
    return seen_ ? copy_.data() : nullptr;
  }

 private:
  const Context& context_;
  const void* device_;
  std::vector<std::byte> copy_;  // the last that arrived
  void* pinned_ = nullptr;       // where the next arrives
  cudaEvent_t arrived_ = nullptr;
  bool under_way_ = false, seen_ = false;
};

}  // namespace

std::unique_ptr<AsyncRead> make_async_read(const Context& context, const void* device, std::size_t bytes) {
  return std::make_unique<PinnedAsyncRead>(context, device, bytes);
}

}  // namespace microtome::cuda
