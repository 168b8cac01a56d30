// y[n,h,w,c] = x[n,h,w,c] gate[n,c]; dx (+)= dy gate; dgate[n,c] (+)= sum over h w of x dy; x may be a deferred batch-norm's.
// Mapping: y and dx one thread for 16 bytes of a pixel's channels, which walks down a chunk of pixels where a batch-norm is
// deferred; dgate one block for up to 32 channel vectors of an image, a thread keeps its channels and walks down the image.
// Traffic: every tensor once (dx of a deferred batch-norm reads x beside dy), the gate from L1. Numerics: float32, sums in a
// fixed order, rounded once.
#include "kernels/cuda/deferred_tile.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"

namespace microtome::cuda {

namespace {

/// gate[n,c]: images `step` apart, of `cells` pixels.
template <class T>
struct Gate {
  const T* data;
  std::int64_t step;
  unsigned cells;

  __device__ const T* operator()(unsigned pixel, unsigned channel) const { return data + pixel / cells * step + channel; }
};

/// Both ways: from x to y, and from dy to dx.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    multiply_gated(WorkExtent extent, Gate<T> gate, const T* x, PixelOffset at_x, T* y, PixelOffset at_y, bool accumulate) {
  const Slice mine = slice<V>(extent);
  if (mine.live == 0) return;
  float values[V] = {}, factors[V] = {};
  load<V>(values, x + at_x(mine.row) + mine.column, mine.live);
  load<V>(factors, gate(mine.row, mine.column), mine.live);
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] *= factors[i];
  write<V>(y + at_y(mine.row) + mine.column, values, accumulate, mine.live);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    multiply_forward_deferred(Tile tile, Norm norm, Gate<T> gate, const T* x, PixelOffset at_x, T* y, PixelOffset at_y) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  if (mine.live == 0) return;
  const NormOf<V> of_mine = load_norm<V>(norm, mine.channel, mine.live);
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float values[V] = {}, factors[V] = {};
    load<V>(values, x + at_x(pixel) + mine.channel, mine.live);
    load<V>(factors, gate(pixel, mine.channel), mine.live);
    apply<V>(of_mine, norm.activation, values);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] *= factors[i];
    store<V>(y + at_y(pixel) + mine.channel, values, mine.live);
  }
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads, summing_blocks)
    multiply_backward_deferred(Tile tile, Norm norm, Gate<T> gate, const T* x, PixelOffset at_x, const T* dy, PixelOffset at_dy,
                               T* dx, PixelOffset at_dx, bool accumulate, float* sums) {
  backward_through<T, V>(tile, norm, x, at_x, dx, at_dx, accumulate, sums,
                         [&](unsigned pixel, const ThreadCoordinates& mine, float(&gradient)[V]) {
                           float factors[V] = {};
                           load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
                           load<V>(factors, gate(pixel, mine.channel), mine.live);
#pragma unroll
                           for (int i = 0; i < V; ++i) gradient[i] *= factors[i];
                         });
}

/// The tile's chunks are images.
template <class T, int V, bool deferred>
__global__ void __launch_bounds__(block_threads)
    multiply_backward_gate(Tile tile, Norm norm, const T* x, PixelOffset at_x, const T* dy, PixelOffset at_dy, T* dgate,
                           std::int64_t step, bool accumulate) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  float sum[V] = {};
  if (mine.live > 0) {
    NormOf<V> of_mine;
    if constexpr (deferred) of_mine = load_norm<V>(norm, mine.channel, mine.live);
    for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
      float value[V] = {}, gradient[V] = {};
      load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
      load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
      if constexpr (deferred) apply<V>(of_mine, norm.activation, value);
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] += value[i] * gradient[i];
    }
  }
  sum_over_lanes<V>(tile, mine.lane, sum);
  if (mine.lane == 0 && mine.live > 0)
    write<V>(dgate + std::int64_t{blockIdx.y} * step + mine.channel, sum, accumulate, mine.live);
}

class CudaMultiply final : public MultiplyOp {
 public:
  CudaMultiply(Context& context, const Multiply& kind, const Layout& x)
      : context_(context), kind_(kind), rows_(sum_rows_of(x, context.multiprocessors())) {}

