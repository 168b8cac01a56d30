// y[n,h,w,c] = x[n,h,w,c] gate[n,c]; dx[n,h,w,c] = dy[n,h,w,c] gate[n,c]; dgate[n,c] = sum over h,w of x[n,h,w,c] dy[n,h,w,c].
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T>
class ReferenceMultiply final : public MultiplyOp {
 public:
  ReferenceMultiply(const Layout& x, const Layout& gate, const Layout& y) : x_(x), gate_(gate), y_(y) {
    require_types<T>(x, y), require_types<T>(gate, y);
    require(x.shape == y.shape && gate.shape == Shape{x.shape.n, 1, 1, x.shape.c}, "multiply: ", to_string(x.shape), " and ",
            to_string(gate.shape), " do not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const Tensor& gate, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(gate, gate_, "gate"), require_layout(y, y_, "y");
    for_each(y.shape,
             [&](int n, int h, int w, int c) { at<T>(y, n, h, w, c) = at<T>(x, n, h, w, c) * at<T>(gate, n, 0, 0, c); });
  }

  void backward_data(const Tensor& dy, const Tensor& gate, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(gate, gate_, "gate"), require_layout(dx, x_, "dx");
    for_each(dx.shape, [&](int n, int h, int w, int c) {
      put(at<T>(dx, n, h, w, c), at<T>(dy, n, h, w, c) * at<T>(gate, n, 0, 0, c), write);
    });
  }

  void backward_gate(const Tensor& x, const Tensor& dy, const Tensor& dgate, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_layout(dgate, gate_, "dgate");
    for_each(dgate.shape, [&](int n, int, int, int c) {
      T sum = 0;
      for_each({1, x.shape.h, x.shape.w, 1},
               [&](int, int h, int w, int) { sum += at<T>(x, n, h, w, c) * at<T>(dy, n, h, w, c); });
      put(at<T>(dgate, n, 0, 0, c), sum, write);
    });
  }

 private:
  Layout x_, gate_, y_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<MultiplyOp> Reference<T>::multiply(const Multiply&, const Layout& x, const Layout& gate, const Layout& y) {
  return std::make_unique<ReferenceMultiply<T>>(x, gate, y);
}

template std::unique_ptr<MultiplyOp> Reference<double>::multiply(const Multiply&, const Layout&, const Layout&, const Layout&);
template std::unique_ptr<MultiplyOp> Reference<float>::multiply(const Multiply&, const Layout&, const Layout&, const Layout&);

}  // namespace microtome
