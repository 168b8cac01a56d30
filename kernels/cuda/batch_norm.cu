// y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta) per channel [Ioffe2015], and its gradients
// (formulas/batch_norm.h). Three kernels a pass: rows of partial sums, one value a channel from them, apply. Where readers
// apply it (deferred.h) only the first two are left forward, and the second backward; where x's producer left the rows, not the
// first. Mapping: tile.h; vectors, 32 threads a channel. Traffic: forward reads x twice and writes y, backward reads x and dy
// twice and writes dx; its correction reads x and dx and writes dx. Numerics: float32 within a block, double between blocks;
// statistics.h.
#include "kernels/cuda/deferred.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/statistics.h"
#include "kernels/cuda/tile.h"
#include "kernels/formulas/batch_norm.h"

namespace microtome::cuda {

namespace {

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_forward_statistics(Tile tile, const T* x, PixelOffset at_x, float* rows) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  Sample<V> sample;
  for (unsigned pixel = mine.first + mine.lane; mine.live > 0 && pixel < mine.last; pixel += tile.lanes) {
    float value[V] = {};
    load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
    sample.add(value);
  }
  write_statistics<V, block_threads>(rows + std::size_t{blockIdx.y} * 3 * tile.channels, tile.channels, mine.channel, mine.live,
                                     tile.columns, tile.lanes, sample);
}

/// What backward passes need of a forward pass, each one float a channel.
struct Saved {
  float *mean, *inverse, *scale;  // inverse: 1 / sqrt(variance + epsilon)
};

/// Batch statistics as other batch-norms of the same channels read them; null where they are not shared.
struct Shared {
  float *mean, *variance;
};

/// Gamma is null without scale. Coefficients: as Deferred's.
struct Vectors {
  const float *gamma, *beta;
  float *moving_mean, *moving_variance;
  Shared shared;
  Saved saved;
  float* coefficients;
};

__device__ inline void put_coefficients(const Vectors& v, unsigned channels, unsigned channel, const Moments<double>& moments,
                                        float epsilon) {
  const double inverse = inverse_deviation(moments.variance, static_cast<double>(epsilon));
  const auto mean = static_cast<float>(moments.mean);
  const auto scale = static_cast<float>(v.gamma == nullptr ? inverse : v.gamma[channel] * inverse);
  v.saved.mean[channel] = v.coefficients[channel] = mean;
  v.saved.inverse[channel] = static_cast<float>(inverse);
  v.saved.scale[channel] = v.coefficients[channels + channel] = scale;
  v.coefficients[2 * channels + channel] = v.beta[channel];
}

/// The total over a block's lanes, for all of them.
__device__ inline double total(double (&shares)[finish_lanes][finish_channels], double mine) {
  const unsigned column = threadIdx.x % finish_channels, lane = threadIdx.x / finish_channels;
  __syncthreads();
  shares[lane][column] = mine;
  for (unsigned half = finish_lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) shares[lane][column] += shares[lane + half][column];
  }
  __syncthreads();
  return shares[0][column];
}

/// From rows of partial statistics, of the channels after the `known` ones, to coefficients and moving averages.
__global__ void __launch_bounds__(block_threads) batch_norm_forward_finish(BatchNorm kind, unsigned channels, unsigned pixels,
                                                                           unsigned rows, const float* partial, Vectors to) {
  __shared__ double shares[finish_lanes][finish_channels];
  const unsigned lane = threadIdx.x / finish_channels, channel = blockIdx.x * finish_channels + threadIdx.x % finish_channels;
  const auto known = static_cast<unsigned>(kind.known_channels), fresh = channels - known;
  const bool mine = channel >= known && channel < channels;
  const float* number = partial + (channel - known);
  const auto count = static_cast<double>(pixels), momentum = static_cast<double>(kind.momentum);
  double sum = 0, squares = 0;
  for (unsigned row = lane; mine && row < rows; row += finish_lanes) {
    const std::size_t at = std::size_t{row} * 3 * fresh;
    sum += static_cast<double>(number[at]) * number[at + fresh];
  }
  const double mean = total(shares, sum) / count;
  for (unsigned row = lane; mine && row < rows; row += finish_lanes) {
    const std::size_t at = std::size_t{row} * 3 * fresh;
    const double off = number[at + fresh] - mean;
    squares += number[at + 2 * fresh] + number[at] * off * off;
  }
  squares = total(shares, squares);
  if (lane != 0 || channel >= channels) return;
  Moments<double> batch{mean, fmax(squares, 0.0) / count};
  if (channel < known) {
    batch = {to.shared.mean[channel], to.shared.variance[channel]};
  } else if (to.shared.mean != nullptr) {
    to.shared.mean[channel] = static_cast<float>(batch.mean);
    to.shared.variance[channel] = static_cast<float>(batch.variance);
  }
  put_coefficients(to, channels, channel, batch, kind.epsilon);
  const auto averaged = [&](float moving, double value) {
    return static_cast<float>(moving_average(static_cast<double>(moving), value, momentum));
  };
  to.moving_mean[channel] = averaged(to.moving_mean[channel], batch.mean);
  to.moving_variance[channel] =
      averaged(to.moving_variance[channel], moving_variance_sample(batch.variance, count, kind.bessel));
}

