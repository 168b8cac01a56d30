// Depthwise convolution and its gradients; w: C R S 1.
//   y[n,p,q,c] = activation(b[c] + sum over r s of x[n, p stride - before + r, q stride - before + s, c] w[c,r,s])
// 3x3 at stride 1 or 2 goes by strips (depthwise_strips.h), and there alone batch-norms are applied and statistics left. Any
// other kernel, and what is not aligned, goes output by output, a thread 16 bytes of channels or one. Traffic of these: every
// tensor once, the cells under several outputs' windows again from L1 or L2. Numerics: float32, sums in a fixed order, rounded
// once.
#include "kernels/cuda/depthwise_strips.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/tile.h"

#include <type_traits>

namespace microtome::cuda {

namespace {

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
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
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

/// f(constants...) for flags that a kernel is compiled for.
template <class F>
void by_flags(const F& f) {
  f();
}
template <class F, class... Flags>
void by_flags(const F& f, bool first, Flags... others) {
  by_flags([&](auto... constants) { first ? f(std::true_type{}, constants...) : f(std::false_type{}, constants...); },
           others...);
}

class DepthwiseConv final : public ConvOp {
 public:
  DepthwiseConv(Context& context, const Conv& conv, const Layout& x, const Layout& y)
      : context_(context),
        conv_(conv),
        geometry_{conv.window, x.shape.n, x.shape.h, x.shape.w, y.shape.h, y.shape.w, static_cast<unsigned>(x.shape.c)},
        strips_(has_strips(conv, x, y)) {
    if (!strips_) return;
    by_type(x.dtype, [&]<class T>(T) {
      forward_ = strips_of_y<vector_width<T>>();
      backward_ = strips_of_x<vector_width<T>>();
    });
  }

  /// Whether addresses alone decide if the kernels by strips can run.
  static bool has_strips(const Conv& conv, const Layout& x, const Layout& y) {
    const Window& window = conv.window;
    const int v = x.dtype == DType::bf16 ? vector_width<__nv_bfloat16> : vector_width<float>;
    return window.kernel == Extent(side) && (window.stride == Extent(1) || window.stride == Extent(2)) && x.shape.c % v == 0 &&
           is_aligned({x, nullptr}, v) && is_aligned({y, nullptr}, v);
  }

