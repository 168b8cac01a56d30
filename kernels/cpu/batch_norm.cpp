// y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta), per channel [Ioffe2015, alg. 1]; see
// kernels/formulas/batch_norm.h. Statistics take one pass over memory: x is cut into pieces that fit L1, each piece gives its
// sum and, from L1, its sum of squares about its mean; pieces are joined in order and in double [Chan1983]. Training reads x
// twice and writes y; backward reads x and dy twice and writes dx. Of known channels x is read once, as their statistics are
// another batch norm's.
#include "kernels/formulas/batch_norm.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lane.h"
#include "kernels/cpu/simd.h"

#include <vector>

namespace microtome {

namespace {

constexpr std::int64_t piece_elements = 1 << 12;  // 16 KiB, and as much of dy beside it, in L1

/// Where position `i` of n h w lies.
std::int64_t offset(const Layout& t, std::int64_t i) {
  const std::int64_t w = t.shape.w, h = t.shape.h;
  if (t.strides.h == w * t.strides.w && t.strides.n == h * t.strides.h) return i * t.strides.w;
  return i / (h * w) * t.strides.n + i / w % h * t.strides.h + i % w * t.strides.w;
}

float* at(const Tensor& t, std::int64_t i) {
  return t.as<float>() + offset(t, i);
}

/// `count` neighbouring values of type V, which is Floats or float, held in registers.
template <class V, int count>
struct Group {
  using Value = V;
  static constexpr int size = count, channels = count * static_cast<int>(sizeof(V) / sizeof(float));
};

/// Calls f(Group, channel) so that every channel from `first` on is met once.
template <class F>
void for_groups(int first, int channels, const F& f) {
  int c = first;
  const auto take = [&]<class G>(G group) {
    for (; c + G::channels <= channels; c += G::channels) f(group, c);
  };
  take(Group<Floats, 4>{}), take(Group<Floats, 2>{}), take(Group<Floats, 1>{}), take(Group<float, 1>{});
}

/// The formulas' functions, for a vector: lane by lane, which the compiler makes one again.
template <Activation function>
float slope(float z) {
  return activation_derivative(function, derivative_reads_x(function) ? z : activate(function, z));
}

/// To differentiate.
constexpr bool is_expensive(Activation function) {
  switch (function) {
    case Activation::none:
    case Activation::relu:
    case Activation::relu6: return false;
    case Activation::swish:
    case Activation::sigmoid: return true;
  }
  return true;
}

class CpuBatchNorm final : public BatchNormOp {
 public:
  CpuBatchNorm(Scratch& scratch, const BatchNorm& kind, const Layout& x, const Layout& y)
      : scratch_(scratch),
        kind_(kind),
        x_(x),
        y_(y),
        channels_(x.shape.c),
        positions_(x.shape.count() / x.shape.c),
        measured_(positions_, channels_ - kind.known_channels),
        summed_(positions_, channels_),
        first_totals_(channels_),
        second_totals_(channels_),
        mean_(channels_),
        inverse_(channels_),
        scale_(channels_),
        mean_dbeta_(channels_),
        mean_dgamma_(channels_) {
    require_f32(x, y);
    require(x.shape == y.shape, "batch norm: ", to_string(x.shape), " does not give ", to_string(y.shape));
    require(kind.shared_statistics ? kind.batch_statistics && kind.known_channels >= 0 && kind.known_channels <= channels_
                                   : kind.known_channels == 0,
            "batch norm: ", kind.known_channels, " known channels of ", channels_, " without shared statistics of a batch");
    ScratchPlan plan;
    const std::size_t sums = std::max(measured_.count, summed_.count) * channels_ * sizeof(float);
    first_ = plan.take(sums), second_ = plan.take(sums);
    scratch_.reserve(plan.bytes());
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor*, const Tensor& y) override {
    require_layout(x, x_, "x"), require_scale(gamma), require_layout(y, y_, "y");
    for (const Tensor* vector : {&beta, &moving_mean, &moving_variance})
      require_vector(*vector, channels_, "beta or a moving average");
    require_statistics(statistics);
    if (kind_.batch_statistics) measure(x), join_moments();
    for (int c = 0; c < channels_; ++c) {
      float &mean = moving_mean.as<float>()[c], &variance = moving_variance.as<float>()[c];
      Moments<float> moments{mean, variance};
      if (kind_.batch_statistics) {
        moments = c < kind_.known_channels ? shared(*statistics, c) : measured(c);
        if (statistics && c >= kind_.known_channels) share(*statistics, c, moments);
        mean = moving_average(mean, moments.mean, kind_.momentum);
        variance = moving_average(
            variance, moving_variance_sample(moments.variance, static_cast<float>(positions_), kind_.bessel), kind_.momentum);
      }
      mean_[c] = moments.mean;
      inverse_[c] = inverse_deviation(moments.variance, kind_.epsilon);
      scale_[c] = gamma ? gamma->as<float>()[c] * inverse_[c] : inverse_[c];
    }
    with_activation(kind_.activation, [&](auto function) { normalise(function, x, beta.as<float>(), y); });
  }

