// y = activation(max or mean over the window's cells inside the image); backward gathers, so that its order is fixed.
// Mapping: one thread for 16 bytes of channels, of y forward and of x backward. Traffic: forward reads x (R S / stride^2 times,
// from L2 but for the first), writes y and the mask, one byte an element; backward reads dy and mask likewise, writes dx.
// The mask is the winner's place r S + s, or 255 where the relu killed it. Numerics: float32, rounded once.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/activation.h"

#include <algorithm>

namespace microtome::cuda {

namespace {

constexpr std::uint8_t killed = 255;

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

template <int V>
__device__ inline Site site(const Geometry& g, unsigned pixels, int rows, int columns) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned pixel = i / g.vectors, channel = (i - pixel * g.vectors) * V;
  if (pixel >= pixels) return {};
  const unsigned cells = static_cast<unsigned>(rows * columns), cell = pixel % cells, left = g.channels - channel;
  return {pixel,
          channel,
          static_cast<int>(pixel / cells),
          static_cast<int>(cell) / columns,
          static_cast<int>(cell) % columns,
          left < V ? static_cast<int>(left) : V};
}

/// The window of one output along one axis: cells [first, last) lie inside, `before` of the kernel's lie outside.
struct Range {
  int first, last, start;
};
__device__ inline Range inside(int output, int stride, int before, int kernel, int size) {
  const int start = output * stride - before;
  return {max(start, 0), min(start + kernel, size), start};
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    pool_forward(Geometry g, unsigned pixels, const T* x, Place at_x, T* y, Place at_y, std::uint8_t* mask) {
  const Site mine = site<V>(g, pixels, g.p, g.q);
  if (mine.live == 0) return;
  const Range rows = inside(mine.row, g.window.stride.h, g.window.before.h, g.window.kernel.h, g.h);
  const Range columns = inside(mine.column, g.window.stride.w, g.window.before.w, g.window.kernel.w, g.w);
  float result[V] = {};
  std::uint8_t winner[V] = {};
  bool first = true;
  for (int r = rows.first; r < rows.last; ++r) {
    for (int c = columns.first; c < columns.last; ++c) {
      float cell[V] = {};
      load<V>(cell, x + at_x(static_cast<unsigned>((mine.n * g.h + r) * g.w + c)) + mine.channel, mine.live);
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
    if (g.relu) {
      if (!(result[i] > 0)) winner[i] = killed;
      result[i] = activate(Activation::relu, result[i]);
    }
  }
  store<V>(y + at_y(mine.pixel) + mine.channel, result, mine.live);
  if (mask == nullptr) return;
  std::uint8_t* place_of_mask = mask + std::size_t{mine.pixel} * g.channels + mine.channel;
  if (mine.live == V && g.channels % V == 0) {
    Vector<std::uint8_t, V> packed_mask;
#pragma unroll
    for (int i = 0; i < V; ++i) packed_mask.at[i] = winner[i];
    *reinterpret_cast<Vector<std::uint8_t, V>*>(place_of_mask) = packed_mask;
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < mine.live) place_of_mask[i] = winner[i];
    }
  }
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads) pool_backward(Geometry g, unsigned pixels, const T* dy, Place at_dy,
                                                               const std::uint8_t* mask, T* dx, Place at_dx, bool accumulate) {
  const Site mine = site<V>(g, pixels, g.h, g.w);
  if (mine.live == 0) return;
  const Window& window = g.window;
  const int row = mine.row + window.before.h, column = mine.column + window.before.w;  // in the padded image
  // Outputs whose window covers this cell: p stride <= row < p stride + kernel.
  const int first_p = row < window.kernel.h ? 0 : (row - window.kernel.h) / window.stride.h + 1;
  const int first_q = column < window.kernel.w ? 0 : (column - window.kernel.w) / window.stride.w + 1;
  const int last_p = min(row / window.stride.h, g.p - 1), last_q = min(column / window.stride.w, g.q - 1);
  float gradient[V] = {};
  for (int p = first_p; p <= last_p; ++p) {
    for (int q = first_q; q <= last_q; ++q) {
      const auto pixel = static_cast<unsigned>((mine.n * g.p + p) * g.q + q);
      float share_of_y[V] = {};
      load<V>(share_of_y, dy + at_dy(pixel) + mine.channel, mine.live);
      std::uint8_t winner[V] = {};
      if (mask != nullptr) {
        const std::uint8_t* place_of_mask = mask + std::size_t{pixel} * g.channels + mine.channel;
        if (mine.live == V && g.channels % V == 0) {
          const auto packed_mask = *reinterpret_cast<const Vector<std::uint8_t, V>*>(place_of_mask);
#pragma unroll
          for (int i = 0; i < V; ++i) winner[i] = packed_mask.at[i];
        } else {
#pragma unroll
          for (int i = 0; i < V; ++i) {
            if (i < mine.live) winner[i] = place_of_mask[i];
          }
        }
      }
      const Range rows = inside(p, window.stride.h, window.before.h, window.kernel.h, g.h);
      const Range columns = inside(q, window.stride.w, window.before.w, window.kernel.w, g.w);
      const auto count = static_cast<float>((rows.last - rows.first) * (columns.last - columns.first));
      const int index = (mine.row - rows.start) * window.kernel.w + (mine.column - columns.start);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (g.max) {
          gradient[i] += winner[i] == index ? share_of_y[i] : 0.0f;
        } else {
          gradient[i] += winner[i] == killed ? 0.0f : share_of_y[i] / count;
        }
      }
    }
  }
  write<V>(dx + at_dx(mine.pixel) + mine.channel, gradient, accumulate, mine.live);
}

