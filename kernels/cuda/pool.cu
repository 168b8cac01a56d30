// y = activation(max or mean over the window's cells inside the image); backward gathers, so that its order is fixed. x may be
// a deferred batch-norm's (deferred.h).
// Mapping: one thread for 16 bytes of channels, of y forward and of x backward; where backward leaves sums it walks down a
// chunk of pixels. A mean over whole images: one block for up to 32 channel vectors of an image, its lanes add. Traffic:
// forward reads x (R S / stride^2 times, from L2 but for the first), writes y and the mask, one byte an element; backward reads
// dy and mask likewise, and a deferred batch-norm's x, writes dx. The mask is the winner's place r S + s, or 255 where the relu
// killed it. Numerics: float32, rounded once; sums in a fixed order.
#include "kernels/cuda/deferred_tile.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"

#include <algorithm>

namespace microtome::cuda {

namespace {

constexpr std::uint8_t killed = 255;
constexpr int pool_summing_blocks = 2;  // up to 128 registers a thread, what gathering and summing take together

struct Geometry {
  Window window;
  int h, w, p, q;    // rows and columns of x and y
  unsigned vectors;  // channel vectors a pixel
  unsigned channels;
  bool max, relu;
};

/// One thread's pixel and its first channel.
struct Site {
  unsigned pixel, channel;
  int n, row, column;
  int live;  // channels; 0 past the end
};

__device__ inline Site site(unsigned pixel, unsigned channel, int live, int rows, int columns) {
  const unsigned cells = static_cast<unsigned>(rows * columns), cell = pixel % cells;
  return {pixel, channel, static_cast<int>(pixel / cells), static_cast<int>(cell) / columns, static_cast<int>(cell) % columns,
          live};
}

template <int V>
__device__ inline Site site_of_thread(const Geometry& g, unsigned pixels, int rows, int columns) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned pixel = i / g.vectors, channel = (i - pixel * g.vectors) * V;
  if (pixel >= pixels) return {};
  const unsigned left = g.channels - channel;
  return site(pixel, channel, left < V ? static_cast<int>(left) : V, rows, columns);
}

/// The window of one output along one axis: cells [first, last) lie inside, `before` of the kernel's lie outside.
struct Range {
  int first, last, start;
};
__device__ inline Range inside(int output, int stride, int before, int kernel, int size) {
  const int start = output * stride - before;
  return {max(start, 0), min(start + kernel, size), start};
}

/// The mask is packed; null where none is kept.
template <int V>
__device__ inline void store_mask(std::uint8_t* mask, unsigned pixel, unsigned channels, unsigned channel, int live,
                                  const std::uint8_t (&winner)[V]) {
  if (mask == nullptr) return;
  std::uint8_t* to = mask + std::size_t{pixel} * channels + channel;
  if (live == V && channels % V == 0) {
    Vector<std::uint8_t, V> together;
#pragma unroll
    for (int i = 0; i < V; ++i) together.at[i] = winner[i];
    *reinterpret_cast<Vector<std::uint8_t, V>*>(to) = together;
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < live) to[i] = winner[i];
    }
  }
}

template <int V>
__device__ inline void load_mask(const std::uint8_t* mask, unsigned pixel, unsigned channels, unsigned channel, int live,
                                 std::uint8_t (&winner)[V]) {
  if (mask == nullptr) return;
  const std::uint8_t* from = mask + std::size_t{pixel} * channels + channel;
  if (live == V && channels % V == 0) {
    const auto together = *reinterpret_cast<const Vector<std::uint8_t, V>*>(from);
#pragma unroll
    for (int i = 0; i < V; ++i) winner[i] = together.at[i];
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < live) winner[i] = from[i];
    }
  }
}

/// What the relu kills passes no gradient, wherever it came from.
template <int V>
__device__ inline void clamp(float (&result)[V], std::uint8_t (&winner)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (!(result[i] > 0)) winner[i] = killed;
    result[i] = activate(Activation::relu, result[i]);
  }
}