  void backward(const Tensor& x, const Tensor& dy, const Tensor* gamma, const Tensor& beta, const Tensor& dx,
                const Tensor* dgamma, const Tensor& dbeta, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    require_scale(gamma), require_scale(dgamma);
    require_vector(beta, channels_, "beta"), require_vector(dbeta, channels_, "dbeta");
    // An exp is dearer than a store: what it gave waits in dx for the second sweep.
    const bool keeps = write == Write::overwrite && is_expensive(kind_.activation);
    with_activation(kind_.activation,
                    [&](auto function) { sum_gradients(function, x, dy, beta.as<float>(), keeps ? &dx : nullptr); });
    const float *sums = scratch_.at(first_), *products = scratch_.at(second_);
    join(
        summed_, 0, [&](std::int64_t piece, int c) { return sums[piece * channels_ + c]; }, first_totals_);
    join(
        summed_, 0, [&](std::int64_t piece, int c) { return products[piece * channels_ + c]; }, second_totals_);
    for (int c = 0; c < channels_; ++c) {
      const double sum = first_totals_[c], product = second_totals_[c];
      dbeta.as<float>()[c] = static_cast<float>(sum);
      if (dgamma) dgamma->as<float>()[c] = static_cast<float>(product);
      const double share = kind_.batch_statistics ? 1.0 / static_cast<double>(positions_) : 0.0;
      mean_dbeta_[c] = static_cast<float>(sum * share);
      mean_dgamma_[c] = static_cast<float>(product * share);
    }
    with_activation(keeps ? Activation::none : kind_.activation, [&](auto function) {
      with_write(write,
                 [&](auto accumulate) { spread_gradients(function, accumulate, x, keeps ? dx : dy, beta.as<float>(), dx); });
    });
  }

 private:
  /// Of the M positions, as many at a time as fit L1.
  struct Pieces {
    Pieces(std::int64_t positions, int channels)
        : size(std::max<std::int64_t>(piece_elements / std::max(channels, 1), 8)), count((positions + size - 1) / size) {}
    std::int64_t size, count;
  };

  /// f(piece, first position, last + 1), over the threads.
  template <class F>
  void for_pieces(const Pieces& pieces, const F& f) const {
#pragma omp parallel for schedule(static)
    for (std::int64_t piece = 0; piece < pieces.count; ++piece)
      f(piece, piece * pieces.size, std::min((piece + 1) * pieces.size, positions_));
  }

  /// Each piece's sum of x, and of squares about its own mean.
  void measure(const Tensor& x) const {
    if (kind_.known_channels == channels_) return;
    for_pieces(measured_, [&](std::int64_t piece, std::int64_t first, std::int64_t last) {
      for_groups(kind_.known_channels, channels_, [&]<class G>(G, int c) {
        typename G::Value sum[G::size]{}, squares[G::size]{}, mean[G::size];
        for (std::int64_t i = first; i < last; ++i)
          for (int j = 0; j < G::size; ++j) sum[j] += value<G>(at(x, i) + c, j);
        for (int j = 0; j < G::size; ++j) mean[j] = sum[j] / static_cast<float>(last - first);
        for (std::int64_t i = first; i < last; ++i)
          for (int j = 0; j < G::size; ++j) {
            const typename G::Value off = value<G>(at(x, i) + c, j) - mean[j];
            squares[j] += off * off;
          }
        std::memcpy(scratch_.at(first_) + piece * channels_ + c, sum, sizeof sum);
        std::memcpy(scratch_.at(second_) + piece * channels_ + c, squares, sizeof squares);
      });
    });
  }

  /// The sum over the pieces of term(piece, channel), in order, for each channel from `begin` on.
  template <class F>
  void join(const Pieces& pieces, int begin, const F& term, std::vector<double>& totals) const {
    constexpr int block = 64;  // channels that a thread sweeps the pieces for
#pragma omp parallel for schedule(static)
    for (int first = begin; first < channels_; first += block) {
      const int count = std::min(block, channels_ - first);
      double sums[block] = {};
      for (std::int64_t piece = 0; piece < pieces.count; ++piece)
#pragma omp simd
        for (int c = 0; c < count; ++c) sums[c] += term(piece, first + c);
      std::copy_n(sums, count, totals.begin() + first);
    }
  }

  /// Means and variances from what `measure` left, for the channels that are not known.
  void join_moments() {
    const auto positions = static_cast<double>(positions_);
    const float *sums = scratch_.at(first_), *squares = scratch_.at(second_);
    join(
        measured_, kind_.known_channels, [&](std::int64_t piece, int c) { return sums[piece * channels_ + c]; }, first_totals_);
    join(
        measured_, kind_.known_channels,
        [&](std::int64_t piece, int c) {
          const auto count = static_cast<double>(std::min(measured_.size, positions_ - piece * measured_.size));
          const double off = sums[piece * channels_ + c] / count - first_totals_[c] / positions;
          return squares[piece * channels_ + c] + count * off * off;
        },
        second_totals_);
  }

