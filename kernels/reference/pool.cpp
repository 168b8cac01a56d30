// y[n,p,q,c] = activation(max or mean of x[n,h,w,c] over the cells of the window at (p, q) that lie inside the image).
// A maximum's gradient goes to its first cell in row-major order, a mean's in equal parts to its cells. NaN is the largest.
#include "kernels/formulas/activation.h"
#include "kernels/reference/deferred.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace microtome {

namespace {

template <class T>
class ReferencePool final : public PoolOp {
 public:
  ReferencePool(const Pool& kind, const Layout& x, const Layout& y) : kind_(kind), x_(x), y_(y), winners_(y.shape.count()) {
    require_types<T>(x, y);
    require(kind.window.output(x.shape, x.shape.c) == y.shape, "pool: ", to_string(x.shape), " does not give ",
            to_string(y.shape));
    for (const int p : {0, y.shape.h - 1})
      for (const int q : {0, y.shape.w - 1}) require(cells(p, q).count() > 0, "pool: a window lies in the padding alone");
  }

  Reads backward_reads() const override { return {.x = kind_.deferred.has_value()}; }
  std::string implementation() const override { return "naive"; }
  int sum_rows() const override { return 1; }

  void forward(const Tensor& x, const Deferred* deferred, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    const Operand<T> operand(x, deferred, kind_.deferred);
    const Tensor& z = operand.tensor();
    Winner* winner = winners_.data();
    for_each(y.shape, [&](int n, int p, int q, int c) {
      const Cells in = cells(p, q);
      *winner = {in.top, in.left};
      T sum = 0;
      for (int h = in.top; h < in.bottom; ++h)
        for (int w = in.left; w < in.right; ++w) {
          const T value = at<T>(z, n, h, w, c);
          sum += value;
          if (value > at<T>(z, n, winner->h, winner->w, c) || std::isnan(value)) *winner = {h, w};
        }
      const T pooled = is_max() ? at<T>(z, n, winner->h, winner->w, c) : sum / static_cast<T>(in.count());
      at<T>(y, n, p, q, c) = microtome::activate(kind_.activation, pooled);
      winner->passes = kind_.activation == Activation::none || pooled > T(0);
      ++winner;
    });
  }

  void backward(const Tensor& dy, const Deferred* deferred, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    std::vector<T> sums(dx.shape.count());
    const auto sum = [&](int n, int h, int w, int c) -> T& {
      return sums[((std::int64_t{n} * dx.shape.h + h) * dx.shape.w + w) * dx.shape.c + c];
    };
    const Winner* winner = winners_.data();
    for_each(dy.shape, [&](int n, int p, int q, int c) {
      const T gradient = winner->passes ? at<T>(dy, n, p, q, c) : T(0);
      if (is_max()) {
        sum(n, winner->h, winner->w, c) += gradient;
      } else {
        const Cells in = cells(p, q);
        for (int h = in.top; h < in.bottom; ++h)
          for (int w = in.left; w < in.right; ++w) sum(n, h, w, c) += gradient / static_cast<T>(in.count());
      }
      ++winner;
    });
    put_gradient(sums, deferred, kind_.deferred, dx, write);
  }

 private:
  /// The cells of the image under one window; bottom and right are one too far.
  struct Cells {
    int top, left, bottom, right;
    int count() const { return std::max(0, bottom - top) * std::max(0, right - left); }
  };

  /// The first largest cell under a window, and whether the activation lets a gradient through to it.
  struct Winner {
    int h = 0, w = 0;
    bool passes = true;
  };

  Cells cells(int p, int q) const {
    const Window& window = kind_.window;
    const int top = p * window.stride.h - window.before.h, left = q * window.stride.w - window.before.w;
    return {std::max(0, top), std::max(0, left), std::min(x_.shape.h, top + window.kernel.h),
            std::min(x_.shape.w, left + window.kernel.w)};
  }

  bool is_max() const { return kind_.kind == Pool::Kind::max; }

  Pool kind_;
  Layout x_, y_;
  std::vector<Winner> winners_;  // of the last forward pass, one an output
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<PoolOp> Reference<T>::pool(const Pool& kind, const Layout& x, const Layout& y) {
  require(kind.activation == Activation::none || kind.activation == Activation::relu, "pool: an activation other than relu");
  return std::make_unique<ReferencePool<T>>(kind, x, y);
}

template std::unique_ptr<PoolOp> Reference<double>::pool(const Pool&, const Layout&, const Layout&);
template std::unique_ptr<PoolOp> Reference<float>::pool(const Pool&, const Layout&, const Layout&);

}  // namespace microtome
