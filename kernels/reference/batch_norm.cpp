// y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta), per channel [Ioffe2015, alg. 1]; see
// kernels/formulas/batch_norm.h. The variance is the mean of (x - mean)^2, in a second pass: nothing cancels. Of known channels
// mean and variance are read; the others' are written where they are shared.
#include "kernels/formulas/batch_norm.h"
#include "kernels/formulas/activation.h"
#include "kernels/reference/reference.h"

#include <vector>

namespace microtome {

namespace {

template <class T>
class ReferenceBatchNorm final : public BatchNormOp {
 public:
  ReferenceBatchNorm(const BatchNorm& kind, const Layout& x, const Layout& y)
      : kind_(kind), x_(x), y_(y), count_(static_cast<T>(x.shape.count() / x.shape.c)), moments_(x.shape.c) {
    require_types<T>(x, y);
    require(x.shape == y.shape, "batch norm: ", to_string(x.shape), " does not give ", to_string(y.shape));
    require(kind.shared_statistics ? kind.batch_statistics && kind.known_channels >= 0 && kind.known_channels <= x.shape.c
                                   : kind.known_channels == 0,
            "batch norm: ", kind.known_channels, " known channels of ", x.shape.c, " without shared statistics of a batch");
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
               const Tensor& moving_variance, const Tensor* statistics, const Tensor& y) override {
    require_layout(x, x_, "x"), require_scale(gamma), require_layout(y, y_, "y");
    for (const Tensor* vector : {&beta, &moving_mean, &moving_variance})
      require_vector<T>(*vector, x.shape.c, "beta or a moving average");
    require_statistics(statistics);
    const T momentum = kind_.momentum;
    for (int c = 0; c < x.shape.c; ++c) {
      T &mean = at<T>(moving_mean, c), &variance = at<T>(moving_variance, c);
      if (kind_.batch_statistics) {
        if (c < kind_.known_channels) {
          moments_[c] = {at<T>(*statistics, 0, 0, 0, c), at<T>(*statistics, 0, 0, 1, c)};
        } else {
          moments_[c] = batch_moments(x, c);
          if (statistics)
            at<T>(*statistics, 0, 0, 0, c) = moments_[c].mean, at<T>(*statistics, 0, 0, 1, c) = moments_[c].variance;
        }
        mean = moving_average(mean, moments_[c].mean, momentum);
        variance = moving_average(variance, moving_variance_sample(moments_[c].variance, count_, kind_.bessel), momentum);
      } else {
        moments_[c] = {mean, variance};
      }
    }
    for_each(x.shape, [&](int n, int h, int w, int c) {
      at<T>(y, n, h, w, c) = activate(kind_.activation, scaled(gamma, beta, c, normalised(at<T>(x, n, h, w, c), c)));
    });
  }

  void backward(const Tensor& x, const Tensor& dy, const Tensor* gamma, const Tensor& beta, const Tensor& dx,
                const Tensor* dgamma, const Tensor& dbeta, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx"), require_scale(gamma),
        require_scale(dgamma);
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
      const T scale = (gamma ? at<T>(*gamma, c) : T(1)) * deviation(c);
      const T gradient = before_activation(n, h, w, c);
      put(at<T>(dx, n, h, w, c),
          kind_.batch_statistics
              ? batch_norm_dx(gradient, normalised(at<T>(x, n, h, w, c), c), scale, products[c], sums[c], count_)
              : scale * gradient,
          write);
    });
    for (int c = 0; c < x.shape.c; ++c) {
      at<T>(dbeta, c) = sums[c];
      if (dgamma) at<T>(*dgamma, c) = products[c];
    }
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

  T deviation(int c) const { return inverse_deviation(moments_[c].variance, static_cast<T>(kind_.epsilon)); }
  T normalised(T x, int c) const { return (x - moments_[c].mean) * deviation(c); }
  T scaled(const Tensor* gamma, const Tensor& beta, int c, T normal) const {
    return (gamma ? at<T>(*gamma, c) * normal : normal) + at<T>(beta, c);
  }

  void require_statistics(const Tensor* statistics) const {
    require((statistics != nullptr) == kind_.shared_statistics,
            "batch norm: statistics to share where none were planned, or none where they were");
    if (statistics)
      require(statistics->shape == Shape{1, 1, 2, x_.shape.c} && statistics->dtype == dtype_of<T>,
              "batch norm: statistics are ", to_string(statistics->shape), " ", name(statistics->dtype), " and not 1x1x2x",
              x_.shape.c, " ", name(dtype_of<T>));
  }

  void require_scale(const Tensor* gamma) const {
    require((gamma != nullptr) == kind_.scale, "batch norm: a scale where none was planned, or none where one was");
    if (gamma) require_vector<T>(*gamma, x_.shape.c, "gamma");
  }

  BatchNorm kind_;
  Layout x_, y_;
  T count_;                          // M = N H W
  std::vector<Moments<T>> moments_;  // of the last forward pass
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<BatchNormOp> Reference<T>::batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) {
  return std::make_unique<ReferenceBatchNorm<T>>(kind, x, y);
}

template std::unique_ptr<BatchNormOp> Reference<double>::batch_norm(const BatchNorm&, const Layout&, const Layout&);
template std::unique_ptr<BatchNormOp> Reference<float>::batch_norm(const BatchNorm&, const Layout&, const Layout&);

}  // namespace microtome
