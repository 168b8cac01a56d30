#include "kernels/cuda/context.h"

#include <utility>

namespace microtome::cuda {

namespace {

void release(void* data) noexcept {
  check_nothrow(cudaFree(data));
}

}  // namespace

Context::Context(Precision precision, BackendOptions options) : precision_(precision), options_(std::move(options)) {
  int device = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device));
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

Context::~Context() {
  check_nothrow(cudaStreamDestroy(stream_));
}

Buffer Context::allocate(std::size_t bytes) const {
  void* data = nullptr;
  if (bytes == 0) return {};
  if (cudaMalloc(&data, bytes) == cudaSuccess) return {data, bytes, release};
  static_cast<void>(cudaGetLastError());  // the failure is reported here; later calls must not see it again
  std::size_t available = 0, total = 0;
  check(cudaMemGetInfo(&available, &total));
  fail(ExitCode::memory, "the GPU's memory is too small",
       {.expected = fmt::format("{} bytes", bytes),
        .found = fmt::format("{} of {} bytes free", available, total),
        .next = "use a smaller batch, or free the GPU's memory"});
}

void Context::reserve(std::size_t bytes) {
  if (bytes <= scratch_.size_bytes()) return;
  Buffer old = std::move(scratch_);
  if (handed_out_) {
    retired_.push_back(std::move(old));
    handed_out_ = false;
  } else {
    old = Buffer();  // before the larger one is asked for
  }
  scratch_ = allocate(aligned(bytes));
}

std::byte* Context::scratch(std::size_t bytes) {
  reserve(bytes);
  handed_out_ = handed_out_ || !rehearsing();
  return static_cast<std::byte*>(scratch_.data());
}

}  // namespace microtome::cuda
