// y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta) per channel [Ioffe2015], and its gradients
// (formulas/batch_norm.h). Three kernels a pass: per-block partial sums, one value a channel from them, apply. Statistics of
// known channels are read from where they are shared, and only those of the others are computed. Mapping: a block covers up to
// 32 channel vectors (16 bytes each) of a chunk of pixels; a thread keeps its channels and walks down its chunk. Traffic:
// forward reads x twice and writes y, backward reads x and dy twice and writes dx; the second reading comes from L2 where the
// tensor fits. Numerics: float32 within a block, double between blocks; variance from deviations from the thread's first value,
// merged pairwise [Chan1979]; every sum has a fixed order, so that results repeat bit for bit.
#include "kernels/cuda/deferred.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/tile.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/batch_norm.h"

namespace microtome::cuda {

namespace {

/// Mean and sum of squared deviations of `count` values.
template <class T>
struct Deviations {
  T count, mean, squares;
};

template <class T>
__device__ inline Deviations<T> merge(const Deviations<T>& a, const Deviations<T>& b) {
  if (b.count == 0) return a;
  if (a.count == 0) return b;
  const T count = a.count + b.count, difference = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + difference * share, a.squares + b.squares + difference * difference * a.count * share};
}

/// partial: 2 x chunks x channels, means then squares.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_forward_statistics(Tile tile, const T* x, Place at_x, float* partial) {
  const Seat mine = seat<V>(tile);
  float origin[V] = {}, sum[V] = {}, squares[V] = {};
  unsigned count = 0;
  if (mine.live > 0) {
    for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
      float value[V] = {};
      load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (count == 0) origin[i] = value[i];
        const float d = value[i] - origin[i];
        sum[i] += d;
        squares[i] += d * d;
      }
      ++count;
    }
  }
  __shared__ float counts[block_threads], means[V][block_threads], sums[V][block_threads];
  const auto n = static_cast<float>(count);
  counts[threadIdx.x] = n;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float shift = count == 0 ? 0 : sum[i] / n;
    means[i][threadIdx.x] = origin[i] + shift;
    sums[i][threadIdx.x] = squares[i] - sum[i] * shift;
  }
  for (unsigned half = tile.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (mine.lane < half) {
      const unsigned other = threadIdx.x + half * tile.columns;
      const float a = counts[threadIdx.x], b = counts[other];
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const Deviations<float> both =
            merge<float>({a, means[i][threadIdx.x], sums[i][threadIdx.x]}, {b, means[i][other], sums[i][other]});
        means[i][threadIdx.x] = both.mean;
        sums[i][threadIdx.x] = both.squares;
      }
      counts[threadIdx.x] = a + b;
    }
  }
  if (mine.lane != 0) return;
  float* mean = partial + std::size_t{blockIdx.y} * tile.channels + mine.channel;
  float* square = mean + std::size_t{gridDim.y} * tile.channels;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < mine.live) {
      mean[i] = means[i][threadIdx.x];
      square[i] = sums[i][threadIdx.x];
    }
  }
}

/// partial: 2 x chunks x channels, sum of g = dy f' and of g (x - mean).
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_backward_sums(Tile tile, Activation activation, const T* x, Place at_x, const T* dy, Place at_dy,
                             const float* mean, const float* scale, const float* beta, float* partial) {
  const Seat mine = seat<V>(tile);
  float sum[V] = {}, products[V] = {};
  if (mine.live > 0) {
    float center[V] = {}, slope[V] = {}, offset[V] = {};
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < mine.live) {
        center[i] = mean[mine.channel + i];
        slope[i] = scale[mine.channel + i];
        offset[i] = beta[mine.channel + i];
      }
    }
    for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
      float value[V] = {}, gradient[V] = {};
      load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
      load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const float d = value[i] - center[i];
        const float g = gradient[i] * derivative_at(activation, d * slope[i] + offset[i]);
        sum[i] += g;
        products[i] += g * d;
      }
    }
  }
  __shared__ float sums[V][block_threads], product_sums[V][block_threads];
#pragma unroll
  for (int i = 0; i < V; ++i) {
    sums[i][threadIdx.x] = sum[i];
    product_sums[i][threadIdx.x] = products[i];
  }
  for (unsigned half = tile.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (mine.lane < half) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        sums[i][threadIdx.x] += sums[i][threadIdx.x + half * tile.columns];
        product_sums[i][threadIdx.x] += product_sums[i][threadIdx.x + half * tile.columns];
      }
    }
  }
  if (mine.lane != 0) return;
  float* total = partial + std::size_t{blockIdx.y} * tile.channels + mine.channel;
  float* product_total = total + std::size_t{gridDim.y} * tile.channels;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < mine.live) {
      total[i] = sums[i][threadIdx.x];
      product_total[i] = product_sums[i][threadIdx.x];
    }
  }
}