template <class T, int V, bool deferred>
__global__ void __launch_bounds__(block_threads) pool_forward(Geometry g, unsigned pixels, Norm norm, const T* x,
                                                              PixelOffset at_x, T* y, PixelOffset at_y, std::uint8_t* mask) {
  const Site mine = site_of_thread<V>(g, pixels, g.p, g.q);
  if (mine.live == 0) return;
  NormOf<V> of_mine;
  if constexpr (deferred) of_mine = load_norm<V>(norm, mine.channel, mine.live);
  const Range rows = inside(mine.row, g.window.stride.h, g.window.before.h, g.window.kernel.h, g.h);
  const Range columns = inside(mine.column, g.window.stride.w, g.window.before.w, g.window.kernel.w, g.w);
  float result[V] = {};
  std::uint8_t winner[V] = {};
  bool first = true;
  for (int r = rows.first; r < rows.last; ++r) {
    for (int c = columns.first; c < columns.last; ++c) {
      float cell[V] = {};
      load<V>(cell, x + at_x(static_cast<unsigned>((mine.n * g.h + r) * g.w + c)) + mine.channel, mine.live);
      if constexpr (deferred) apply<V>(of_mine, norm.activation, cell);
      const auto index = static_cast<std::uint8_t>((r - rows.start) * g.window.kernel.w + (c - columns.start));
#pragma unroll
      for (int i = 0; i < V; ++i) {
        // A NaN wins over every number and keeps its place.
        const bool wins = first || cell[i] > result[i] || (isnan(cell[i]) && !isnan(result[i]));
        if (!g.max) {
          result[i] += cell[i];
        } else if (wins) {
          result[i] = cell[i];
          winner[i] = index;
        }
      }
      first = false;
    }
  }
  const auto count = static_cast<float>((rows.last - rows.first) * (columns.last - columns.first));
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (!g.max) result[i] /= count;
  }
  if (g.relu) clamp<V>(result, winner);
  store<V>(y + at_y(mine.pixel) + mine.channel, result, mine.live);
  store_mask<V>(mask, mine.pixel, g.channels, mine.channel, mine.live, winner);
}

/// The mean over each image; the tile's chunks are images.
template <class T, int V, bool deferred>
__global__ void __launch_bounds__(block_threads)
    pool_forward_images(Tile tile, bool relu, Norm norm, const T* x, PixelOffset at_x, T* y, PixelOffset at_y,
                        std::uint8_t* mask) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  float sum[V] = {};
  if (mine.live > 0) {
    NormOf<V> of_mine;
    if constexpr (deferred) of_mine = load_norm<V>(norm, mine.channel, mine.live);
    for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
      float cell[V] = {};
      load<V>(cell, x + at_x(pixel) + mine.channel, mine.live);
      if constexpr (deferred) apply<V>(of_mine, norm.activation, cell);
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] += cell[i];
    }
  }
  sum_over_lanes<V>(tile, mine.lane, sum);
  if (mine.lane > 0 || mine.live == 0) return;
  const auto count = static_cast<float>(tile.chunk);
#pragma unroll
  for (int i = 0; i < V; ++i) sum[i] /= count;
  std::uint8_t winner[V] = {};
  if (relu) clamp<V>(sum, winner);
  store<V>(y + at_y(blockIdx.y) + mine.channel, sum, mine.live);
  store_mask<V>(mask, blockIdx.y, tile.channels, mine.channel, mine.live, winner);
}