  void forward(const Tensor& x, const Deferred* deferred, const Tensor& w, const Tensor* b, const Tensor& y,
               const Tensor* statistics) override {
    require((b != nullptr) == conv_.bias && (b == nullptr || b->dtype == DType::f32), "conv: an f32 bias where there is one");
    require((statistics != nullptr) == conv_.statistics, "conv: statistics where none were planned, or none where they were");
    const Norm norm = norm_of(deferred, conv_.deferred);
    const float* bias = b == nullptr ? nullptr : b->as<const float>();
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (by_strips(x, y, widest)) {
        by_flags(
            [&](auto doubles, auto defers, auto measures) {
              launch("depthwise_forward_strips", context_, {forward_.blocks, forward_.tiles}, strip_threads,
                     depthwise_forward_strips < T, widest, doubles() ? 2 : 1, defers(), measures() >, geometry_, forward_,
                     conv_.activation, norm, from<T>(x), w.as<const T>(), bias, to<T>(y), rows_of(statistics));
            },
            doubles(), deferred != nullptr, statistics != nullptr);
      } else {
        const bool wide = is_aligned(x, widest) && is_aligned(y, widest);
        launch("depthwise_forward_pixels", context_, blocks_of(y, wide ? widest : 1), block_threads,
               wide ? depthwise_forward_pixels<T, widest> : depthwise_forward_pixels<T, 1>, geometry_, conv_.activation,
               from<T>(x), w.as<const T>(), bias, to<T>(y));
      }
    });
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Deferred* deferred, const Tensor& dx, Write mode) override {
    const bool accumulate = mode == Write::accumulate;
    by_type(dy.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (by_strips(dy, dx, widest)) {
        backward_by_strips<T, true, false>(deferred == nullptr ? Tensor{} : deferred->x, deferred, dy, w, dx, mode, nullptr);
      } else {
        const bool wide = is_aligned(dy, widest) && is_aligned(dx, widest);
        launch("depthwise_backward_data_pixels", context_, blocks_of(dx, wide ? widest : 1), block_threads,
               wide ? depthwise_backward_data_pixels<T, widest> : depthwise_backward_data_pixels<T, 1>, geometry_, from<T>(dy),
               w.as<const T>(), to<T>(dx), accumulate);
      }
    });
  }

  void backward_filter(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dw, const Tensor* db,
                       Write mode) override {
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (by_strips(x, dy, widest)) {
        float* partial = filter_rows(dw, backward_.blocks);
        backward_by_strips<T, false, true>(x, deferred, dy, {}, {}, Write::overwrite, partial);
        add_filter_rows(backward_.blocks, partial, dw, mode);
      } else {
        const bool wide = is_aligned(x, widest) && is_aligned(dy, widest);
        const Tile tile = tile_for(geometry_.channels, static_cast<unsigned>(geometry_.n * geometry_.p * geometry_.q),
                                   wide ? widest : 1, context_.multiprocessors());
        dim3 blocks = grid(tile);
        blocks.z = static_cast<unsigned>(dw.shape.count()) / geometry_.channels;
        float* partial = filter_rows(dw, blocks.y);
        launch("depthwise_backward_filter_pixels", context_, blocks, block_threads,
               wide ? depthwise_backward_filter_pixels<T, widest> : depthwise_backward_filter_pixels<T, 1>, geometry_, tile,
               from<T>(x), from<T>(dy), partial);
        add_filter_rows(blocks.y, partial, dw, mode);
      }
    });
    if (db != nullptr) column_sums(context_, dy, *db, mode, context_.scratch(column_sum_bytes(context_, dy)));
  }

  void backward(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& w, const Tensor& dx, Write write,
                const Tensor& dw, const Tensor* db) override {
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (!by_strips(x, dy, widest) || !is_aligned(dx, widest)) return ConvOp::backward(x, deferred, dy, w, dx, write, dw, db);
      float* partial = filter_rows(dw, backward_.blocks);
      backward_by_strips<T, true, true>(x, deferred, dy, w, dx, write, partial);
      add_filter_rows(backward_.blocks, partial, dw, Write::overwrite);
      if (db != nullptr) column_sums(context_, dy, *db, Write::overwrite, context_.scratch(column_sum_bytes(context_, dy)));
    });
  }

  bool fuses_backward() const override { return strips_; }
  int sum_rows() const override { return static_cast<int>(backward_.blocks); }
  int statistics_rows() const override { return static_cast<int>(forward_.blocks); }
  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  template <class T, bool Data, bool Filter>
  void backward_by_strips(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& w, const Tensor& dx,
                          Write mode, float* partial) {
    const Norm norm = norm_of(deferred, conv_.deferred);
    require(deferred == nullptr || is_aligned(x, vector_width<T>), "conv: x of a deferred batch-norm is not aligned");
    float* sums = Data ? sums_of(deferred, sum_rows()) : nullptr;
    by_flags(
        [&](auto doubles, auto defers) {
          launch("depthwise_backward_strips", context_, {backward_.blocks, backward_.tiles}, strip_threads,
                 depthwise_backward_strips < T, vector_width<T>, doubles() ? 2 : 1, Data, Filter, defers() >, geometry_,
                 backward_, norm, from<T>(x), from<T>(dy), w.as<const T>(), to<T>(dx), mode == Write::accumulate, sums,
                 partial);
        },
        doubles(), deferred != nullptr);
  }

  /// What only strips can do must find them.
  bool by_strips(const Tensor& a, const Tensor& b, int v) const {
    const bool aligned = strips_ && is_aligned(a, v) && is_aligned(b, v);
    require(aligned || !(conv_.deferred || conv_.statistics),
            "conv: tensors of a depthwise convolution with a deferred batch-norm or statistics begin on 16 bytes");
    return aligned;
  }
  bool doubles() const { return conv_.window.stride.h == 2; }

  float* rows_of(const Tensor* statistics) const {
    if (statistics == nullptr) return nullptr;
    require(statistics->dtype == DType::f32 && statistics->is_packed() &&
                statistics->shape == Shape{1, 1, statistics_rows(), 3 * static_cast<int>(geometry_.channels)},
            "conv: statistics are ", to_string(statistics->shape), " and not ", statistics_rows(), " packed f32 rows of ",
            3 * geometry_.channels);
    return statistics->as<float>();
  }

  float* filter_rows(const Tensor& dw, unsigned rows) {
    require(dw.dtype == DType::f32 && dw.is_packed(), "conv: dw is packed f32");
    return reinterpret_cast<float*>(context_.scratch(rows * static_cast<std::size_t>(dw.shape.count()) * sizeof(float)));
  }
  void add_filter_rows(unsigned rows, const float* partial, const Tensor& dw, Write mode) {
    add_rows(context_, rows, static_cast<unsigned>(dw.shape.count()), partial, dw.as<float>(), mode);
  }

  /// As many blocks as run at once where each ends in work of its own; else more, so that the last ones leave little idle.
  unsigned blocks(bool leave_sums, unsigned at_once) const {
    return (leave_sums ? at_once : 4 * at_once) * static_cast<unsigned>(context_.multiprocessors());
  }
  template <int V>
  Strips strips_of_y() const {
    constexpr int length = strip_length<V>;
    return strips_for<V>(geometry_, geometry_.p, (geometry_.q + length - 1) / length, geometry_.p, blocks(conv_.statistics, 3));
  }
  template <int V>
  Strips strips_of_x() const {
    constexpr int length = strip_length<V>;
    const int before = conv_.window.before.w, a_row = (before + geometry_.w + length - 1) / length - before / length;
    return strips_for<V>(geometry_, geometry_.h, a_row, 1, blocks(true, 2));
  }

  static unsigned blocks_of(const Tensor& t, int v) {
    const auto pixels = static_cast<unsigned>(t.shape.n * t.shape.h * t.shape.w);
    return blocks_for(pixels * static_cast<unsigned>((t.shape.c + v - 1) / v));
  }

  Context& context_;
  Conv conv_;
  Geometry geometry_;
  bool strips_;
  Strips forward_{}, backward_{};
};

}  // namespace

std::unique_ptr<ConvOp> make_depthwise_conv(Context& context, const Conv& conv, const Layout& x, const Layout& y) {
  require(x.dtype == y.dtype, "conv: x and y of a depthwise convolution are of one type");
  if ((conv.deferred || conv.statistics) && !DepthwiseConv::has_strips(conv, x, y)) return nullptr;
  return std::make_unique<DepthwiseConv>(context, conv, x, y);
}

}  // namespace microtome::cuda
