// y = f(x); dx = f'(x or y) dy. See kernels/formulas/activation.h.
#include "kernels/formulas/activation.h"
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T>
class ReferenceActivate final : public ActivateOp {
 public:
  ReferenceActivate(const Activate& kind, const Layout& x, const Layout& y) : function_(kind.function), x_(x), y_(y) {
    require_types<T>(x, y);
    require(x.shape == y.shape, "activation: ", to_string(x.shape), " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = derivative_reads_x(function_), .y = derivative_reads_y(function_)}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    for_each(x.shape,
             [&](int n, int h, int w, int c) { at<T>(y, n, h, w, c) = microtome::activate(function_, at<T>(x, n, h, w, c)); });
  }

  void backward(const Tensor* x, const Tensor* y, const Tensor& dy, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    const Tensor* known = derivative_reads_x(function_) ? x : y;
    require(known || function_ == Activation::none, "activation: the tensor that backward_reads names is missing");
    for_each(dx.shape, [&](int n, int h, int w, int c) {
      const T slope = known ? activation_derivative(function_, at<T>(*known, n, h, w, c)) : T(1);
      put(at<T>(dx, n, h, w, c), slope * at<T>(dy, n, h, w, c), write);
    });
  }

 private:
  Activation function_;
  Layout x_, y_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<ActivateOp> Reference<T>::activate(const Activate& kind, const Layout& x, const Layout& y) {
  return std::make_unique<ReferenceActivate<T>>(kind, x, y);
}

template std::unique_ptr<ActivateOp> Reference<double>::activate(const Activate&, const Layout&, const Layout&);
template std::unique_ptr<ActivateOp> Reference<float>::activate(const Activate&, const Layout&, const Layout&);

}  // namespace microtome
