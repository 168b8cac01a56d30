// y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta), per channel [Ioffe2015, alg. 1]; see
// kernels/formulas/batch_norm.h. The variance is the mean of (x - mean)^2, in a second pass: nothing cancels. Of known channels
// mean and variance are read; the others' are written where they are shared.
#include "kernels/formulas/batch_norm.h"
#include "kernels/formulas/activation.h"
#include "kernels/reference/reference.h"

#include <vector>

namespace microtome {

namespace {

/// What a batch-norm knows of its channels after a forward pass.
template <class T>
class Statistics {
 public:
  Statistics(const BatchNorm& kind, const Layout& x)
      : kind_(kind), channels_(x.shape.c), count_(static_cast<T>(x.shape.count() / x.shape.c)), moments_(x.shape.c) {
    require_types<T>(x, x);
    require(kind.shared_statistics ? kind.batch_statistics && kind.known_channels >= 0 && kind.known_channels <= channels_
                                   : kind.known_channels == 0,
            "batch norm: ", kind.known_channels, " known channels of ", channels_, " without shared statistics of a batch");
    require(!kind.partial_statistics || (kind.batch_statistics && !kind.shared_statistics),
            "batch norm: partial statistics are of a batch, and of all channels");
  }

  void take(const Tensor& x, const Tensor& moving_mean, const Tensor& moving_variance, const Tensor* statistics,
            const Tensor* partial) {
    for (const Tensor* vector : {&moving_mean, &moving_variance}) require_vector<T>(*vector, channels_, "a moving average");
    require_statistics(statistics, partial);
    const T momentum = kind_.momentum;
    for (int c = 0; c < channels_; ++c) {
      T &mean = at<T>(moving_mean, c), &variance = at<T>(moving_variance, c);
      if (!kind_.batch_statistics) {
        moments_[c] = {mean, variance};
        continue;
      }
      if (c < kind_.known_channels) {
        moments_[c] = {at<T>(*statistics, 0, 0, 0, c), at<T>(*statistics, 0, 0, 1, c)};
      } else {
        moments_[c] = partial ? moments_of(*partial, c) : batch_moments(x, c);
        if (statistics)
          at<T>(*statistics, 0, 0, 0, c) = moments_[c].mean, at<T>(*statistics, 0, 0, 1, c) = moments_[c].variance;
      }
      mean = moving_average(mean, moments_[c].mean, momentum);
      variance = moving_average(variance, moving_variance_sample(moments_[c].variance, count_, kind_.bessel), momentum);
    }
  }

  T mean(int c) const { return moments_[c].mean; }
  T deviation(int c) const { return inverse_deviation(moments_[c].variance, static_cast<T>(kind_.epsilon)); }
  T scale(const Tensor* gamma, int c) const { return (gamma ? at<T>(*gamma, c) : T(1)) * deviation(c); }
  T count() const { return count_; }

  void require_scale(const Tensor* gamma) const {
    require((gamma != nullptr) == kind_.scale, "batch norm: a scale where none was planned, or none where one was");
    if (gamma) require_vector<T>(*gamma, channels_, "gamma");
  }

 private:
  Moments<T> batch_moments(const Tensor& x, int c) const {
    const Shape one{x.shape.n, x.shape.h, x.shape.w, 1};
    T sum = 0, squares = 0;
    for_each(one, [&](int n, int h, int w, int) { sum += at<T>(x, n, h, w, c); });
    const T mean = sum / count_;
    for_each(one, [&](int n, int h, int w, int) {
      const T off = at<T>(x, n, h, w, c) - mean;
      squares += off * off;
    });
    return {mean, squares / count_};
  }

  /// Of all rows: deviations from the rows' means, and of these from the mean of all [Chan1979].
  Moments<T> moments_of(const Tensor& partial, int c) const {
    T sum = 0, squares = 0;
    const auto row = [&](int r, int part) { return at<T>(partial, 0, 0, r, part * channels_ + c); };
    for (int r = 0; r < partial.shape.w; ++r) sum += row(r, 0) * row(r, 1);
    const T mean = sum / count_;
    for (int r = 0; r < partial.shape.w; ++r) squares += row(r, 2) + row(r, 0) * (row(r, 1) - mean) * (row(r, 1) - mean);
    return {mean, squares / count_};
  }