/// What the applying kernels read, each one float a channel: y = f((x - mean) scale + beta) and
/// dx = scale (dy f' - constant - per_x (x - mean)).
struct Coefficients {
  float *mean, *inverse, *scale;  // inverse: 1 / sqrt(variance + epsilon)
  float *per_x, *constant;
};

/// Batch statistics as other batch-norms of the same channels read them; null where they are not shared.
struct Shared {
  float *mean, *variance;
};

/// From partial sums to coefficients and moving averages, in double. Eight threads a channel: each merges every eighth chunk.
/// The tile covers the channels after the `known` ones.
__global__ void __launch_bounds__(block_threads)
    batch_norm_forward_finish(BatchNorm kind, unsigned known, Tile tile, unsigned chunks, const float* partial, Shared shared,
                              const float* gamma, float* moving_mean, float* moving_variance, Coefficients to) {
  __shared__ Deviations<double> merged[finish_lanes][finish_channels];
  const unsigned column = threadIdx.x % finish_channels, lane = threadIdx.x / finish_channels;
  const unsigned channel = blockIdx.x * finish_channels + column, channels = known + tile.channels;
  Deviations<double> all{0, 0, 0};
  if (channel >= known && channel < channels) {
    for (unsigned chunk = lane; chunk < chunks; chunk += finish_lanes) {
      const unsigned first = chunk * tile.chunk;
      const std::size_t at = std::size_t{chunk} * tile.channels + (channel - known);
      all = merge<double>(all, {static_cast<double>(min(tile.chunk, tile.pixels - first)), partial[at],
                                partial[at + std::size_t{chunks} * tile.channels]});
    }
  }
  merged[lane][column] = all;
  for (unsigned half = finish_lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) merged[lane][column] = merge<double>(merged[lane][column], merged[lane + half][column]);
  }
  if (lane != 0 || channel >= channels) return;
  all = merged[0][column];
  const auto count = static_cast<double>(tile.pixels), momentum = static_cast<double>(kind.momentum);
  Moments<double> batch{all.mean, fmax(all.squares, 0.0) / count};
  if (channel < known) {
    batch = {shared.mean[channel], shared.variance[channel]};
  } else if (shared.mean != nullptr) {
    shared.mean[channel] = static_cast<float>(batch.mean);
    shared.variance[channel] = static_cast<float>(batch.variance);
  }
  const double inverse = inverse_deviation(batch.variance, static_cast<double>(kind.epsilon));
  to.mean[channel] = static_cast<float>(batch.mean);
  to.inverse[channel] = static_cast<float>(inverse);
  to.scale[channel] = static_cast<float>(gamma == nullptr ? inverse : gamma[channel] * inverse);
  const double sample = moving_variance_sample(batch.variance, count, kind.bessel);
  moving_mean[channel] = static_cast<float>(moving_average(static_cast<double>(moving_mean[channel]), batch.mean, momentum));
  moving_variance[channel] =
      static_cast<float>(moving_average(static_cast<double>(moving_variance[channel]), sample, momentum));
}

/// Coefficients from the moving averages. One thread a channel.
__global__ void __launch_bounds__(block_threads)
    batch_norm_forward_given(BatchNorm kind, unsigned channels, const float* gamma, const float* moving_mean,
                             const float* moving_variance, Coefficients to) {
  const unsigned channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  const double inverse = inverse_deviation(static_cast<double>(moving_variance[channel]), static_cast<double>(kind.epsilon));
  to.mean[channel] = moving_mean[channel];
  to.inverse[channel] = static_cast<float>(inverse);
  to.scale[channel] = static_cast<float>(gamma == nullptr ? inverse : gamma[channel] * inverse);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_forward_apply(Tile tile, Activation activation, const T* x, Place at_x, const float* mean, const float* scale,
                             const float* beta, T* y, Place at_y) {
  const Seat mine = seat<V>(tile);
  if (mine.live == 0) return;
  float center[V] = {}, slope[V] = {}, offset[V] = {};
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < mine.live) {
      center[i] = mean[mine.channel + i];
      slope[i] = scale[mine.channel + i];
      offset[i] = beta[mine.channel + i];
    }
  }
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float value[V] = {};
    load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
#pragma unroll
    for (int i = 0; i < V; ++i) value[i] = activate(activation, (value[i] - center[i]) * slope[i] + offset[i]);
    store<V>(y + at_y(pixel) + mine.channel, value, mine.live);
  }
}