/// The gradient of one cell of the image: of every output whose window covers it, its share.
template <class T, int V, bool max>
__device__ inline void gather(const Geometry& g, const Site& mine, const T* dy, const PixelOffset& at_dy,
                              const std::uint8_t* mask, float (&gradient)[V]) {
  const Window& window = g.window;
  const int row = mine.row + window.before.h, column = mine.column + window.before.w;  // in the padded image
  // Outputs whose window covers this cell: p stride <= row < p stride + kernel.
  const int first_p = row < window.kernel.h ? 0 : (row - window.kernel.h) / window.stride.h + 1;
  const int first_q = column < window.kernel.w ? 0 : (column - window.kernel.w) / window.stride.w + 1;
  const int last_p = min(row / window.stride.h, g.p - 1), last_q = min(column / window.stride.w, g.q - 1);
  for (int p = first_p; p <= last_p; ++p) {
    for (int q = first_q; q <= last_q; ++q) {
      const auto pixel = static_cast<unsigned>((mine.n * g.p + p) * g.q + q);
      float share_of_y[V] = {};
      std::uint8_t winner[V] = {};
      load<V>(share_of_y, dy + at_dy(pixel) + mine.channel, mine.live);
      load_mask<V>(mask, pixel, g.channels, mine.channel, mine.live, winner);
      [[maybe_unused]] const int winning = (row - p * window.stride.h) * window.kernel.w + (column - q * window.stride.w);
      [[maybe_unused]] float part = 0;
      if constexpr (!max) {
        const Range rows = inside(p, window.stride.h, window.before.h, window.kernel.h, g.h);
        const Range columns = inside(q, window.stride.w, window.before.w, window.kernel.w, g.w);
        part = 1.0f / static_cast<float>((rows.last - rows.first) * (columns.last - columns.first));
      }
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if constexpr (max) {
          gradient[i] += winner[i] == winning ? share_of_y[i] : 0.0f;
        } else {
          gradient[i] += winner[i] == killed ? 0.0f : share_of_y[i] * part;
        }
      }
    }
  }
}

/// Four blocks a multiprocessor: left to itself the compiler spills where one element a thread is averaged.
template <class T, int V, bool max>
__global__ void __launch_bounds__(block_threads, 4)
    pool_backward(Geometry g, unsigned pixels, const T* dy, PixelOffset at_dy, const std::uint8_t* mask, T* dx,
                  PixelOffset at_dx, bool accumulate) {
  const Site mine = site_of_thread<V>(g, pixels, g.h, g.w);
  if (mine.live == 0) return;
  float gradient[V] = {};
  gather<T, V, max>(g, mine, dy, at_dy, mask, gradient);
  write<V>(dx + at_dx(mine.pixel) + mine.channel, gradient, accumulate, mine.live);
}

template <class T, int V, bool max>
__global__ void __launch_bounds__(block_threads, pool_summing_blocks)
    pool_backward_deferred(Tile tile, Geometry g, Norm norm, const T* x, PixelOffset at_x, const T* dy, PixelOffset at_dy,
                           const std::uint8_t* mask, T* dx, PixelOffset at_dx, bool accumulate, float* sums) {
  backward_through<T, V>(tile, norm, x, at_x, dx, at_dx, accumulate, sums,
                         [&](unsigned pixel, const ThreadCoordinates& mine, float(&gradient)[V]) {
                           gather<T, V, max>(g, site(pixel, mine.channel, mine.live, g.h, g.w), dy, at_dy, mask, gradient);
                         });
}

class CudaPool final : public PoolOp {
 public:
  CudaPool(Context& context, const Pool& kind, const Layout& x, const Layout& y)
      : context_(context),
        deferred_(kind.deferred),
        geometry_{kind.window,
                  x.shape.h,
                  x.shape.w,
                  y.shape.h,
                  y.shape.w,
                  0,
                  static_cast<unsigned>(x.shape.c),
                  kind.kind == Pool::Kind::max,
                  kind.activation == Activation::relu},
        rows_(sum_rows_of(x, context.multiprocessors(), pool_summing_blocks)) {
    if (geometry_.max || geometry_.relu) mask_ = context.allocate(static_cast<std::size_t>(y.shape.count()));
    memory.kept = mask_.size_bytes();
  }