/// Coefficients from the moving averages. One thread a channel.
__global__ void __launch_bounds__(block_threads) batch_norm_forward_given(BatchNorm kind, unsigned channels, Vectors to) {
  const unsigned channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  put_coefficients(to, channels, channel, {to.moving_mean[channel], to.moving_variance[channel]}, kind.epsilon);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_forward_apply(Tile tile, Norm norm, const T* x, PixelOffset at_x, T* y, PixelOffset at_y) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  if (mine.live == 0) return;
  const NormOf<V> coefficients = load_norm<V>(norm, mine.channel, mine.live);
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float value[V] = {};
    load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
    apply(coefficients, norm.activation, value);
    store<V>(y + at_y(pixel) + mine.channel, value, mine.live);
  }
}

/// rows: as Deferred's sums.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_backward_sums(Tile tile, Norm norm, const T* x, PixelOffset at_x, const T* dy, PixelOffset at_dy, float* rows) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  const NormOf<V> coefficients = load_norm<V>(norm, mine.channel, mine.live);
  NormSums<V> sums;
  for (unsigned pixel = mine.first + mine.lane; mine.live > 0 && pixel < mine.last; pixel += tile.lanes) {
    float value[V] = {}, gradient[V] = {};
    load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
    load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
    derive(coefficients, norm.activation, value, gradient, sums);
  }
  write_sums<V, block_threads>(rows + std::size_t{blockIdx.y} * 2 * tile.channels, tile.channels, mine.channel, mine.live,
                               tile.columns, tile.lanes, sums);
}

/// dx = scale g - (constant + slope (x - mean)); rows `stride` floats apart.
struct Correction {
  float* constant;
  std::int64_t stride;

  __device__ float* slope() const { return constant + stride; }
  __device__ float* mean() const { return constant + 2 * stride; }
};

/// From rows of sums to the gradients of gamma and beta and the correction. `each`: 1 / M, or 0 where the statistics are
/// constants, through which nothing flows back.
__global__ void __launch_bounds__(block_threads)
    batch_norm_backward_finish(double each, unsigned channels, unsigned rows, const float* sums, Saved saved, float* dgamma,
                               float* dbeta, Correction to, bool accumulate) {
  __shared__ double shares[finish_lanes][finish_channels];
  const unsigned lane = threadIdx.x / finish_channels, channel = blockIdx.x * finish_channels + threadIdx.x % finish_channels;
  double sum = 0, products = 0;
  for (unsigned row = lane; channel < channels && row < rows; row += finish_lanes) {
    const float* at = sums + std::size_t{row} * 2 * channels + channel;
    sum += at[0];
    products += at[channels];
  }
  sum = total(shares, sum);
  products = total(shares, products);
  if (lane != 0 || channel >= channels) return;
  const double inverse = saved.inverse[channel], scale = saved.scale[channel];
  if (dgamma != nullptr) dgamma[channel] = static_cast<float>(products * inverse);
  dbeta[channel] = static_cast<float>(sum);
  const auto put = [&](float& value, double by) { value = static_cast<float>(accumulate ? value + by : by); };
  put(to.constant[channel], scale * sum * each);
  put(to.slope()[channel], scale * products * inverse * inverse * each);
  to.mean()[channel] = saved.mean[channel];
}

template <int V>
struct CorrectionOf {
  float constant[V], slope[V], mean[V];
};