/// `given`: the statistics are constants, so nothing flows back through them. Sums in double, as in the forward pass.
__global__ void __launch_bounds__(block_threads)
    batch_norm_backward_finish(bool given, Tile tile, unsigned chunks, const float* partial, Coefficients to, float* dgamma,
                               float* dbeta) {
  __shared__ double sums[finish_lanes][finish_channels], product_sums[finish_lanes][finish_channels];
  const unsigned column = threadIdx.x % finish_channels, lane = threadIdx.x / finish_channels;
  const unsigned channel = blockIdx.x * finish_channels + column;
  double sum = 0, products = 0;
  if (channel < tile.channels) {
    for (unsigned chunk = lane; chunk < chunks; chunk += finish_lanes) {
      const std::size_t at = std::size_t{chunk} * tile.channels + channel;
      sum += partial[at];
      products += partial[at + std::size_t{chunks} * tile.channels];
    }
  }
  sums[lane][column] = sum;
  product_sums[lane][column] = products;
  for (unsigned half = finish_lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) {
      sums[lane][column] += sums[lane + half][column];
      product_sums[lane][column] += product_sums[lane + half][column];
    }
  }
  if (lane != 0 || channel >= tile.channels) return;
  const double inverse = to.inverse[channel], each = given ? 0.0 : 1.0 / tile.pixels;
  sum = sums[0][column];
  products = product_sums[0][column] * inverse;
  if (dgamma != nullptr) dgamma[channel] = static_cast<float>(products);
  dbeta[channel] = static_cast<float>(sum);
  to.per_x[channel] = static_cast<float>(each * products * inverse);
  to.constant[channel] = static_cast<float>(each * sum);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_backward_apply(Tile tile, Activation activation, const T* x, Place at_x, const T* dy, Place at_dy,
                              Coefficients from, const float* beta, T* dx, Place at_dx, bool accumulate) {
  const Seat mine = seat<V>(tile);
  if (mine.live == 0) return;
  float center[V] = {}, slope[V] = {}, offset[V] = {}, per_x[V] = {}, constant[V] = {};
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < mine.live) {
      center[i] = from.mean[mine.channel + i];
      slope[i] = from.scale[mine.channel + i];
      offset[i] = beta[mine.channel + i];
      per_x[i] = from.per_x[mine.channel + i];
      constant[i] = from.constant[mine.channel + i];
    }
  }
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float value[V] = {}, gradient[V] = {};
    load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
    load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float d = value[i] - center[i];
      const float g = gradient[i] * derivative_at(activation, d * slope[i] + offset[i]);
      gradient[i] = slope[i] * (g - (constant[i] + per_x[i] * d));
    }
    write<V>(dx + at_dx(pixel) + mine.channel, gradient, accumulate, mine.live);
  }
}

