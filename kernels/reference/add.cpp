// y = activation(a + b); the gradient of either is that before the activation. See kernels/formulas/activation.h.
#include "kernels/formulas/activation.h"
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T>
class ReferenceAdd final : public AddOp {
 public:
  ReferenceAdd(const Add& kind, const Layout& a, const Layout& b, const Layout& y) : kind_(kind), a_(a), b_(b), y_(y) {
    require_types<T>(a, y), require_types<T>(b, y);
    require(a.shape == b.shape && a.shape == y.shape, "add: ", to_string(a.shape), " and ", to_string(b.shape), " do not give ",
            to_string(y.shape));
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& a, const Tensor& b, const Tensor& y) override {
    require_layout(a, a_, "a"), require_layout(b, b_, "b"), require_layout(y, y_, "y");
    for_each(y.shape, [&](int n, int h, int w, int c) {
      at<T>(y, n, h, w, c) = activate(kind_.activation, at<T>(a, n, h, w, c) + at<T>(b, n, h, w, c));
    });
  }

  void backward(const Tensor& dy, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy");
    require_layout(dx, static_cast<const Layout&>(dx) == a_ ? a_ : b_, "dx");
    for_each(dy.shape, [&](int n, int h, int w, int c) { put(at<T>(dx, n, h, w, c), at<T>(dy, n, h, w, c), write); });
  }

 private:
  Add kind_;
  Layout a_, b_, y_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<AddOp> Reference<T>::add(const Add& kind, const Layout& a, const Layout& b, const Layout& y) {
  if (derivative_reads_x(kind.activation)) return nullptr;
  return std::make_unique<ReferenceAdd<T>>(kind, a, b, y);
}

template std::unique_ptr<AddOp> Reference<double>::add(const Add&, const Layout&, const Layout&, const Layout&);
template std::unique_ptr<AddOp> Reference<float>::add(const Add&, const Layout&, const Layout&, const Layout&);

}  // namespace microtome
