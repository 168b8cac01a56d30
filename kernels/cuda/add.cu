// y = activation(a + b); dx (+)= dy, once for a and once for b. Either may be a deferred batch-norm's (deferred.h).
// Mapping: one thread for 16 bytes of neighbours; where a batch-norm is deferred a thread keeps its channels and walks down a
// chunk of pixels. Traffic: forward reads a and b, writes y; backward reads dy, and a deferred side's x, writes dx (and reads
// it to accumulate). Numerics: float32, rounded once; sums in a fixed order.
#include "kernels/cuda/deferred_tile.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"

namespace microtome::cuda {

namespace {

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    add_forward(WorkExtent extent, Activation activation, const T* a, PixelOffset at_a, const T* b, PixelOffset at_b, T* y,
                PixelOffset at_y) {
  const Slice mine = slice<V>(extent);
  if (mine.live == 0) return;
  float left[V] = {}, right[V] = {};
  load<V>(left, a + at_a(mine.row) + mine.column, mine.live);
  load<V>(right, b + at_b(mine.row) + mine.column, mine.live);
#pragma unroll
  for (int i = 0; i < V; ++i) left[i] = activate(activation, left[i] + right[i]);
  store<V>(y + at_y(mine.row) + mine.column, left, mine.live);
}

/// A side that is not deferred has the identity's coefficients: x - 0 and x 1 + 0 are exact.
template <int V>
__device__ inline NormOf<V> of_side(const Norm& norm, const ThreadCoordinates& mine) {
  if (norm.coefficients != nullptr) return load_norm<V>(norm, mine.channel, mine.live);
  NormOf<V> identity{};
#pragma unroll
  for (int i = 0; i < V; ++i) identity.scale[i] = 1;
  return identity;
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    add_forward_deferred(Tile tile, Activation activation, Norm of_a, const T* a, PixelOffset at_a, Norm of_b, const T* b,
                         PixelOffset at_b, T* y, PixelOffset at_y) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  if (mine.live == 0) return;
  const NormOf<V> to_a = of_side<V>(of_a, mine), to_b = of_side<V>(of_b, mine);
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float left[V] = {}, right[V] = {};
    load<V>(left, a + at_a(pixel) + mine.channel, mine.live);
    load<V>(right, b + at_b(pixel) + mine.channel, mine.live);
    apply<V>(to_a, of_a.activation, left);
    apply<V>(to_b, of_b.activation, right);
#pragma unroll
    for (int i = 0; i < V; ++i) left[i] = activate(activation, left[i] + right[i]);
    store<V>(y + at_y(pixel) + mine.channel, left, mine.live);
  }
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    add_backward(WorkExtent extent, const T* dy, PixelOffset at_dy, T* dx, PixelOffset at_dx, bool accumulate) {
  const Slice mine = slice<V>(extent);
  if (mine.live == 0) return;
  float gradient[V] = {};
  load<V>(gradient, dy + at_dy(mine.row) + mine.column, mine.live);
  write<V>(dx + at_dx(mine.row) + mine.column, gradient, accumulate, mine.live);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads, summing_blocks)
    add_backward_deferred(Tile tile, Norm norm, const T* x, PixelOffset at_x, const T* dy, PixelOffset at_dy, T* dx,
                          PixelOffset at_dx, bool accumulate, float* sums) {
  backward_through<T, V>(tile, norm, x, at_x, dx, at_dx, accumulate, sums,
                         [&](unsigned pixel, const ThreadCoordinates& mine, float(&gradient)[V]) {
                           load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
                         });
}

class CudaAdd final : public AddOp {
 public:
  CudaAdd(Context& context, const Add& kind, const Layout& y)
      : context_(context), kind_(kind), rows_(sum_rows_of(y, context.multiprocessors())) {}

  void forward(const Tensor& a, const Deferred* deferred_a, const Tensor& b, const Deferred* deferred_b,
               const Tensor& y) override {
    const Norm of_a = norm_of(deferred_a, kind_.deferred[0]), of_b = norm_of(deferred_b, kind_.deferred[1]);
    by_type(y.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (defers()) {
        const bool wide = is_aligned(a, widest) && is_aligned(b, widest) && is_aligned(y, widest);
        const Tile tile = streaming_tile(y, wide ? widest : 1, context_.multiprocessors());
        launch("add_forward_deferred", context_, grid(tile), block_threads,
               wide ? add_forward_deferred<T, widest> : add_forward_deferred<T, 1>, tile, kind_.activation, of_a,
               a.as<const T>(), offset_of(a), of_b, b.as<const T>(), offset_of(b), y.as<T>(), offset_of(y));
      } else {
        const VectorLaunch vectors(y, {&a, &b, &y}, widest);
        launch("add_forward", context_, blocks_for(vectors.extent.count()), block_threads,
               vectors.wide ? add_forward<T, widest> : add_forward<T, 1>, vectors.extent, kind_.activation, a.as<const T>(),
               offset_of(a), b.as<const T>(), offset_of(b), y.as<T>(), offset_of(y));
      }
    });
  }

  void backward(const Tensor& dy, const Deferred* deferred, Side side, const Tensor& dx, Write mode) override {
    const Norm norm = norm_of(deferred, kind_.deferred[side == Side::a ? 0 : 1]);
    by_type(dy.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (deferred) {
        const Tensor& x = deferred->x;
        const bool wide = is_aligned(x, widest) && is_aligned(dy, widest) && is_aligned(dx, widest);
        const Tile tile = summing_tile(dx, wide ? widest : 1, rows_);
        launch("add_backward_deferred", context_, grid(tile), block_threads,
               wide ? add_backward_deferred<T, widest> : add_backward_deferred<T, 1>, tile, norm, x.as<const T>(), offset_of(x),
               dy.as<const T>(), offset_of(dy), dx.as<T>(), offset_of(dx), mode == Write::accumulate, sums_of(deferred, rows_));
      } else {
        const VectorLaunch vectors(dy, {&dy, &dx}, widest);
        launch("add_backward", context_, blocks_for(vectors.extent.count()), block_threads,
               vectors.wide ? add_backward<T, widest> : add_backward<T, 1>, vectors.extent, dy.as<const T>(), offset_of(dy),
               dx.as<T>(), offset_of(dx), mode == Write::accumulate);
      }
    });
  }

  int sum_rows() const override { return rows_; }
  Reads backward_reads() const override { return {.x = defers()}; }
  std::string implementation() const override { return "own"; }

 private:
  bool defers() const { return kind_.deferred[0] || kind_.deferred[1]; }

  Context& context_;
  Add kind_;
  int rows_;
};

}  // namespace

std::unique_ptr<AddOp> make_add(Context& context, const Add& kind, const Layout& a, const Layout& b, const Layout& y) {
  require(a.shape == y.shape && b.shape == y.shape && a.dtype == y.dtype && b.dtype == y.dtype, "add: a ", to_string(a.shape),
          ", b ", to_string(b.shape), " and y ", to_string(y.shape), " differ");
  if (derivative_reads_x(kind.activation)) return nullptr;
  return std::make_unique<CudaAdd>(context, kind, y);
}

}  // namespace microtome::cuda