template <int V>
__device__ inline CorrectionOf<V> load_correction(const Correction& from, const ThreadCoordinates& at) {
  CorrectionOf<V> mine{};
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i >= at.live) continue;
    mine.constant[i] = from.constant[at.channel + i];
    mine.slope[i] = from.slope()[at.channel + i];
    mine.mean[i] = from.mean()[at.channel + i];
  }
  return mine;
}

template <int V>
__device__ inline void correct(const CorrectionOf<V>& by, const float (&x)[V], float (&dx)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) dx[i] -= by.constant[i] + by.slope[i] * (x[i] - by.mean[i]);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_backward_apply(Tile tile, Norm norm, Correction correction, const T* x, PixelOffset at_x, const T* dy,
                              PixelOffset at_dy, T* dx, PixelOffset at_dx, bool accumulate) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  if (mine.live == 0) return;
  const NormOf<V> coefficients = load_norm<V>(norm, mine.channel, mine.live);
  const CorrectionOf<V> by = load_correction<V>(correction, mine);
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float value[V] = {}, gradient[V] = {};
    NormSums<V> ignored;
    load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
    load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
    derive(coefficients, norm.activation, value, gradient, ignored);
    correct(by, value, gradient);
    write<V>(dx + at_dx(pixel) + mine.channel, gradient, accumulate, mine.live);
  }
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    batch_norm_correct(Tile tile, Correction correction, const T* x, PixelOffset at_x, T* dx, PixelOffset at_dx) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  if (mine.live == 0) return;
  const CorrectionOf<V> by = load_correction<V>(correction, mine);
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float value[V] = {}, gradient[V] = {};
    load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
    load<V>(gradient, dx + at_dx(pixel) + mine.channel, mine.live);
    correct(by, value, gradient);
    store<V>(dx + at_dx(pixel) + mine.channel, gradient, mine.live);
  }
}

unsigned pixels_of(const Layout& x) {
  return static_cast<unsigned>(x.shape.n * x.shape.h * x.shape.w);
}

Tile tile_of(const Context& context, const Layout& x, int v) {
  return tile_for(static_cast<unsigned>(x.shape.c), pixels_of(x), v, context.multiprocessors());
}

unsigned finish_blocks(unsigned channels) {
  return (channels + finish_channels - 1) / finish_channels;
}

void require_parameters(std::initializer_list<const Tensor*> parameters) {
  for (const Tensor* t : parameters) require(t == nullptr || t->dtype == DType::f32, "batch norm: parameters are f32");
}

float* data_or_null(const Tensor* t) {
  return t == nullptr ? nullptr : t->as<float>();
}

/// What both kinds of batch-norm do with vectors.
class Statistics {
 public:
  Statistics(Context& context, const BatchNorm& kind, const Layout& x)
      : context_(context), kind_(kind), channels_(static_cast<unsigned>(x.shape.c)), pixels_(pixels_of(x)) {
    require(kind.shared_statistics ? kind.batch_statistics && kind.known_channels >= 0 && kind.known_channels <= x.shape.c
                                   : kind.known_channels == 0,
            "batch norm: ", kind.known_channels, " known channels of ", x.shape.c, " without shared statistics of a batch");
    require(!kind.partial_statistics || (kind.batch_statistics && !kind.shared_statistics),
            "batch norm: partial statistics are of a batch, and of all channels");
    saved_ = context.allocate(3 * channels_ * sizeof(float));
    if (kind.batch_statistics && !kind.partial_statistics) {
      // Vectors mean fewer tiles and so more chunks, of which one is the least.
      context.reserve(row_bytes(tile_of(context, x, 1)));
      context.reserve(row_bytes(tile_of(context, x, vector_width_of(x.dtype))));
    }
  }

