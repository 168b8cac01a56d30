#include "kernels/cuda/device/context.h"

#include <utility>

namespace microtome::cuda {

namespace {

void release(void* data) noexcept {
  check_nothrow(cudaFree(data));
}

}  // namespace

Context::Context(Precision precision, BackendOptions options)
    : precision_(precision), options_(std::move(options)), streams_(static_cast<std::size_t>(options_.streams)) {
  require(options_.streams >= 1, "cuda: ", options_.streams, " streams");
  int device = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device));
  for (Stream& stream : streams_) check(cudaStreamCreateWithFlags(&stream.handle, cudaStreamNonBlocking));
}

Context::~Context() {
  for (const cudaEvent_t event : events_) check_nothrow(cudaEventDestroy(event));
  for (const Stream& stream : streams_) check_nothrow(cudaStreamDestroy(stream.handle));
}

void Context::record_event(int event) {
  if (warming_up() || streams() == 1) return;
  while (static_cast<int>(events_.size()) <= event)
    check(cudaEventCreateWithFlags(&events_.emplace_back(), cudaEventDisableTiming));
  check(cudaEventRecord(events_[static_cast<std::size_t>(event)], stream()));
}

void Context::wait_event(int event) {
  if (!warming_up() && streams() > 1) check(cudaStreamWaitEvent(stream(), events_[static_cast<std::size_t>(event)]));
}

Buffer Context::allocate(std::size_t bytes) const {
  void* data = nullptr;
  if (bytes == 0) return {};
  if (cudaMalloc(&data, bytes) == cudaSuccess) return {data, bytes, release};
  static_cast<void>(cudaGetLastError());  // the failure is reported here; later calls must not see it again
  std::size_t available = 0, total = 0;
  check(cudaMemGetInfo(&available, &total));
  fail_memory("the GPU's memory is too small", {.expected = fmt::format("{} bytes", bytes),
                                                .found = fmt::format("{} of {} bytes free", available, total),
                                                .next = "use a smaller batch, or free the GPU's memory"});
}

void Context::reserve(std::size_t bytes) {
  Stream& stream = streams_[current_];
  if (bytes <= stream.scratch.size_bytes()) return;
  Buffer old = std::move(stream.scratch);
  if (stream.handed_out) {
    stream.retired.push_back(std::move(old));
    stream.handed_out = false;
  } else {
    old = Buffer();  // before the larger one is asked for
  }
  stream.scratch = allocate(aligned(bytes));
}

std::size_t Context::scratch_bytes() const {
  std::size_t bytes = 0;
  for (const Stream& stream : streams_) bytes += stream.scratch.size_bytes();
  return bytes;
}

std::byte* Context::scratch(std::size_t bytes) {
  reserve(bytes);
  Stream& stream = streams_[current_];
  stream.handed_out = stream.handed_out || !warming_up();
  return static_cast<std::byte*>(stream.scratch.data());
}

}  // namespace microtome::cuda