  void forward(const Tensor& x, const Deferred* deferred, const Tensor& y) override {
    const Norm norm = norm_of(deferred, deferred_);
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(y, widest);
      const int v = wide ? widest : 1;
      if (averages_images()) {
        const Tile tile = tile_of_images(x, v);
        const auto kernel = deferred ? (wide ? pool_forward_images<T, widest, true> : pool_forward_images<T, 1, true>)
                                     : (wide ? pool_forward_images<T, widest, false> : pool_forward_images<T, 1, false>);
        launch("pool_forward_images", context_, grid(tile), block_threads, kernel, tile, geometry_.relu, norm, x.as<const T>(),
               offset_of(x), y.as<T>(), offset_of(y), mask());
      } else {
        const Geometry g = geometry(v);
        const auto pixels = static_cast<unsigned>(y.shape.n * y.shape.h * y.shape.w);
        const auto kernel = deferred ? (wide ? pool_forward<T, widest, true> : pool_forward<T, 1, true>)
                                     : (wide ? pool_forward<T, widest, false> : pool_forward<T, 1, false>);
        launch("pool_forward", context_, blocks_for(pixels * g.vectors), block_threads, kernel, g, pixels, norm,
               x.as<const T>(), offset_of(x), y.as<T>(), offset_of(y), mask());
      }
    });
  }

  void backward(const Tensor& dy, const Deferred* deferred, const Tensor& dx, Write mode) override {
    const Norm norm = norm_of(deferred, deferred_);
    by_type(dy.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide =
          is_aligned(dy, widest) && is_aligned(dx, widest) && (deferred == nullptr || is_aligned(deferred->x, widest));
      const Geometry g = geometry(wide ? widest : 1);
      if (deferred) {
        const Tensor& x = deferred->x;
        const Tile tile = summing_tile(dx, wide ? widest : 1, rows_);
        const auto kernel = g.max ? (wide ? pool_backward_deferred<T, widest, true> : pool_backward_deferred<T, 1, true>)
                                  : (wide ? pool_backward_deferred<T, widest, false> : pool_backward_deferred<T, 1, false>);
        launch("pool_backward_deferred", context_, grid(tile), block_threads, kernel, tile, g, norm, x.as<const T>(),
               offset_of(x), dy.as<const T>(), offset_of(dy), mask(), dx.as<T>(), offset_of(dx), mode == Write::accumulate,
               sums_of(deferred, rows_));
      } else {
        const auto pixels = static_cast<unsigned>(dx.shape.n * dx.shape.h * dx.shape.w);
        const auto kernel = g.max ? (wide ? pool_backward<T, widest, true> : pool_backward<T, 1, true>)
                                  : (wide ? pool_backward<T, widest, false> : pool_backward<T, 1, false>);
        launch("pool_backward", context_, blocks_for(pixels * g.vectors), block_threads, kernel, g, pixels, dy.as<const T>(),
               offset_of(dy), mask(), dx.as<T>(), offset_of(dx), mode == Write::accumulate);
      }
    });
  }

  int sum_rows() const override { return rows_; }
  Reads backward_reads() const override { return {.x = deferred_.has_value()}; }
  std::string implementation() const override { return "own"; }

 private:
  bool averages_images() const {
    const Window& w = geometry_.window;
    return !geometry_.max && w.kernel == Extent(geometry_.h, geometry_.w) && w.before == Extent(0) && w.after == Extent(0);
  }

  Geometry geometry(int v) const {
    Geometry g = geometry_;
    g.vectors = (g.channels + static_cast<unsigned>(v) - 1) / static_cast<unsigned>(v);
    return g;
  }

  std::uint8_t* mask() const { return static_cast<std::uint8_t*>(mask_.data()); }

  Context& context_;
  DeferredNorm deferred_;
  Geometry geometry_;
  int rows_;
  Buffer mask_;
};

}  // namespace

std::unique_ptr<PoolOp> make_pool(Context& context, const Pool& kind, const Layout& x, const Layout& y) {
  require(y.shape == kind.window.output(x.shape, x.shape.c) && x.dtype == y.dtype, "pool: y is ", to_string(y.shape), " for x ",
          to_string(x.shape));
  if (kind.activation != Activation::none && kind.activation != Activation::relu) return nullptr;
  require(kind.kind == Pool::Kind::average || kind.window.kernel.h * kind.window.kernel.w <= killed,
          "pool: a max over more than 255 cells");
  require(x.shape.n <= 65535, "pool: a batch has at most 65535 images");
  return std::make_unique<CudaPool>(context, kind, x, y);
}

}  // namespace microtome::cuda
