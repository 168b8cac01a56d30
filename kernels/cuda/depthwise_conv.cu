// Depthwise convolution and its gradients; w: C R S 1.
//   y[n,p,q,c] = activation(b[c] + sum over r s of x[n, p stride - before + r, q stride - before + s, c] w[c,r,s])
// Mapping: a thread takes 16 bytes of channels; for 3x3 at stride 1 or 2 a block up to 32 such vectors of many strips of
// outputs side by side, filters in shared memory or filter gradients in registers, whose partial sums a second kernel adds. Any
// other kernel, and what is not aligned, goes output by output. Traffic: every tensor once, but for the cells that neighbouring
// strips share, which come from L1 or L2. Numerics: float32, sums in a fixed order, rounded once.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/tile.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/activation.h"

#include <algorithm>

namespace microtome::cuda {

namespace {

constexpr int side = 3, taps = side * side;
constexpr int strip = 4, filter_strip = 2;  // beside nine sums a channel there are no registers for four gradients
constexpr unsigned most_columns = 32;       // channel vectors a block

// Blocks a multiprocessor: enough that the last ones to end leave little idle; with sums, whose blocks end in work of their
// own, as many as run at once.
constexpr unsigned blocks_without_sums = 8, blocks_with_sums = 2;

struct Geometry {
  Window window;
  int n, h, w, p, q;
  unsigned channels;
};

/// A tensor in memory; P is T* or const T*.
template <class P>
struct View {
  P data;
  Strides strides;

