// y = activation(a + b); the gradient of either is that before the activation. See kernels/formulas/activation.h.
#include "kernels/formulas/activation.h"
#include "kernels/reference/deferred.h"

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

  Reads backward_reads() const override { return {.x = kind_.deferred[0].has_value() || kind_.deferred[1].has_value()}; }
  std::string implementation() const override { return "naive"; }
  int sum_rows() const override { return 1; }

  void forward(const Tensor& a, const Deferred* deferred_a, const Tensor& b, const Deferred* deferred_b,
               const Tensor& y) override {
    require_layout(a, a_, "a"), require_layout(b, b_, "b"), require_layout(y, y_, "y");
    const Operand<T> left(a, deferred_a, kind_.deferred[0]), right(b, deferred_b, kind_.deferred[1]);
    for_each(y.shape, [&](int n, int h, int w, int c) {
      at<T>(y, n, h, w, c) = activate(kind_.activation, at<T>(left.tensor(), n, h, w, c) + at<T>(right.tensor(), n, h, w, c));
    });
  }

  void backward(const Tensor& dy, const Deferred* deferred, Side side, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, side == Side::a ? a_ : b_, "dx");
    std::vector<T> dz;
    for_each(dy.shape, [&](int n, int h, int w, int c) { dz.push_back(at<T>(dy, n, h, w, c)); });
    put_gradient(dz, deferred, kind_.deferred[side == Side::a ? 0 : 1], dx, write);
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