  void forward(const Tensor& x, const Deferred* deferred, const Tensor& gate, const Tensor& y) override {
    const Norm norm = norm_of(deferred, kind_.deferred);
    if (!deferred) return gated(x, gate, y, Write::overwrite);
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(gate, widest) && is_aligned(y, widest);
      const Tile tile = streaming_tile(x, wide ? widest : 1, context_.multiprocessors());
      launch("multiply_forward_deferred", context_, grid(tile), block_threads,
             wide ? multiply_forward_deferred<T, widest> : multiply_forward_deferred<T, 1>, tile, norm, view<T>(gate, x),
             x.as<const T>(), offset_of(x), y.as<T>(), offset_of(y));
    });
  }

  void backward_data(const Tensor& dy, const Tensor& gate, const Deferred* deferred, const Tensor& dx, Write mode) override {
    const Norm norm = norm_of(deferred, kind_.deferred);
    if (!deferred) return gated(dy, gate, dx, mode);
    by_type(dy.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const Tensor& x = deferred->x;
      const bool wide = is_aligned(x, widest) && is_aligned(gate, widest) && is_aligned(dy, widest) && is_aligned(dx, widest);
      const Tile tile = summing_tile(dx, wide ? widest : 1, rows_);
      launch("multiply_backward_deferred", context_, grid(tile), block_threads,
             wide ? multiply_backward_deferred<T, widest> : multiply_backward_deferred<T, 1>, tile, norm, view<T>(gate, dy),
             x.as<const T>(), offset_of(x), dy.as<const T>(), offset_of(dy), dx.as<T>(), offset_of(dx),
             mode == Write::accumulate, sums_of(deferred, rows_));
    });
  }

  void backward_gate(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dgate, Write mode) override {
    const Norm norm = norm_of(deferred, kind_.deferred);
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(dy, widest) && is_aligned(dgate, widest);
      const auto kernel = deferred ? (wide ? multiply_backward_gate<T, widest, true> : multiply_backward_gate<T, 1, true>)
                                   : (wide ? multiply_backward_gate<T, widest, false> : multiply_backward_gate<T, 1, false>);
      const Tile tile = tile_of_images(x, wide ? widest : 1);
      launch("multiply_backward_gate", context_, grid(tile), block_threads, kernel, tile, norm, x.as<const T>(), offset_of(x),
             dy.as<const T>(), offset_of(dy), dgate.as<T>(), dgate.strides.n, mode == Write::accumulate);
    });
  }

  int sum_rows() const override { return rows_; }
  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  template <class T>
  static Gate<T> view(const Tensor& gate, const Layout& x) {
    return {gate.as<const T>(), gate.strides.n, static_cast<unsigned>(x.shape.h * x.shape.w)};
  }

  void gated(const Tensor& x, const Tensor& gate, const Tensor& y, Write mode) {
    by_type(x.dtype, [&]<class T>(T) {
      const VectorLaunch vectors(y, {&x, &gate, &y}, vector_width<T>, true);
      launch("multiply_gated", context_, blocks_for(vectors.extent.count()), block_threads,
             vectors.wide ? multiply_gated<T, vector_width<T>> : multiply_gated<T, 1>, vectors.extent, view<T>(gate, x),
             x.as<const T>(), offset_of(x), y.as<T>(), offset_of(y), mode == Write::accumulate);
    });
  }

  Context& context_;
  Multiply kind_;
  int rows_;
};

}  // namespace

std::unique_ptr<MultiplyOp> make_multiply(Context& context, const Multiply& kind, const Layout& x, const Layout& gate,
                                          const Layout& y) {
  require(x.shape == y.shape && x.dtype == y.dtype && gate.dtype == x.dtype && gate.shape == Shape{x.shape.n, 1, 1, x.shape.c},
          "multiply: x ", to_string(x.shape), ", gate ", to_string(gate.shape), " and y ", to_string(y.shape), " do not fit");
  require(x.shape.n <= 65535, "multiply: a batch has at most 65535 images");
  return std::make_unique<CudaMultiply>(context, kind, x);
}

}  // namespace microtome::cuda