  __device__ P at(int n, int row, int column, unsigned channel) const {
    return data + (n * strides.n + row * strides.h + column * strides.w + channel);
  }
};

// ------------------------------------------------------------------------------------------------------- 3x3, by strips

/// blockIdx.y counts tiles of `columns` channel vectors; a block walks over strips, `lanes` at a time.
struct Strips {
  unsigned columns, lanes, tiles;
  unsigned a_row, count;  // strips in a row of an image; in all
  unsigned blocks;
};

/// Equal tiles: 84 vectors are three times 28.
template <int V>
Strips strips_for(const Geometry& g, int rows, int strips_a_row, int multiprocessors, unsigned blocks_a_multiprocessor) {
  const unsigned vectors = g.channels / V, tiles = (vectors + most_columns - 1) / most_columns;
  Strips s{(vectors + tiles - 1) / tiles, 0, tiles, static_cast<unsigned>(strips_a_row), 0, 0};
  s.lanes = block_threads / s.columns;
  s.count = static_cast<unsigned>(g.n * rows) * s.a_row;
  const unsigned wanted = blocks_a_multiprocessor * static_cast<unsigned>(multiprocessors) / tiles;
  s.blocks = std::clamp((s.count + s.lanes - 1) / s.lanes, 1u, std::max(wanted, 1u));
  return s;
}

struct Post {
  unsigned column, lane, channel;  // the first channel
  bool idle;
};

template <int V>
__device__ inline Post post(const Strips& s, unsigned channels) {
  const unsigned column = threadIdx.x % s.columns, lane = threadIdx.x / s.columns;
  const unsigned channel = (blockIdx.y * s.columns + column) * V;
  return {column, lane, channel, lane >= s.lanes || channel >= channels};
}

struct Spot {
  int n, row, first;  // image, row, number of the strip in it
};

__device__ inline Spot spot_of(const Strips& s, unsigned number, int rows) {
  const unsigned row = number / s.a_row;
  return {static_cast<int>(row) / rows, static_cast<int>(row) % rows, static_cast<int>(number - row * s.a_row)};
}

/// The filters of a block's channels, tap by tap. The padding spreads what lies together in memory over the banks.
template <int V>
struct alignas(32) Filters {
  float at[taps][most_columns * V + 8];
};

template <class T, int V>
__device__ inline void load_filters(Filters<V>& filters, const Strips& s, unsigned channels, const T* w) {
  const unsigned first = blockIdx.y * s.columns * V, count = min(s.columns * V, channels - first) * taps;
  for (unsigned i = threadIdx.x; i < count; i += block_threads)
    filters.at[i % taps][i / taps] = to_float(w[std::size_t{first} * taps + i]);
  __syncthreads();
}

/// The three taps of row r for a thread's channels.
template <int V>
__device__ inline void load_row(float (&row)[side][V], const Filters<V>& filters, int r, unsigned column) {
#pragma unroll
  for (int s = 0; s < side; ++s) load<V>(row[s], &filters.at[r * side + s][column * V]);
}

template <class T, int V, int Stride>
__global__ void __launch_bounds__(block_threads)
    depthwise_forward_strips(Geometry g, Strips strips, Activation activation, View<const T*> x, const T* w, const float* b,
                             View<T*> y) {
  __shared__ Filters<V> filters;
  load_filters<T, V>(filters, strips, g.channels, w);
  const Post mine = post<V>(strips, g.channels);
  if (mine.idle) return;
  for (unsigned i = blockIdx.x * strips.lanes + mine.lane; i < strips.count; i += gridDim.x * strips.lanes) {
    const Spot at = spot_of(strips, i, g.p);
    const int q = at.first * strip;
    float sums[strip][V] = {};
#pragma unroll
    for (int r = 0; r < side; ++r) {
      const int row = at.row * Stride - g.window.before.h + r;
      if (row < 0 || row >= g.h) continue;
      float filter[side][V];
      load_row<V>(filter, filters, r, mine.column);
#pragma unroll
      for (int j = 0; j < (strip - 1) * Stride + side; ++j) {
        const int column = q * Stride - g.window.before.w + j;
        float cell[V] = {};
        if (column >= 0 && column < g.w) load<V>(cell, x.at(at.n, row, column, mine.channel));
#pragma unroll
        for (int o = 0; o < strip; ++o) {
          const int s = j - o * Stride;
          if (s < 0 || s >= side) continue;
#pragma unroll
          for (int k = 0; k < V; ++k) sums[o][k] += cell[k] * filter[s][k];
        }
      }
    }
#pragma unroll
    for (int o = 0; o < strip; ++o) {
      if (q + o >= g.q) continue;
#pragma unroll
      for (int k = 0; k < V; ++k)
        sums[o][k] = activate(activation, b == nullptr ? sums[o][k] : sums[o][k] + b[mine.channel + k]);
      store<V>(y.at(at.n, at.row, q + o, mine.channel), sums[o]);
    }
  }
}

/// Strips of dx. They start at multiples of four in the padded image, so that which dy meets which tap is known beforehand:
/// cell u and tap s belong to output q where u = q stride + s.
template <class T, int V, int Stride>
__global__ void __launch_bounds__(block_threads)
    depthwise_backward_data_strips(Geometry g, Strips strips, View<const T*> dy, const T* w, View<T*> dx, bool accumulate) {
  __shared__ Filters<V> filters;
  load_filters<T, V>(filters, strips, g.channels, w);
  const Post mine = post<V>(strips, g.channels);
  if (mine.idle) return;
  for (unsigned i = blockIdx.x * strips.lanes + mine.lane; i < strips.count; i += gridDim.x * strips.lanes) {
    const Spot at = spot_of(strips, i, g.h);
    const int u = (g.window.before.w / strip + at.first) * strip;
    float sums[strip][V] = {};
#pragma unroll
    for (int r = 0; r < side; ++r) {
      const int v = at.row + g.window.before.h - r, p = v / Stride;
      if (v < 0 || v % Stride != 0 || p >= g.p) continue;
      float filter[side][V];
      load_row<V>(filter, filters, r, mine.column);
#pragma unroll
      for (int start = 1 - side; start < strip; ++start) {  // where the output's window starts in the strip
        if (start % Stride != 0) continue;
        const int q = (u + start) / Stride;
        float gradient[V] = {};
        if (u + start >= 0 && q < g.q) load<V>(gradient, dy.at(at.n, p, q, mine.channel));
#pragma unroll
        for (int s = 0; s < side; ++s) {
          if (start + s < 0 || start + s >= strip) continue;
#pragma unroll
          for (int k = 0; k < V; ++k) sums[start + s][k] += gradient[k] * filter[s][k];
        }
      }
    }
#pragma unroll
    for (int o = 0; o < strip; ++o) {
      const int column = u + o - g.window.before.w;
      if (column >= 0 && column < g.w) write<V>(dx.at(at.n, at.row, column, mine.channel), sums[o], accumulate);
    }
  }
}

/// partial: a block's share of dw a row.
template <class T, int V, int Stride>
__global__ void __launch_bounds__(block_threads, blocks_with_sums)
    depthwise_backward_filter_strips(Geometry g, Strips strips, View<const T*> x, View<const T*> dy, float* partial) {
  const Post mine = post<V>(strips, g.channels);
  float sums[taps][V] = {};
  for (unsigned i = blockIdx.x * strips.lanes + mine.lane; !mine.idle && i < strips.count; i += gridDim.x * strips.lanes) {
    const Spot at = spot_of(strips, i, g.p);
    const int q = at.first * filter_strip;
    float gradient[filter_strip][V] = {};
#pragma unroll
    for (int o = 0; o < filter_strip; ++o) {
      if (q + o < g.q) load<V>(gradient[o], dy.at(at.n, at.row, q + o, mine.channel));
    }
#pragma unroll
    for (int r = 0; r < side; ++r) {
      const int row = at.row * Stride - g.window.before.h + r;
      if (row < 0 || row >= g.h) continue;
#pragma unroll
      for (int j = 0; j < (filter_strip - 1) * Stride + side; ++j) {
        const int column = q * Stride - g.window.before.w + j;
        float cell[V] = {};
        if (column >= 0 && column < g.w) load<V>(cell, x.at(at.n, row, column, mine.channel));
#pragma unroll
        for (int o = 0; o < filter_strip; ++o) {
          const int s = j - o * Stride;
          if (s < 0 || s >= side) continue;
#pragma unroll
          for (int k = 0; k < V; ++k) sums[r * side + s][k] += cell[k] * gradient[o][k];
        }
      }
    }
  }
  __shared__ float shares[V][block_threads];
  const unsigned live = strips.columns * V, column = threadIdx.x % strips.columns, k = threadIdx.x / strips.columns;
  const unsigned channel = (blockIdx.y * strips.columns + column) * V + k;
#pragma unroll
  for (int tap = 0; tap < taps; ++tap) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < V; ++i) shares[i][threadIdx.x] = sums[tap][i];
    __syncthreads();
    if (threadIdx.x >= live || channel >= g.channels) continue;
    float sum = 0;
    for (unsigned lane = 0; lane < strips.lanes; ++lane) sum += shares[k][lane * strips.columns + column];
    partial[(std::size_t{blockIdx.x} * g.channels + channel) * taps + tap] = sum;
  }
}

