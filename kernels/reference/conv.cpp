// y[n,p,q,k] = activation(b[k] + sum over r,s,c of x[n, p stride - before + r, q stride - before + s, g C/G + c] w[k,r,s,c]),
// g = k / (K/G) the group of k; cells outside the image are 0. Both gradients walk the same products, each adding to its own
// operand's place.
#include "kernels/formulas/activation.h"
#include "kernels/reference/deferred.h"

#include <algorithm>
#include <vector>

namespace microtome {

namespace {

template <class T>
class ReferenceConv final : public ConvOp {
 public:
  ReferenceConv(const Conv& kind, const Layout& x, const Layout& y)
      : kind_(kind), x_(x), y_(y), w_({y.shape.c, kind.window.kernel.h, kind.window.kernel.w, x.shape.c / kind.groups}) {
    require_types<T>(x, y);
    require(x.shape.c % kind.groups == 0 && y.shape.c % kind.groups == 0, "conv: groups ", kind.groups,
            " must divide channels ", x.shape.c, " and ", y.shape.c);
    require(kind.window.output(x.shape, y.shape.c) == y.shape, "conv: ", to_string(x.shape), " does not give ",
            to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  int sum_rows() const override { return 1; }
  int statistics_rows() const override { return 1; }

  void forward(const Tensor& x, const Deferred* deferred, const Tensor& w, const Tensor* b, const Tensor& y,
               const Tensor* statistics) override {
    require_layout(x, x_, "x"), require_vector<T>(w, w_.count(), "w"), require_bias(b), require_layout(y, y_, "y");
    const Operand<T> z(x, deferred, kind_.deferred);
    for_each(y.shape, [&](int n, int p, int q, int k) {
      T sum = b ? at<T>(*b, k) : T(0);
      for_each_tap(p, q, k, [&](int h, int wide, std::int64_t tap, int first) {
        const T* from = &at<T>(z.tensor(), n, h, wide, first);
        for (int c = 0; c < w_.c; ++c) sum += from[c] * at<T>(w, tap + c);
      });
      at<T>(y, n, p, q, k) = activate(kind_.activation, sum);
    });
    require((statistics != nullptr) == kind_.statistics, "conv: statistics where none were planned, or none where they were");
    if (statistics) measure(y, *statistics);
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Deferred* deferred, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_vector<T>(w, w_.count(), "w"), require_layout(dx, x_, "dx");
    std::vector<T> sums(dx.shape.count());
    for_each(dy.shape, [&](int n, int p, int q, int k) {
      const T gradient = at<T>(dy, n, p, q, k);
      for_each_tap(p, q, k, [&](int h, int wide, std::int64_t tap, int first) {
        T* to = &sums[((std::int64_t{n} * dx.shape.h + h) * dx.shape.w + wide) * dx.shape.c + first];
        for (int c = 0; c < w_.c; ++c) to[c] += gradient * at<T>(w, tap + c);
      });
    });
    put_gradient(sums, deferred, kind_.deferred, dx, write);
  }

  void backward_filter(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dw, const Tensor* db,
                       Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_vector<T>(dw, w_.count(), "dw"), require_bias(db);
    const Operand<T> z(x, deferred, kind_.deferred);
    std::vector<T> sums(w_.count()), bias_sums(w_.n);
    for_each(dy.shape, [&](int n, int p, int q, int k) {
      const T gradient = at<T>(dy, n, p, q, k);
      bias_sums[k] += gradient;
      for_each_tap(p, q, k, [&](int h, int wide, std::int64_t tap, int first) {
        const T* from = &at<T>(z.tensor(), n, h, wide, first);
        for (int c = 0; c < w_.c; ++c) sums[tap + c] += gradient * from[c];
      });
    });
    for (std::int64_t i = 0; i < w_.count(); ++i) put(at<T>(dw, i), sums[i], write);
    for (int k = 0; db && k < w_.n; ++k) put(at<T>(*db, k), bias_sums[k], write);
  }

 private:
  /// f(h, w, first weight, first channel) for every cell of the image under the window of output (p, q, k).
  template <class F>
  void for_each_tap(int p, int q, int k, const F& f) const {
    const Window& window = kind_.window;
    const int first = k / (w_.n / kind_.groups) * w_.c;
    const int top = p * window.stride.h - window.before.h, left = q * window.stride.w - window.before.w;
    for (int r = std::max(0, -top); r < std::min(w_.h, x_.shape.h - top); ++r)
      for (int s = std::max(0, -left); s < std::min(w_.w, x_.shape.w - left); ++s)
        f(top + r, left + s, ((std::int64_t{k} * w_.h + r) * w_.w + s) * w_.c, first);
  }

  /// All of y as one row: number of pixels, mean, sum of squared deviations.
  void measure(const Tensor& y, const Tensor& statistics) const {
    require_vector<T>(statistics, 3 * std::int64_t{w_.n}, "statistics");
    const Shape one{y.shape.n, y.shape.h, y.shape.w, 1};
    const T count = static_cast<T>(one.count());
    for (int k = 0; k < w_.n; ++k) {
      T sum = 0, squares = 0;
      for_each(one, [&](int n, int p, int q, int) { sum += at<T>(y, n, p, q, k); });
      for_each(one, [&](int n, int p, int q, int) {
        const T off = at<T>(y, n, p, q, k) - sum / count;
        squares += off * off;
      });
      at<T>(statistics, k) = count, at<T>(statistics, w_.n + k) = sum / count, at<T>(statistics, 2 * w_.n + k) = squares;
    }
  }

  void require_bias(const Tensor* b) const {
    require((b != nullptr) == kind_.bias, "conv: a bias where none was planned, or none where one was");
    if (b) require_vector<T>(*b, w_.n, "b");
  }

  Conv kind_;
  Layout x_, y_;
  Shape w_;  // K R S C/G
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<ConvOp> Reference<T>::conv(const Conv& kind, const Layout& x, const Layout& y) {
  return std::make_unique<ReferenceConv<T>>(kind, x, y);
}

template std::unique_ptr<ConvOp> Reference<double>::conv(const Conv&, const Layout&, const Layout&);
template std::unique_ptr<ConvOp> Reference<float>::conv(const Conv&, const Layout&, const Layout&);

}  // namespace microtome