class CudaPool final : public PoolOp {
 public:
  CudaPool(Context& context, const Pool& kind, const Layout& x, const Layout& y)
      : context_(context),
        geometry_{kind.window,
                  x.shape.h,
                  x.shape.w,
                  y.shape.h,
                  y.shape.w,
                  0,
                  static_cast<unsigned>(x.shape.c),
                  kind.kind == Pool::Kind::max,
                  kind.activation == Activation::relu} {
    if (geometry_.max || geometry_.relu) mask_ = context.allocate(static_cast<std::size_t>(y.shape.count()));
  }

  void forward(const Tensor& x, const Deferred*, const Tensor& y) override {
    by_type(x.dtype, [&]<class T>(T) {
      const bool wide = is_aligned(x, vector_width<T>) && is_aligned(y, vector_width<T>);
      const Geometry g = geometry(wide ? vector_width<T> : 1);
      const auto pixels = static_cast<unsigned>(y.shape.n * y.shape.h * y.shape.w);
      launch("pool_forward", context_, blocks_for(pixels * g.vectors), block_threads,
             wide ? pool_forward<T, vector_width<T>> : pool_forward<T, 1>, g, pixels, x.as<const T>(), place(x), y.as<T>(),
             place(y), mask());
    });
  }

  void backward(const Tensor& dy, const Deferred*, const Tensor& dx, Write mode) override {
    by_type(dy.dtype, [&]<class T>(T) {
      const bool wide = is_aligned(dy, vector_width<T>) && is_aligned(dx, vector_width<T>);
      const Geometry g = geometry(wide ? vector_width<T> : 1);
      const auto pixels = static_cast<unsigned>(dx.shape.n * dx.shape.h * dx.shape.w);
      launch("pool_backward", context_, blocks_for(pixels * g.vectors), block_threads,
             wide ? pool_backward<T, vector_width<T>> : pool_backward<T, 1>, g, pixels, dy.as<const T>(), place(dy), mask(),
             dx.as<T>(), place(dx), mode == Write::accumulate);
    });
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  Geometry geometry(int v) const {
    Geometry g = geometry_;
    g.vectors = (g.channels + static_cast<unsigned>(v) - 1) / static_cast<unsigned>(v);
    return g;
  }

  std::uint8_t* mask() const { return static_cast<std::uint8_t*>(mask_.data()); }

  Context& context_;
  Geometry geometry_;
  Buffer mask_;
};

}  // namespace

std::unique_ptr<PoolOp> make_pool(Context& context, const Pool& kind, const Layout& x, const Layout& y) {
  require(y.shape == kind.window.output(x.shape, x.shape.c) && x.dtype == y.dtype, "pool: y is ", to_string(y.shape), " for x ",
          to_string(x.shape));
  if (kind.deferred || (kind.activation != Activation::none && kind.activation != Activation::relu)) return nullptr;
  require(kind.kind == Pool::Kind::average || kind.window.kernel.h * kind.window.kernel.w <= killed,
          "pool: a max over more than 255 cells");
  return std::make_unique<CudaPool>(context, kind, x, y);
}

}  // namespace microtome::cuda
