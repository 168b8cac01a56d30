// y[n,h,w,c] = x[n,h,w,c] gate[n,c]; dx[n,h,w,c] = dy[n,h,w,c] gate[n,c]; dgate[n,c] = sum over h,w of x[n,h,w,c] dy[n,h,w,c].
#include "kernels/reference/deferred.h"

namespace microtome {

namespace {

template <class T>
class ReferenceMultiply final : public MultiplyOp {
 public:
  ReferenceMultiply(const Multiply& kind, const Layout& x, const Layout& gate, const Layout& y)
      : kind_(kind), x_(x), gate_(gate), y_(y) {
    require_types<T>(x, y), require_types<T>(gate, y);
    require(x.shape == y.shape && gate.shape == Shape{x.shape.n, 1, 1, x.shape.c}, "multiply: ", to_string(x.shape), " and ",
            to_string(gate.shape), " do not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  int sum_rows() const override { return 1; }

  void forward(const Tensor& x, const Deferred* deferred, const Tensor& gate, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(gate, gate_, "gate"), require_layout(y, y_, "y");
    const Operand<T> z(x, deferred, kind_.deferred);
    for_each(y.shape, [&](int n, int h, int w, int c) {
      at<T>(y, n, h, w, c) = at<T>(z.tensor(), n, h, w, c) * at<T>(gate, n, 0, 0, c);
    });
  }

  void backward_data(const Tensor& dy, const Tensor& gate, const Deferred* deferred, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(gate, gate_, "gate"), require_layout(dx, x_, "dx");
    std::vector<T> dz;
    for_each(dx.shape, [&](int n, int h, int w, int c) { dz.push_back(at<T>(dy, n, h, w, c) * at<T>(gate, n, 0, 0, c)); });
    put_gradient(dz, deferred, kind_.deferred, dx, write);
  }

  void backward_gate(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dgate, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_layout(dgate, gate_, "dgate");
    const Operand<T> z(x, deferred, kind_.deferred);
    for_each(dgate.shape, [&](int n, int, int, int c) {
      T sum = 0;
      for_each({1, x.shape.h, x.shape.w, 1},
               [&](int, int h, int w, int) { sum += at<T>(z.tensor(), n, h, w, c) * at<T>(dy, n, h, w, c); });
      put(at<T>(dgate, n, 0, 0, c), sum, write);
    });
  }

 private:
  Multiply kind_;
  Layout x_, gate_, y_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<MultiplyOp> Reference<T>::multiply(const Multiply& kind, const Layout& x, const Layout& gate, const Layout& y) {
  return std::make_unique<ReferenceMultiply<T>>(kind, x, gate, y);
}

template std::unique_ptr<MultiplyOp> Reference<double>::multiply(const Multiply&, const Layout&, const Layout&, const Layout&);
template std::unique_ptr<MultiplyOp> Reference<float>::multiply(const Multiply&, const Layout&, const Layout&, const Layout&);

}  // namespace microtome