// ------------------------------------------------------------------------------------------------- any kernel, one by one

struct Site {
  int n, row, column;
  unsigned channel;
  int live;  // channels; 0 past the end
};

template <int V>
__device__ inline Site site(const Geometry& g, int rows, int columns) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, vectors = (g.channels + V - 1) / V;
  const unsigned pixel = i / vectors, channel = (i - pixel * vectors) * V, left = g.channels - channel;
  const auto cells = static_cast<unsigned>(rows * columns);
  if (pixel >= static_cast<unsigned>(g.n) * cells) return {0, 0, 0, 0, 0};
  const int cell = static_cast<int>(pixel % cells);
  return {static_cast<int>(pixel / cells), cell / columns, cell % columns, channel, left < V ? static_cast<int>(left) : V};
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    depthwise_forward_pixels(Geometry g, Activation activation, View<const T*> x, const T* w, const float* b, View<T*> y) {
  const Site mine = site<V>(g, g.p, g.q);
  if (mine.live == 0) return;
  const Extent& kernel = g.window.kernel;
  float sum[V] = {};
  for (int r = 0; r < kernel.h; ++r) {
    const int row = mine.row * g.window.stride.h - g.window.before.h + r;
    if (row < 0 || row >= g.h) continue;
    for (int s = 0; s < kernel.w; ++s) {
      const int column = mine.column * g.window.stride.w - g.window.before.w + s;
      if (column < 0 || column >= g.w) continue;
      float cell[V] = {};
      load<V>(cell, x.at(mine.n, row, column, mine.channel), mine.live);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        if (k < mine.live) sum[k] += cell[k] * to_float(w[((mine.channel + k) * kernel.h + r) * kernel.w + s]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < V; ++k) {
    if (b != nullptr && k < mine.live) sum[k] += b[mine.channel + k];
    sum[k] = activate(activation, sum[k]);
  }
  store<V>(y.at(mine.n, mine.row, mine.column, mine.channel), sum, mine.live);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    depthwise_backward_data_pixels(Geometry g, View<const T*> dy, const T* w, View<T*> dx, bool accumulate) {
  const Site mine = site<V>(g, g.h, g.w);
  if (mine.live == 0) return;
  const Extent &kernel = g.window.kernel, &stride = g.window.stride;
  float sum[V] = {};
  for (int r = 0; r < kernel.h; ++r) {
    const int v = mine.row + g.window.before.h - r, p = v / stride.h;
    if (v < 0 || v % stride.h != 0 || p >= g.p) continue;
    for (int s = 0; s < kernel.w; ++s) {
      const int u = mine.column + g.window.before.w - s, q = u / stride.w;
      if (u < 0 || u % stride.w != 0 || q >= g.q) continue;
      float gradient[V] = {};
      load<V>(gradient, dy.at(mine.n, p, q, mine.channel), mine.live);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        if (k < mine.live) sum[k] += gradient[k] * to_float(w[((mine.channel + k) * kernel.h + r) * kernel.w + s]);
      }
    }
  }
  write<V>(dx.at(mine.n, mine.row, mine.column, mine.channel), sum, accumulate, mine.live);
}

/// One tap a layer of the grid; the tile's pixels are y's. partial: a block's share of dw a row.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    depthwise_backward_filter_pixels(Geometry g, Tile tile, View<const T*> x, View<const T*> dy, float* partial) {
  const Seat mine = seat<V>(tile);
  const int tap = static_cast<int>(blockIdx.z), r = tap / g.window.kernel.w, s = tap % g.window.kernel.w;
  float sum[V] = {};
  for (unsigned pixel = mine.first + mine.lane; mine.live > 0 && pixel < mine.last; pixel += tile.lanes) {
    const int q = static_cast<int>(pixel) % g.q, line = static_cast<int>(pixel) / g.q, p = line % g.p, n = line / g.p;
    const int row = p * g.window.stride.h - g.window.before.h + r, column = q * g.window.stride.w - g.window.before.w + s;
    if (row < 0 || row >= g.h || column < 0 || column >= g.w) continue;
    float cell[V] = {}, gradient[V] = {};
    load<V>(cell, x.at(n, row, column, mine.channel), mine.live);
    load<V>(gradient, dy.at(n, p, q, mine.channel), mine.live);
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] += cell[k] * gradient[k];
  }
  __shared__ float sums[V][block_threads];
#pragma unroll
  for (int k = 0; k < V; ++k) sums[k][threadIdx.x] = sum[k];
  for (unsigned half = tile.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (mine.lane < half) {
#pragma unroll
      for (int k = 0; k < V; ++k) sums[k][threadIdx.x] += sums[k][threadIdx.x + half * tile.columns];
    }
  }
  if (mine.lane != 0) return;
#pragma unroll
  for (int k = 0; k < V; ++k) {
    if (k < mine.live)
      partial[(std::size_t{blockIdx.y} * g.channels + mine.channel + k) * gridDim.z + blockIdx.z] = sums[k][threadIdx.x];
  }
}

