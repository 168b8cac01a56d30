// The host as a device: its memory is the host's, and a recorded step is the step itself.
#include "kernels/backend.h"
#include "engine/host_memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/processor.h"

#include <fmt/format.h>
#include <malloc.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <utility>

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace microtome {

namespace {

constexpr std::size_t alignment = 256, huge_page = std::size_t{2} << 20;

struct KeptStep final : Recording {
  explicit KeptStep(std::function<void()> s) : step(std::move(s)) {}
  void run() override { step(); }
  std::function<void()> step;
};

/// OpenMP's threads are started by the first parallel loop, and where one cannot be, the library ends the process.
void require_room_for_threads() {
  const HostMemory memory = host_memory();
  if (!memory.limited) return;
  rlimit stack{};
  constexpr std::size_t usual = std::size_t{8} << 20;
  const bool known = getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur != RLIM_INFINITY;
  const std::size_t bytes = known ? stack.rlim_cur : usual;
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());
  const std::size_t room = memory.available_bytes - std::min(memory.available_bytes, host_reserve_bytes);
  if ((threads - 1) * bytes <= room) return;
  fail_memory("not enough memory for the threads",
              {.where = "cpu",
               .expected = fmt::format("{} for the stacks of {} threads", gigabytes(threads * bytes), threads),
               .found = to_text(memory),
               .next = fmt::format("OMP_NUM_THREADS={}, or a higher limit", 1 + room / bytes)});
}

/// A unit that has died leaves first moments that shrink to denormal numbers and stay there, at a hundred cycles an operation.
void flush_denormals() {
#pragma omp parallel
  {
#if defined __SSE2__
    _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
    _mm_setcsr(_mm_getcsr() | 0x40);  // denormals are zero
#elif defined __aarch64__
    constexpr std::uint64_t flush = 1 << 24;  // of what comes in, too
    std::uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    asm volatile("msr fpcr, %0" : : "r"(control | flush));
#endif
  }
}

/// oneDNN keeps up to a thousand, with the code that is generated for them: a network's of some batch sizes.
void forget_primitives() {
  int capacity = 0;
  if (dnnl_get_primitive_cache_capacity(&capacity) != dnnl_success) return;
  dnnl_set_primitive_cache_capacity(0);
  dnnl_set_primitive_cache_capacity(capacity);
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

void copy_by_threads(void* to, const void* from, std::size_t bytes) {
  constexpr std::int64_t piece = 1 << 18;  // bytes, worth a thread
  const auto count = static_cast<std::int64_t>(bytes);
#pragma omp parallel for schedule(static) if (count > 2 * piece)
  for (std::int64_t at = 0; at < count; at += piece)
    std::memcpy(static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at,
                static_cast<std::size_t>(std::min(piece, count - at)));
}

class Cpu final : public Backend {
 public:
  Cpu() {
    require_room_for_threads();
    flush_denormals();
  }

  Device device() const override {
    const dnnl_version_t* version = dnnl_version();
    std::ifstream cpuinfo("/proc/cpuinfo");
    const int cores = omp_get_max_threads();
    const HostMemory memory = host_memory();
    return {.name = "cpu",
            .description =
                fmt::format("{}, {}, {} core{}", processor_of(cpuinfo), MICROTOME_CPU_LEVEL, cores, cores == 1 ? "" : "s"),
            .versions = fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch),
            .memory_bytes = memory.total_bytes,
            .available_bytes = memory.available_bytes - std::min(memory.available_bytes, host_reserve_bytes),
            .bound = memory.bound,
            .is_host = true};
  }
  DType activation_type() const override { return DType::f32; }
  DType parameter_type() const override { return DType::f32; }

  Buffer allocate(std::size_t bytes) override { return allocate_host(bytes); }
  void write(void* to, const void* host, std::size_t bytes) override { std::memcpy(to, host, bytes); }
  void read(void* host, const void* from, std::size_t bytes) override { std::memcpy(host, from, bytes); }
  void zero(void* data, std::size_t bytes) override { std::memset(data, 0, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override { copy_by_threads(to, from, bytes); }
  Buffer resident(const void* host, std::size_t bytes) override {
    return {const_cast<void*>(host), bytes, [](void*) noexcept {}};
  }
  void synchronize() override {}
  std::size_t scratch_bytes() const override { return scratch_.size_bytes(); }
  std::size_t missing_scratch_bytes() const override { return scratch_.missing_bytes(); }
  void take_scratch() override { scratch_.take(); }
  void forget_ops() override { forget_primitives(); }
  std::unique_ptr<Recording> record(std::function<void()> step) override { return std::make_unique<KeptStep>(std::move(step)); }

  std::unique_ptr<ConvOp> conv(const Conv& kind, const Layout& x, const Layout& y) override {
    return kind.deferred || kind.statistics ? nullptr : noted(make_cpu_conv(scratch_, kind, x, y));
  }
  std::unique_ptr<FilterTransformOp> filter_transform(P4m p4m, const Layout& w, const Layout& all) override {
    return make_cpu_filter_transform(p4m, w, all);
  }
  std::unique_ptr<DenseOp> dense(const Dense& kind, const Layout& x, const Layout& y) override {
    return noted(make_cpu_dense(scratch_, kind, x, y));
  }
  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) override {
    return kind.partial_statistics ? nullptr : noted(make_cpu_batch_norm(scratch_, kind, x, y));
  }
  std::unique_ptr<ActivateOp> activate(const Activate& kind, const Layout& x, const Layout& y) override {
    return make_cpu_activate(kind, x, y);
  }
  std::unique_ptr<PoolOp> pool(const Pool& kind, const Layout& x, const Layout& y) override {
    return kind.deferred ? nullptr : make_cpu_pool(kind, x, y);
  }
  std::unique_ptr<DropoutOp> dropout(const Dropout& kind, const Layout& x, const Layout& y) override {
    return kind.deferred ? nullptr : make_cpu_dropout(kind, x, y);
  }
  std::unique_ptr<AddOp> add(const Add& kind, const Layout& a, const Layout& b, const Layout& y) override {
    return kind.deferred[0] || kind.deferred[1] ? nullptr : make_cpu_add(kind, a, b, y);
  }
  std::unique_ptr<MultiplyOp> multiply(const Multiply& kind, const Layout& x, const Layout& gate, const Layout& y) override {
    return kind.deferred ? nullptr : make_cpu_multiply(x, gate, y);
  }
  std::unique_ptr<GatherOp> gather(const Gather& kind, const Layout& images, const Layout& x) override {
    return make_cpu_gather(kind, images, x);
  }
  std::unique_ptr<LossOp> loss(const Loss& kind, const Layout& z) override { return make_cpu_loss(kind, z); }
  std::unique_ptr<OptimizerOp> optimizer(const Optimizer& kind, std::int64_t count) override {
    return make_cpu_optimizer(kind, count);
  }
  std::unique_ptr<AdvanceOp> advance() override { return make_cpu_advance(); }

 private:
  /// With what it reserved while it was made.
  template <class Op>
  std::unique_ptr<Op> noted(std::unique_ptr<Op> op) {
    op->memory.scratch = scratch_.lately_reserved();
    return op;
  }

  Scratch scratch_;
};

}  // namespace

Buffer allocate_host(std::size_t bytes) {
  const bool huge = bytes >= 2 * huge_page;
  const std::size_t unit = huge ? huge_page : alignment;
  void* data = bytes > std::numeric_limits<std::size_t>::max() - unit
                   ? nullptr
                   : std::aligned_alloc(unit, std::max(unit, (bytes + unit - 1) / unit * unit));
  if (data == nullptr)
    fail_memory("not enough memory", {.where = "cpu",
                                      .expected = gigabytes(bytes) + " in one piece",
                                      .found = to_text(host_memory()),
                                      .next = "more memory, fewer images or a smaller --batch-size"});
  if (huge) madvise(data, bytes, MADV_HUGEPAGE);
  return {data, bytes, [](void* p) noexcept { std::free(p); }};
}

void Scratch::reserve(std::size_t bytes) {
  lately_ = std::max(lately_, bytes);
  if (bytes <= size_bytes_) return;
  size_bytes_ = bytes;
  data_ = nullptr;
  memory_ = Buffer();
}

void Scratch::take() const {
  const std::lock_guard lock(mutex_);
  if (data_) return;
  memory_ = allocate_host(size_bytes_);
  data_ = static_cast<std::byte*>(memory_.data());
}

std::unique_ptr<Backend> MICROTOME_CPU_BACKEND(Precision precision) {
  require(precision == Precision::f32, "cpu: a precision other than f32");
  return std::make_unique<Cpu>();
}

}  // namespace microtome