  void require_statistics(const Tensor* statistics, const Tensor* partial) const {
    require((statistics != nullptr) == kind_.shared_statistics,
            "batch norm: statistics to share where none were planned, or none where they were");
    if (statistics)
      require(statistics->shape == Shape{1, 1, 2, channels_} && statistics->dtype == dtype_of<T>, "batch norm: statistics are ",
              to_string(statistics->shape), " ", name(statistics->dtype), " and not 1x1x2x", channels_, " ", name(dtype_of<T>));
    require((partial != nullptr) == kind_.partial_statistics,
            "batch norm: partial statistics where none were planned, or none where they were");
    if (partial) require_vector<T>(*partial, 3 * std::int64_t{channels_} * partial->shape.w, "partial statistics");
  }

  BatchNorm kind_;
  int channels_;
  T count_;  // M = N H W
  std::vector<Moments<T>> moments_;
};

template <class T>
class ReferenceBatchNorm final : public BatchNormOp {
 public:
  ReferenceBatchNorm(const BatchNorm& kind, const Layout& x, const Layout& y)
      : kind_(kind), x_(x), y_(y), statistics_(kind, x) {
    require_types<T>(x, y);
    require(x.shape == y.shape, "batch norm: ", to_string(x.shape), " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor* partial, const Tensor& y) override {
    require_layout(x, x_, "x"), statistics_.require_scale(gamma), require_layout(y, y_, "y");
    require_vector<T>(beta, x.shape.c, "beta");
    statistics_.take(x, moving_mean, moving_variance, statistics, partial);
    for_each(x.shape, [&](int n, int h, int w, int c) {
      at<T>(y, n, h, w, c) = activate(kind_.activation, scaled(gamma, beta, c, normalised(at<T>(x, n, h, w, c), c)));
    });
  }

  void backward(const Tensor& x, const Tensor& dy, const Tensor* gamma, const Tensor& beta, const Tensor& dx,
                const Tensor* dgamma, const Tensor& dbeta, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    statistics_.require_scale(gamma), statistics_.require_scale(dgamma);
    require_vector<T>(beta, x.shape.c, "beta"), require_vector<T>(dbeta, x.shape.c, "dbeta");
    const auto before_activation = [&](int n, int h, int w, int c) {
      const T z = scaled(gamma, beta, c, normalised(at<T>(x, n, h, w, c), c));
      const T known = derivative_reads_x(kind_.activation) ? z : activate(kind_.activation, z);
      return at<T>(dy, n, h, w, c) * activation_derivative(kind_.activation, known);
    };
    std::vector<T> sums(x.shape.c), products(x.shape.c);
    for_each(x.shape, [&](int n, int h, int w, int c) {
      const T gradient = before_activation(n, h, w, c);
      sums[c] += gradient;
      products[c] += gradient * normalised(at<T>(x, n, h, w, c), c);
    });
    for_each(x.shape, [&](int n, int h, int w, int c) {
      const T scale = statistics_.scale(gamma, c), gradient = before_activation(n, h, w, c);
      put(at<T>(dx, n, h, w, c),
          kind_.batch_statistics
              ? batch_norm_dx(gradient, normalised(at<T>(x, n, h, w, c), c), scale, products[c], sums[c], statistics_.count())
              : scale * gradient,
          write);
    });
    for (int c = 0; c < x.shape.c; ++c) {
      at<T>(dbeta, c) = sums[c];
      if (dgamma) at<T>(*dgamma, c) = products[c];
    }
  }

 private:
  T normalised(T x, int c) const { return (x - statistics_.mean(c)) * statistics_.deviation(c); }
  T scaled(const Tensor* gamma, const Tensor& beta, int c, T normal) const {
    return (gamma ? at<T>(*gamma, c) * normal : normal) + at<T>(beta, c);
  }

  BatchNorm kind_;
  Layout x_, y_;
  Statistics<T> statistics_;
};

/// dx = scale (g - sum g / M - (x - mean) / deviation^2 sum g (x - mean) / M), whose first term the readers have written.
template <class T>
class ReferenceDeferredNorm final : public DeferredNormOp {
 public:
  ReferenceDeferredNorm(const BatchNorm& kind, const Layout& x) : kind_(kind), x_(x), statistics_(kind, x) {}

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor* partial,
               const Tensor& coefficients) override {
    require_layout(x, x_, "x"), statistics_.require_scale(gamma);
    require_vector<T>(coefficients, 3 * std::int64_t{x.shape.c}, "coefficients");
    statistics_.take(x, moving_mean, moving_variance, statistics, partial);
    for (int c = 0; c < x.shape.c; ++c) {
      at<T>(coefficients, 0, 0, 0, c) = statistics_.mean(c);
      at<T>(coefficients, 0, 0, 1, c) = statistics_.scale(gamma, c);
      at<T>(coefficients, 0, 0, 2, c) = at<T>(beta, c);
    }
  }