template <class T>
View<const T*> from(const Tensor& t) {
  return {t.as<const T>(), t.strides};
}
template <class T>
View<T*> to(const Tensor& t) {
  return {t.as<T>(), t.strides};
}

class DepthwiseConv final : public ConvOp {
 public:
  DepthwiseConv(Context& context, const Conv& conv, const Layout& x, const Layout& y)
      : context_(context),
        conv_(conv),
        geometry_{conv.window, x.shape.n, x.shape.h, x.shape.w, y.shape.h, y.shape.w, static_cast<unsigned>(x.shape.c)} {}

  void forward(const Tensor& x, const Deferred*, const Tensor& w, const Tensor* b, const Tensor& y, const Tensor*) override {
    require((b != nullptr) == conv_.bias && (b == nullptr || b->dtype == DType::f32), "conv: an f32 bias where there is one");
    const float* bias = b == nullptr ? nullptr : b->as<const float>();
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (by_strips(x, y, widest)) {
        const Strips strips = strips_of_y<widest>(strip, blocks_without_sums);
        launch("depthwise_forward_strips", context_, {strips.blocks, strips.tiles}, block_threads,
               doubles() ? depthwise_forward_strips<T, widest, 2> : depthwise_forward_strips<T, widest, 1>, geometry_, strips,
               conv_.activation, from<T>(x), w.as<const T>(), bias, to<T>(y));
      } else {
        const bool wide = is_aligned(x, widest) && is_aligned(y, widest);
        launch("depthwise_forward_pixels", context_, blocks_of(y, wide ? widest : 1), block_threads,
               wide ? depthwise_forward_pixels<T, widest> : depthwise_forward_pixels<T, 1>, geometry_, conv_.activation,
               from<T>(x), w.as<const T>(), bias, to<T>(y));
      }
    });
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Deferred*, const Tensor& dx, Write mode) override {
    const bool accumulate = mode == Write::accumulate;
    by_type(dy.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (by_strips(dy, dx, widest)) {
        const int before = conv_.window.before.w, a_row = (before + geometry_.w + strip - 1) / strip - before / strip;
        const Strips strips =
            strips_for<widest>(geometry_, geometry_.h, a_row, context_.multiprocessors(), blocks_without_sums);
        launch("depthwise_backward_data_strips", context_, {strips.blocks, strips.tiles}, block_threads,
               doubles() ? depthwise_backward_data_strips<T, widest, 2> : depthwise_backward_data_strips<T, widest, 1>,
               geometry_, strips, from<T>(dy), w.as<const T>(), to<T>(dx), accumulate);
      } else {
        const bool wide = is_aligned(dy, widest) && is_aligned(dx, widest);
        launch("depthwise_backward_data_pixels", context_, blocks_of(dx, wide ? widest : 1), block_threads,
               wide ? depthwise_backward_data_pixels<T, widest> : depthwise_backward_data_pixels<T, 1>, geometry_, from<T>(dy),
               w.as<const T>(), to<T>(dx), accumulate);
      }
    });
  }

  void backward_filter(const Tensor& x, const Deferred*, const Tensor& dy, const Tensor& dw, const Tensor* db,
                       Write mode) override {
    require(dw.dtype == DType::f32 && dw.is_packed(), "conv: dw is packed f32");
    const auto weights = static_cast<unsigned>(dw.shape.count());
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const std::size_t row_bytes = weights * sizeof(float);
      if (by_strips(x, dy, widest)) {
        const Strips strips = strips_of_y<widest>(filter_strip, blocks_with_sums);
        auto* partial = reinterpret_cast<float*>(context_.scratch(strips.blocks * row_bytes));
        launch("depthwise_backward_filter_strips", context_, {strips.blocks, strips.tiles}, block_threads,
               doubles() ? depthwise_backward_filter_strips<T, widest, 2> : depthwise_backward_filter_strips<T, widest, 1>,
               geometry_, strips, from<T>(x), from<T>(dy), partial);
        add_rows(context_, strips.blocks, weights, partial, dw.as<float>(), mode);
      } else {
        const bool wide = is_aligned(x, widest) && is_aligned(dy, widest);
        const Tile tile = tile_for(geometry_.channels, static_cast<unsigned>(geometry_.n * geometry_.p * geometry_.q),
                                   wide ? widest : 1, context_.multiprocessors());
        dim3 blocks = grid(tile);
        blocks.z = weights / geometry_.channels;
        auto* partial = reinterpret_cast<float*>(context_.scratch(blocks.y * row_bytes));
        launch("depthwise_backward_filter_pixels", context_, blocks, block_threads,
               wide ? depthwise_backward_filter_pixels<T, widest> : depthwise_backward_filter_pixels<T, 1>, geometry_, tile,
               from<T>(x), from<T>(dy), partial);
        add_rows(context_, blocks.y, weights, partial, dw.as<float>(), mode);
      }
    });
    if (db != nullptr) column_sums(context_, dy, *db, mode, context_.scratch(column_sum_bytes(context_, dy)));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  bool by_strips(const Tensor& x, const Tensor& y, int v) const {
    const Window& window = conv_.window;
    return window.kernel == Extent(side) && (window.stride == Extent(1) || window.stride == Extent(2)) && x.shape.c % v == 0 &&
           is_aligned(x, v) && is_aligned(y, v);
  }
  bool doubles() const { return conv_.window.stride.h == 2; }

  template <int V>
  Strips strips_of_y(int length, unsigned blocks_a_multiprocessor) const {
    return strips_for<V>(geometry_, geometry_.p, (geometry_.q + length - 1) / length, context_.multiprocessors(),
                         blocks_a_multiprocessor);
  }

  static unsigned blocks_of(const Tensor& t, int v) {
    const auto pixels = static_cast<unsigned>(t.shape.n * t.shape.h * t.shape.w);
    return blocks_for(pixels * static_cast<unsigned>((t.shape.c + v - 1) / v));
  }

  Context& context_;
  Conv conv_;
  Geometry geometry_;
};

}  // namespace

std::unique_ptr<ConvOp> make_depthwise_conv(Context& context, const Conv& conv, const Layout& x, const Layout& y) {
  require(x.dtype == y.dtype, "conv: x and y of a depthwise convolution are of one type");
  if (conv.deferred || conv.statistics) return nullptr;
  return std::make_unique<DepthwiseConv>(context, conv, x, y);
}

}  // namespace microtome::cuda