  /// Moving averages, and coefficients in three rows.
  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor* partial, float* coefficients) {
    require_parameters({gamma, &beta, &moving_mean, &moving_variance, statistics, partial});
    require((statistics != nullptr) == kind_.shared_statistics,
            "batch norm: statistics to share where none were planned, or none where they were");
    require((partial != nullptr) == kind_.partial_statistics,
            "batch norm: partial statistics where none were planned, or none where they were");
    const Shared shared = statistics == nullptr
                              ? Shared{nullptr, nullptr}
                              : Shared{statistics->as<float>(), statistics->as<float>() + statistics->strides.w};
    const Vectors vectors{
        data_or_null(gamma), beta.as<const float>(), moving_mean.as<float>(), moving_variance.as<float>(), shared, saved(),
        coefficients};
    if (!kind_.batch_statistics) {
      launch("batch_norm_forward_given", context_, blocks_for(channels_), block_threads, batch_norm_forward_given, kind_,
             channels_, vectors);
      return;
    }
    const Rows rows =
        partial == nullptr ? measure(x) : Rows{static_cast<unsigned>(partial->shape.w), partial->as<const float>()};
    launch("batch_norm_forward_finish", context_, finish_blocks(channels_), block_threads, batch_norm_forward_finish, kind_,
           channels_, pixels_, rows.count, rows.data, vectors);
  }

  void backward(unsigned rows, const float* sums, const Tensor* dgamma, const Tensor& dbeta, const Correction& correction,
                Write mode) {
    require_parameters({dgamma, &dbeta});
    launch("batch_norm_backward_finish", context_, finish_blocks(channels_), block_threads, batch_norm_backward_finish,
           kind_.batch_statistics ? 1.0 / pixels_ : 0.0, channels_, rows, sums, saved(), data_or_null(dgamma),
           dbeta.as<float>(), correction, mode == Write::accumulate);
  }

 private:
  struct Rows {
    unsigned count;
    const float* data;
  };

  /// Of the channels that are not known yet.
  Rows measure(const Tensor& x) {
    Tensor fresh = x;
    fresh.data = static_cast<std::byte*>(x.data) + static_cast<std::size_t>(kind_.known_channels) * size_bytes(x.dtype);
    fresh.shape.c -= kind_.known_channels;
    if (fresh.shape.c == 0) return {0, nullptr};
    Rows rows{};
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(fresh, widest);
      const Tile tile = tile_of(context_, fresh, wide ? widest : 1);
      auto* partial = reinterpret_cast<float*>(context_.scratch(row_bytes(tile)));
      launch("batch_norm_forward_statistics", context_, grid(tile), block_threads,
             wide ? batch_norm_forward_statistics<T, widest> : batch_norm_forward_statistics<T, 1>, tile, fresh.as<const T>(),
             offset_of(fresh), partial);
      rows = {grid(tile).y, partial};
    });
    return rows;
  }

  static std::size_t row_bytes(const Tile& t) { return std::size_t{3} * grid(t).y * t.channels * sizeof(float); }

  Saved saved() const {
    auto* mean = static_cast<float*>(saved_.data());
    return {mean, mean + channels_, mean + 2 * std::size_t{channels_}};
  }

  Context& context_;
  BatchNorm kind_;
  unsigned channels_, pixels_;
  Buffer saved_;
};

class CudaBatchNorm final : public BatchNormOp {
 public:
  CudaBatchNorm(Context& context, const BatchNorm& kind, const Layout& x)
      : context_(context),
        activation_(kind.activation),
        channels_(static_cast<unsigned>(x.shape.c)),
        statistics_(context, kind, x) {
    vectors_ = context.allocate(2 * row_step() * sizeof(float));
    context.reserve(row_bytes(tile_of(context, x, 1)));
    context.reserve(row_bytes(tile_of(context, x, vector_width_of(x.dtype))));
  }

  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor* partial, const Tensor& y) override {
    statistics_.forward(x, gamma, beta, moving_mean, moving_variance, statistics, partial, coefficients());
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(y, widest);
      const Tile tile = tile_of(context_, x, wide ? widest : 1);
      launch("batch_norm_forward_apply", context_, grid(tile), block_threads,
             wide ? batch_norm_forward_apply<T, widest> : batch_norm_forward_apply<T, 1>, tile, norm(), x.as<const T>(),
             offset_of(x), y.as<T>(), offset_of(y));
    });
  }

  void backward(const Tensor& x, const Tensor& dy, const Tensor*, const Tensor&, const Tensor& dx, const Tensor* dgamma,
                const Tensor& dbeta, Write mode) override {
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(dy, widest) && is_aligned(dx, widest);
      const Tile tile = tile_of(context_, x, wide ? widest : 1);
      const dim3 blocks = grid(tile);
      auto* sums = reinterpret_cast<float*>(context_.scratch(row_bytes(tile)));
      launch("batch_norm_backward_sums", context_, blocks, block_threads,
             wide ? batch_norm_backward_sums<T, widest> : batch_norm_backward_sums<T, 1>, tile, norm(), x.as<const T>(),
             offset_of(x), dy.as<const T>(), offset_of(dy), sums);
      statistics_.backward(blocks.y, sums, dgamma, dbeta, correction(), Write::overwrite);
      launch("batch_norm_backward_apply", context_, blocks, block_threads,
             wide ? batch_norm_backward_apply<T, widest> : batch_norm_backward_apply<T, 1>, tile, norm(), correction(),
             x.as<const T>(), offset_of(x), dy.as<const T>(), offset_of(dy), dx.as<T>(), offset_of(dx),
             mode == Write::accumulate);
    });
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  static std::size_t row_bytes(const Tile& t) { return std::size_t{2} * grid(t).y * t.channels * sizeof(float); }

  std::size_t row_step() const { return std::size_t{3} * channels_; }
  float* coefficients() const { return static_cast<float*>(vectors_.data()); }
  Norm norm() const { return {coefficients(), channels_, activation_}; }
  Correction correction() const { return {coefficients() + row_step(), channels_}; }

  Context& context_;
  Activation activation_;
  unsigned channels_;
  Statistics statistics_;
  Buffer vectors_;  // coefficients, then the correction
};