  void backward(const Tensor& sums, const Tensor* gamma, const Tensor* dgamma, const Tensor& dbeta, const Tensor& correction,
                Write write) override {
    const int channels = x_.shape.c;
    require_vector<T>(sums, 2 * std::int64_t{channels} * sums.shape.w, "sums");
    statistics_.require_scale(gamma), statistics_.require_scale(dgamma);
    const T each = kind_.batch_statistics ? 1 / statistics_.count() : T(0);
    for (int c = 0; c < channels; ++c) {
      T sum = 0, products = 0;
      for (int r = 0; r < sums.shape.w; ++r) sum += at<T>(sums, 0, 0, r, c), products += at<T>(sums, 0, 0, r, channels + c);
      const T scale = statistics_.scale(gamma, c), inverse = statistics_.deviation(c);
      at<T>(dbeta, c) = sum;
      if (dgamma) at<T>(*dgamma, c) = products * inverse;
      put(at<T>(correction, 0, 0, 0, c), scale * sum * each, write);
      put(at<T>(correction, 0, 0, 1, c), scale * products * inverse * inverse * each, write);
      at<T>(correction, 0, 0, 2, c) = statistics_.mean(c);
    }
  }

 private:
  BatchNorm kind_;
  Layout x_;
  Statistics<T> statistics_;
};

template <class T>
class ReferenceNormCorrection final : public NormCorrectionOp {
 public:
  explicit ReferenceNormCorrection(const Layout& x) : x_(x) { require_types<T>(x, x); }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  void run(const Tensor& x, const Tensor& correction, const Tensor& dx) override {
    require_layout(x, x_, "x"), require_layout(dx, x_, "dx");
    for_each(x.shape, [&](int n, int h, int w, int c) {
      const auto row = [&](int i) { return at<T>(correction, 0, 0, i, c); };
      at<T>(dx, n, h, w, c) -= row(0) + row(1) * (at<T>(x, n, h, w, c) - row(2));
    });
  }

 private:
  Layout x_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<BatchNormOp> Reference<T>::batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) {
  return std::make_unique<ReferenceBatchNorm<T>>(kind, x, y);
}

template <std::floating_point T>
std::unique_ptr<DeferredNormOp> Reference<T>::deferred_norm(const BatchNorm& kind, const Layout& x) {
  return std::make_unique<ReferenceDeferredNorm<T>>(kind, x);
}

template <std::floating_point T>
std::unique_ptr<NormCorrectionOp> Reference<T>::norm_correction(const Layout& x) {
  return std::make_unique<ReferenceNormCorrection<T>>(x);
}

template std::unique_ptr<BatchNormOp> Reference<double>::batch_norm(const BatchNorm&, const Layout&, const Layout&);
template std::unique_ptr<BatchNormOp> Reference<float>::batch_norm(const BatchNorm&, const Layout&, const Layout&);
template std::unique_ptr<DeferredNormOp> Reference<double>::deferred_norm(const BatchNorm&, const Layout&);
template std::unique_ptr<DeferredNormOp> Reference<float>::deferred_norm(const BatchNorm&, const Layout&);
template std::unique_ptr<NormCorrectionOp> Reference<double>::norm_correction(const Layout&);
template std::unique_ptr<NormCorrectionOp> Reference<float>::norm_correction(const Layout&);

}  // namespace microtome