  template <class Function>
  void normalise(Function function, const Tensor& x, const float* beta, const Tensor& y) const {
    for_pieces(summed_, [&](std::int64_t, std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const float* from = at(x, i);
        float* to = at(y, i);
#pragma omp simd
        for (int c = 0; c < channels_; ++c) to[c] = activate(function(), (from[c] - mean_[c]) * scale_[c] + beta[c]);
      }
    });
  }

  /// Each piece's sum of g, and of g times normalised x; g is dy before the activation, and is kept unless `kept` is null.
  template <class Function>
  void sum_gradients(Function, const Tensor& x, const Tensor& dy, const float* beta, const Tensor* kept) const {
    for_pieces(summed_, [&](std::int64_t piece, std::int64_t first, std::int64_t last) {
      for_groups(0, channels_, [&]<class G>(G, int c) {
        typename G::Value sum[G::size]{}, product[G::size]{};
        for (std::int64_t i = first; i < last; ++i)
          for (int j = 0; j < G::size; ++j) {
            const typename G::Value off = value<G>(at(x, i) + c, j) - value<G>(&mean_[c], j);
            const typename G::Value z = off * value<G>(&scale_[c], j) + value<G>(beta + c, j);
            const typename G::Value g = value<G>(at(dy, i) + c, j) * slopes<Function::value>(z);
            if (is_expensive(Function::value) && kept) store(at(*kept, i) + c + j * (G::channels / G::size), g);
            sum[j] += g;
            product[j] += g * (off * value<G>(&inverse_[c], j));
          }
        std::memcpy(scratch_.at(first_) + piece * channels_ + c, sum, sizeof sum);
        std::memcpy(scratch_.at(second_) + piece * channels_ + c, product, sizeof product);
      });
    });
  }

  template <class Function, class Accumulate>
  void spread_gradients(Function, Accumulate accumulate, const Tensor& x, const Tensor& dy, const float* beta,
                        const Tensor& dx) const {
    for_pieces(summed_, [&](std::int64_t, std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const float *value_of_x = at(x, i), *from = at(dy, i);
        float* to = at(dx, i);
#pragma omp simd
        for (int c = 0; c < channels_; ++c) {
          const float off = value_of_x[c] - mean_[c];
          const float g = from[c] * slope<Function::value>(off * scale_[c] + beta[c]);
          const float gradient = batch_norm_dx(g, off * inverse_[c], scale_[c], mean_dgamma_[c], mean_dbeta_[c], 1.0f);
          to[c] = accumulate ? to[c] + gradient : gradient;
        }
      }
    });
  }

  template <class G>
  static typename G::Value value(const float* from, int j) {
    return load<typename G::Value>(from + j * (G::channels / G::size));
  }

  template <Activation function, class V>
  static V slopes(V z) {
    if constexpr (std::is_same_v<V, float>) {
      return slope<function>(z);
    } else {
      float each[lanes];
      store(each, z);
#pragma omp simd
      for (int i = 0; i < lanes; ++i) each[i] = slope<function>(each[i]);
      return load<V>(each);
    }
  }

  Moments<float> measured(int c) const {
    const auto positions = static_cast<double>(positions_);
    return {static_cast<float>(first_totals_[c] / positions), static_cast<float>(second_totals_[c] / positions)};
  }
  static Moments<float> shared(const Tensor& statistics, int c) {
    return {at(statistics, 0)[c], at(statistics, 1)[c]};
  }
  static void share(const Tensor& statistics, int c, const Moments<float>& moments) {
    at(statistics, 0)[c] = moments.mean, at(statistics, 1)[c] = moments.variance;
  }

  void require_statistics(const Tensor* statistics) const {
    require((statistics != nullptr) == kind_.shared_statistics,
            "batch norm: statistics to share where none were planned, or none where they were");
    if (statistics)
      require(statistics->shape == Shape{1, 1, 2, channels_} && statistics->dtype == DType::f32, "batch norm: statistics are ",
              to_string(statistics->shape), " ", name(statistics->dtype), " and not 1x1x2x", channels_, " f32");
  }

  void require_scale(const Tensor* gamma) const {
    require((gamma != nullptr) == kind_.scale, "batch norm: a scale where none was planned, or none where one was");
    if (gamma) require_vector(*gamma, channels_, "gamma");
  }

  Scratch& scratch_;
  BatchNorm kind_;
  Layout x_, y_;
  int channels_;
  std::int64_t positions_;                            // M = N H W
  Pieces measured_, summed_;                          // for the statistics; for all else
  std::size_t first_, second_;                        // two sums a piece and channel
  std::vector<double> first_totals_, second_totals_;  // over the pieces
  std::vector<float> mean_, inverse_, scale_;         // of the last forward pass
  std::vector<float> mean_dbeta_, mean_dgamma_;       // divided by M; zero where statistics are given
};

}  // namespace

std::unique_ptr<BatchNormOp> make_cpu_batch_norm(Scratch& scratch, const BatchNorm& kind, const Layout& x, const Layout& y) {
  return std::make_unique<CpuBatchNorm>(scratch, kind, x, y);
}

}  // namespace microtome
