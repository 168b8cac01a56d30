#include "kernels/cuda/device/context.h"

#include <utility>

namespace microtome::cuda {

namespace {

void release(void* data) noexcept {
  check_nothrow(cudaFree(data));
}

}  // namespace

Context::Context(Precision precision, BackendOptions options)
    : precision_(precision), options_(std::move(options)), lanes_(static_cast<std::size_t>(options_.lanes)) {
  require(options_.lanes >= 1, "cuda: ", options_.lanes, " lanes");
  int device = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device));
  for (Lane& lane : lanes_) check(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking));
}

Context::~Context() {
  for (const cudaEvent_t event : events_) check_nothrow(cudaEventDestroy(event));
  for (const Lane& lane : lanes_) check_nothrow(cudaStreamDestroy(lane.stream));
}

void Context::signal(int event) {
  if (warming_up() || lanes() == 1) return;
  while (static_cast<int>(events_.size()) <= event)
    check(cudaEventCreateWithFlags(&events_.emplace_back(), cudaEventDisableTiming));
  check(cudaEventRecord(events_[static_cast<std::size_t>(event)], stream()));
}

void Context::await(int event) {
  if (!warming_up() && lanes() > 1) check(cudaStreamWaitEvent(stream(), events_[static_cast<std::size_t>(event)]));
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
  Lane& lane = lanes_[lane_];
  if (bytes <= lane.scratch.size_bytes()) return;
  Buffer old = std::move(lane.scratch);
  if (lane.handed_out) {
    lane.retired.push_back(std::move(old));
    lane.handed_out = false;
  } else {
    old = Buffer();  // before the larger one is asked for
  }
  lane.scratch = allocate(aligned(bytes));
}

std::size_t Context::scratch_bytes() const {
  std::size_t bytes = 0;
  for (const Lane& lane : lanes_) bytes += lane.scratch.size_bytes();
  return bytes;
}

std::byte* Context::scratch(std::size_t bytes) {
  reserve(bytes);
  Lane& lane = lanes_[lane_];
  lane.handed_out = lane.handed_out || !warming_up();
  return static_cast<std::byte*>(lane.scratch.data());
}

}  // namespace microtome::cuda
