// y[n,h,w,c] = x[n,h,w,c] gate[n,c]; dx (+)= dy gate; dgate[n,c] (+)= sum over h w of x dy.
// Mapping: y and dx one thread for 16 bytes of a pixel's channels; dgate one block for up to 32 channel vectors of an image, a
// thread keeps its channels and walks down the image. Traffic: every tensor once, the gate from L1. Numerics: float32, sums in
// a fixed order, rounded once.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/tile.h"
#include "kernels/cuda/vector.h"

namespace microtome::cuda {

namespace {

/// Both ways: from x to y, and from dy to dx. `cells` pixels an image, gates of images `step` apart.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    multiply_gated(Sheet sheet, unsigned cells, const T* x, Place at_x, const T* gate, std::int64_t step, T* y, Place at_y,
                   bool accumulate) {
  const Share mine = share<V>(sheet);
  if (mine.live == 0) return;
  float values[V] = {}, factors[V] = {};
  load<V>(values, x + at_x(mine.row) + mine.column, mine.live);
  load<V>(factors, gate + mine.row / cells * step + mine.column, mine.live);
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] *= factors[i];
  write<V>(y + at_y(mine.row) + mine.column, values, accumulate, mine.live);
}

/// The tile's chunks are images.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    multiply_backward_gate(Tile tile, const T* x, Place at_x, const T* dy, Place at_dy, T* dgate, std::int64_t step,
                           bool accumulate) {
  const Seat mine = seat<V>(tile);
  float sum[V] = {};
  if (mine.live > 0) {
    for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
      float value[V] = {}, gradient[V] = {};
      load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
      load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] += value[i] * gradient[i];
    }
  }
  __shared__ float sums[V][block_threads];
#pragma unroll
  for (int i = 0; i < V; ++i) sums[i][threadIdx.x] = sum[i];
  for (unsigned half = tile.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (mine.lane < half) {
#pragma unroll
      for (int i = 0; i < V; ++i) sums[i][threadIdx.x] += sums[i][threadIdx.x + half * tile.columns];
    }
  }
  if (mine.lane != 0 || mine.live == 0) return;
#pragma unroll
  for (int i = 0; i < V; ++i) sum[i] = sums[i][threadIdx.x];
  write<V>(dgate + std::int64_t{blockIdx.y} * step + mine.channel, sum, accumulate, mine.live);
}

class CudaMultiply final : public MultiplyOp {
 public:
  explicit CudaMultiply(Context& context) : context_(context) {}

  void forward(const Tensor& x, const Deferred*, const Tensor& gate, const Tensor& y) override {
    gated(x, gate, y, Write::overwrite);
  }
  void backward_data(const Tensor& dy, const Tensor& gate, const Deferred*, const Tensor& dx, Write mode) override {
    gated(dy, gate, dx, mode);
  }

  void backward_gate(const Tensor& x, const Deferred*, const Tensor& dy, const Tensor& dgate, Write mode) override {
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(dy, widest) && is_aligned(dgate, widest);
      const auto cells = static_cast<unsigned>(x.shape.h * x.shape.w), images = static_cast<unsigned>(x.shape.n);
      Tile tile = tile_for(static_cast<unsigned>(x.shape.c), images * cells, wide ? widest : 1, context_.multiprocessors());
      tile.chunk = cells;
      launch("multiply_backward_gate", context_, grid(tile), block_threads,
             wide ? multiply_backward_gate<T, widest> : multiply_backward_gate<T, 1>, tile, x.as<const T>(), place(x),
             dy.as<const T>(), place(dy), dgate.as<T>(), dgate.strides.n, mode == Write::accumulate);
    });
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  void gated(const Tensor& x, const Tensor& gate, const Tensor& y, Write mode) {
    by_type(x.dtype, [&]<class T>(T) {
      const Walk walk(y, {&x, &gate, &y}, vector_width<T>, true);
      launch("multiply_gated", context_, blocks_for(walk.sheet.count()), block_threads,
             walk.wide ? multiply_gated<T, vector_width<T>> : multiply_gated<T, 1>, walk.sheet,
             static_cast<unsigned>(x.shape.h * x.shape.w), x.as<const T>(), place(x), gate.as<const T>(), gate.strides.n,
             y.as<T>(), place(y), mode == Write::accumulate);
    });
  }

  Context& context_;
};

}  // namespace

std::unique_ptr<MultiplyOp> make_multiply(Context& context, const Multiply& kind, const Layout& x, const Layout& gate,
                                          const Layout& y) {
  require(x.shape == y.shape && x.dtype == y.dtype && gate.dtype == x.dtype && gate.shape == Shape{x.shape.n, 1, 1, x.shape.c},
          "multiply: x ", to_string(x.shape), ", gate ", to_string(gate.shape), " and y ", to_string(y.shape), " do not fit");
  require(x.shape.n <= 65535, "multiply: a batch has at most 65535 images");
  if (kind.deferred) return nullptr;
  return std::make_unique<CudaMultiply>(context);
}

}  // namespace microtome::cuda