Correction correction_of(const Tensor& t, int channels) {
  require(t.dtype == DType::f32 && t.shape == Shape{1, 1, 3, channels}, "batch norm: a correction is ", to_string(t.shape), " ",
          name(t.dtype), " and not f32 rows, three of ", channels);
  return {t.as<float>(), t.strides.w};
}

class CudaDeferredNorm final : public DeferredNormOp {
 public:
  CudaDeferredNorm(Context& context, const BatchNorm& kind, const Layout& x)
      : channels_(x.shape.c), statistics_(context, kind, x) {}

  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor* partial,
               const Tensor& coefficients) override {
    require(coefficients.dtype == DType::f32 && coefficients.is_packed() && coefficients.shape == Shape{1, 1, 3, channels_},
            "batch norm: coefficients are ", to_string(coefficients.shape), " and not three packed f32 rows of ", channels_);
    statistics_.forward(x, gamma, beta, moving_mean, moving_variance, statistics, partial, coefficients.as<float>());
  }

  void backward(const Tensor& sums, const Tensor*, const Tensor* dgamma, const Tensor& dbeta, const Tensor& correction,
                Write mode) override {
    require(sums.dtype == DType::f32 && sums.is_packed() && sums.shape.c == 2 * channels_, "batch norm: sums are ",
            to_string(sums.shape), " and not packed f32 rows of ", 2 * channels_);
    statistics_.backward(static_cast<unsigned>(sums.shape.w), sums.as<const float>(), dgamma, dbeta,
                         correction_of(correction, channels_), mode);
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  int channels_;
  Statistics statistics_;
};

class CudaNormCorrection final : public NormCorrectionOp {
 public:
  explicit CudaNormCorrection(Context& context) : context_(context) {}

  void run(const Tensor& x, const Tensor& correction, const Tensor& dx) override {
    const Correction by = correction_of(correction, x.shape.c);
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(dx, widest);
      const Tile tile = tile_of(context_, x, wide ? widest : 1);
      launch("batch_norm_correct", context_, grid(tile), block_threads,
             wide ? batch_norm_correct<T, widest> : batch_norm_correct<T, 1>, tile, by, x.as<const T>(), offset_of(x),
             dx.as<T>(), offset_of(dx));
    });
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  Context& context_;
};

}  // namespace

std::unique_ptr<BatchNormOp> make_batch_norm(Context& context, const BatchNorm& kind, const Layout& x, const Layout& y) {
  require(x.shape == y.shape && x.dtype == y.dtype, "batch norm: x ", to_string(x.shape), " and y ", to_string(y.shape),
          " differ");
  return std::make_unique<CudaBatchNorm>(context, kind, x);
}

std::unique_ptr<DeferredNormOp> make_deferred_norm(Context& context, const BatchNorm& kind, const Layout& x) {
  return std::make_unique<CudaDeferredNorm>(context, kind, x);
}

std::unique_ptr<NormCorrectionOp> make_norm_correction(Context& context) {
  return std::make_unique<CudaNormCorrection>(context);
}

}  // namespace microtome::cuda