class CudaBatchNorm final : public BatchNormOp {
 public:
  CudaBatchNorm(Context& context, const BatchNorm& kind, const Layout& x) : context_(context), kind_(kind) {
    channels_ = static_cast<unsigned>(x.shape.c);
    known_ = static_cast<unsigned>(kind.known_channels);
    pixels_ = static_cast<unsigned>(x.shape.n * x.shape.h * x.shape.w);
    saved_ = context.allocate(aligned(channels_ * sizeof(float)) * 5);
    // Vectors mean fewer tiles and so more chunks, of which one is the least.
    context.reserve(partial_bytes(tile(channels_, 1)));
    context.reserve(partial_bytes(tile(channels_, x.dtype == DType::bf16 ? 8 : 4)));
  }

  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor*, const Tensor& y) override {
    require_parameters({gamma, &beta, &moving_mean, &moving_variance, statistics});
    require((statistics != nullptr) == kind_.shared_statistics,
            "batch norm: statistics to share where none were planned, or none where they were");
    const Coefficients to = coefficients();
    const float* scale = gamma == nullptr ? nullptr : gamma->as<const float>();
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      if (kind_.batch_statistics) {
        Tensor fresh = x;
        fresh.data = x.as<T>() + known_;
        fresh.shape.c -= static_cast<int>(known_);
        const bool wide = is_aligned(fresh, widest);
        const Tile tiling = tile(channels_ - known_, wide ? widest : 1);
        const dim3 blocks = grid(tiling);
        auto* partial = reinterpret_cast<float*>(context_.scratch(partial_bytes(tiling)));
        if (fresh.shape.c > 0)
          launch("batch_norm_forward_statistics", context_, blocks, block_threads,
                 wide ? batch_norm_forward_statistics<T, widest> : batch_norm_forward_statistics<T, 1>, tiling,
                 fresh.as<const T>(), place(fresh), partial);
        const Shared shared = statistics == nullptr
                                  ? Shared{nullptr, nullptr}
                                  : Shared{statistics->as<float>(), statistics->as<float>() + statistics->strides.w};
        launch("batch_norm_forward_finish", context_, finish_blocks(), block_threads, batch_norm_forward_finish, kind_, known_,
               tiling, blocks.y, partial, shared, scale, moving_mean.as<float>(), moving_variance.as<float>(), to);
      } else {
        launch("batch_norm_forward_given", context_, blocks_for(channels_), block_threads, batch_norm_forward_given, kind_,
               channels_, scale, moving_mean.as<const float>(), moving_variance.as<const float>(), to);
      }
      const bool wide = is_aligned(x, widest) && is_aligned(y, widest);
      const Tile tiling = tile(channels_, wide ? widest : 1);
      launch("batch_norm_forward_apply", context_, grid(tiling), block_threads,
             wide ? batch_norm_forward_apply<T, widest> : batch_norm_forward_apply<T, 1>, tiling, kind_.activation,
             x.as<const T>(), place(x), to.mean, to.scale, beta.as<const float>(), y.as<T>(), place(y));
    });
  }

  void backward(const Tensor& x, const Tensor& dy, const Tensor* gamma, const Tensor& beta, const Tensor& dx,
                const Tensor* dgamma, const Tensor& dbeta, Write mode) override {
    require_parameters({gamma, &beta, dgamma, &dbeta});
    const Coefficients to = coefficients();
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(dy, widest) && is_aligned(dx, widest);
      const Tile tiling = tile(channels_, wide ? widest : 1);
      const dim3 blocks = grid(tiling);
      auto* partial = reinterpret_cast<float*>(context_.scratch(partial_bytes(tiling)));
      launch("batch_norm_backward_sums", context_, blocks, block_threads,
             wide ? batch_norm_backward_sums<T, widest> : batch_norm_backward_sums<T, 1>, tiling, kind_.activation,
             x.as<const T>(), place(x), dy.as<const T>(), place(dy), to.mean, to.scale, beta.as<const float>(), partial);
      launch("batch_norm_backward_finish", context_, finish_blocks(), block_threads, batch_norm_backward_finish,
             !kind_.batch_statistics, tiling, blocks.y, partial, to, dgamma == nullptr ? nullptr : dgamma->as<float>(),
             dbeta.as<float>());
      launch("batch_norm_backward_apply", context_, blocks, block_threads,
             wide ? batch_norm_backward_apply<T, widest> : batch_norm_backward_apply<T, 1>, tiling, kind_.activation,
             x.as<const T>(), place(x), dy.as<const T>(), place(dy), to, beta.as<const float>(), dx.as<T>(), place(dx),
             mode == Write::accumulate);
    });
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  static void require_parameters(std::initializer_list<const Tensor*> parameters) {
    for (const Tensor* t : parameters) require(t == nullptr || t->dtype == DType::f32, "batch norm: parameters are f32");
  }

  Tile tile(unsigned channels, int v) const { return tile_for(channels, pixels_, v, context_.multiprocessors()); }
  static std::size_t partial_bytes(const Tile& t) { return std::size_t{2} * grid(t).y * t.channels * sizeof(float); }
  unsigned finish_blocks() const { return (channels_ + finish_channels - 1) / finish_channels; }

  Coefficients coefficients() const {
    auto* base = static_cast<float*>(saved_.data());
    const std::size_t step = aligned(channels_ * sizeof(float)) / sizeof(float);
    return {base, base + step, base + 2 * step, base + 3 * step, base + 4 * step};
  }

  Context& context_;
  BatchNorm kind_;
  unsigned channels_ = 0, known_ = 0, pixels_ = 0;
  Buffer saved_;
};

}  // namespace

std::unique_ptr<BatchNormOp> make_batch_norm(Context& context, const BatchNorm& kind, const Layout& x, const Layout& y) {
  require(x.shape == y.shape && x.dtype == y.dtype, "batch norm: x ", to_string(x.shape), " and y ", to_string(y.shape),
          " differ");
  require(kind.shared_statistics ? kind.batch_statistics && kind.known_channels >= 0 && kind.known_channels <= x.shape.c
                                 : kind.known_channels == 0,
          "batch norm: ", kind.known_channels, " known channels of ", x.shape.c, " without shared statistics of a batch");
  if (kind.partial_statistics) return nullptr;
  return std::make_unique<CudaBatchNorm>(context, kind, x);
}

}  // namespace microtome::cuda
