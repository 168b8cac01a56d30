// The reference's device is the host's memory; a recorded step is the step itself.
#include "kernels/backend.h"
#include "engine/host_memory.h"
#include "kernels/reference/reference.h"

#include <cstring>
#include <new>
#include <utility>

namespace microtome {

namespace {

constexpr std::align_val_t alignment{256};

struct KeptStep final : Recording {
  explicit KeptStep(std::function<void()> s) : step(std::move(s)) {}
  void run() override { step(); }
  std::function<void()> step;
};

}  // namespace

template <std::floating_point T>
Device Reference<T>::device() const {
  const HostMemory memory = host_memory();
  return {.name = "reference",
          .description = fmt::format("naive loops in {}, 1 core", name(dtype_of<T>)),
          .versions = "own",
          .memory_bytes = memory.total_bytes,
          .available_bytes = memory.available_bytes - std::min(memory.available_bytes, host_reserve_bytes),
          .bound = memory.bound,
          .is_host = true};
}

template <std::floating_point T>
DType Reference<T>::activation_type() const {
  return dtype_of<T>;
}

template <std::floating_point T>
DType Reference<T>::parameter_type() const {
  return dtype_of<T>;
}

template <std::floating_point T>
Buffer Reference<T>::allocate(std::size_t bytes) {
  void* data = ::operator new(bytes, alignment, std::nothrow);
  if (data == nullptr)
    fail_memory("out of memory", {.where = "reference",
                                  .expected = fmt::format("{} bytes", bytes),
                                  .found = to_text(host_memory()),
                                  .next = "a smaller --batch-size"});
  return {data, bytes, [](void* p) noexcept { ::operator delete(p, alignment); }};
}

template <std::floating_point T>
void Reference<T>::write(void* device, const void* host, std::size_t bytes) {
  std::memcpy(device, host, bytes);
}

template <std::floating_point T>
void Reference<T>::read(void* host, const void* device, std::size_t bytes) {
  std::memcpy(host, device, bytes);
}

template <std::floating_point T>
void Reference<T>::zero(void* device, std::size_t bytes) {
  std::memset(device, 0, bytes);
}

template <std::floating_point T>
void Reference<T>::copy(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

template <std::floating_point T>
std::unique_ptr<Recording> Reference<T>::record(std::function<void()> step) {
  return std::make_unique<KeptStep>(std::move(step));
}

template class Reference<double>;
template class Reference<float>;

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<Reference<double>>();
}

}  // namespace microtome
