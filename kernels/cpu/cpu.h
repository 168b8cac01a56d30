// The CPU backend: f32 in NHWC; convolutions of 3x3 by Winograd and the others on oneDNN, everything else own loops on OpenMP.
// Loops of ours are cut into pieces by the problem and never by the number of threads, and sums of pieces are taken in order:
// results repeat bit for bit.
#pragma once

#include "engine/backend.h"
#include "engine/check.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

namespace microtome {

/// Memory that ops use while they run and not between runs; one for all ops of a backend, as large as the neediest asks for.
class Scratch {
 public:
  /// At planning only: what was there is lost. Memory is taken by take(), or else by the first run.
  void reserve(std::size_t bytes);
  std::size_t size_bytes() const { return size_bytes_; }
  std::size_t missing_bytes() const { return data_ ? 0 : size_bytes_; }
  void take() const;
  /// The most that was reserved since it was last asked.
  std::size_t lately_reserved() { return std::exchange(lately_, 0); }
  template <class T = float>
  T* at(std::size_t offset) const {
    if (!data_) [[unlikely]]
      take();
    return reinterpret_cast<T*>(data_ + offset);
  }

 private:
  std::size_t size_bytes_ = 0, lately_ = 0;
  mutable Buffer memory_;
  mutable std::atomic<std::byte*> data_ = nullptr;
  mutable std::mutex mutex_;  // threads of a run may be the first
};

/// Lays out the scratch of one pass of an op.
class ScratchPlan {
 public:
  /// The offset of `bytes` more, aligned.
  std::size_t take(std::size_t bytes) {
    const std::size_t offset = bytes_;
    bytes_ += aligned(bytes);
    return offset;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

/// 256-byte aligned, large ones in huge pages where the kernel gives them.
Buffer allocate_host(std::size_t bytes);

// One factory a file; Scratch must outlive the op.
std::unique_ptr<ConvOp> make_cpu_conv(Scratch&, const Conv&, const Layout& x, const Layout& y);
std::unique_ptr<FilterTransformOp> make_cpu_filter_transform(P4m, const Layout& w, const Layout& all);
std::unique_ptr<DenseOp> make_cpu_dense(Scratch&, const Dense&, const Layout& x, const Layout& y);
std::unique_ptr<BatchNormOp> make_cpu_batch_norm(Scratch&, const BatchNorm&, const Layout& x, const Layout& y);
std::unique_ptr<ActivateOp> make_cpu_activate(const Activate&, const Layout& x, const Layout& y);
std::unique_ptr<PoolOp> make_cpu_pool(const Pool&, const Layout& x, const Layout& y);
std::unique_ptr<DropoutOp> make_cpu_dropout(const Dropout&, const Layout& x, const Layout& y);
std::unique_ptr<AddOp> make_cpu_add(const Add&, const Layout& a, const Layout& b, const Layout& y);
std::unique_ptr<MultiplyOp> make_cpu_multiply(const Layout& x, const Layout& gate, const Layout& y);
std::unique_ptr<GatherOp> make_cpu_gather(const Gather&, const Layout& images, const Layout& x);
std::unique_ptr<LossOp> make_cpu_loss(const Loss&, const Layout& z);
std::unique_ptr<OptimizerOp> make_cpu_optimizer(const Optimizer&, std::int64_t count);
std::unique_ptr<AdvanceOp> make_cpu_advance();

/// What is run must be what was planned.
inline void require_layout(const Tensor& tensor, const Layout& planned, std::string_view what,
                           std::source_location at = std::source_location::current()) {
  require({static_cast<const Layout&>(tensor) == planned, at}, "cpu: ", what, " is ", to_string(tensor.shape), " ",
          name(tensor.dtype), " and not ", to_string(planned.shape), " ", name(planned.dtype),
          " as planned, or has other strides");
}

inline void require_vector(const Tensor& tensor, std::int64_t count, std::string_view what,
                           std::source_location at = std::source_location::current()) {
  require({tensor.shape.count() == count && tensor.is_packed() && tensor.dtype == DType::f32, at}, "cpu: ", what, " is ",
          to_string(tensor.shape), " ", name(tensor.dtype), " and not ", count, " packed f32");
}

inline void require_f32(const Layout& x, const Layout& y, std::source_location at = std::source_location::current()) {
  require({x.dtype == DType::f32 && y.dtype == DType::f32, at}, "cpu: a tensor is ", name(x.dtype), " or ", name(y.dtype),
          " and not f32");
}

inline float* pixel(const Tensor& t, std::int64_t n, std::int64_t h, std::int64_t w) {
  return t.as<float>() + n * t.strides.n + h * t.strides.h + w * t.strides.w;
}

/// Calls f(first, count, offsets...) for runs of elements that are contiguous in every layout: `first` is a run's first element
/// in logical order (n h w c), `offsets` where it lies in each layout. Runs are spread over the threads.
template <class F, class... Layouts>
void for_each_run(const Shape& shape, const F& f, const Layouts&... layouts) {
  constexpr std::int64_t worth_a_thread = 1 << 14, piece = 1 << 12;  // elements; a piece of each tensor stays in L1
  const std::int64_t count = shape.count();
  if ((layouts.is_packed() && ...)) {
#pragma omp parallel for schedule(static) if (count > worth_a_thread)
    for (std::int64_t first = 0; first < count; first += piece)
      f(first, std::min(piece, count - first), (static_cast<void>(layouts), first)...);
  } else {
    const std::int64_t rows = std::int64_t{shape.n} * shape.h;
#pragma omp parallel for schedule(static) if (count > worth_a_thread)
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t w = 0; w < shape.w; ++w)
        f((row * shape.w + w) * shape.c, std::int64_t{shape.c},
          (row / shape.h * layouts.strides.n + row % shape.h * layouts.strides.h + w * layouts.strides.w)...);
  }
}

/// As with_activation, with std::bool_constant<accumulate>.
template <class F>
decltype(auto) with_write(Write write, const F& f) {
  return write == Write::accumulate ? f(std::true_type{}) : f(std::false_type{});
}

}  // namespace microtome
