// y = x / (1 - rate) where the random number of the element, or of the image, says keep, else 0; dx likewise from dy.
// See kernels/formulas/dropout.h.
#include "kernels/formulas/dropout.h"
#include "kernels/reference/deferred.h"

namespace microtome {

namespace {

template <class T>
class ReferenceDropout final : public DropoutOp {
 public:
  ReferenceDropout(const Dropout& kind, const Layout& x, const Layout& y) : kind_(kind), x_(x), y_(y) {
    require_types<T>(x, y);
    require(x.shape == y.shape, "dropout: ", to_string(x.shape), " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = kind_.deferred.has_value()}; }
  std::string implementation() const override { return "naive"; }
  int sum_rows() const override { return 1; }

  void forward(const Tensor& x, const Deferred* deferred, const StepState* state, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    const Operand<T> z(x, deferred, kind_.deferred);
    put_gradient(dropped(z.tensor(), *state), nullptr, {}, y, Write::overwrite);
  }

  void backward(const Tensor& dy, const Deferred* deferred, const StepState* state, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    put_gradient(dropped(dy, *state), deferred, kind_.deferred, dx, write);
  }

 private:
  std::vector<T> dropped(const Tensor& from, const StepState& state) const {
    std::vector<T> to;
    for_each(from.shape, [&](int n, int h, int w, int c) {
      const std::uint64_t element = kind_.per_image ? n : to.size();
      const bool keeps = dropout_keeps(state.seed, kind_.stream, state.step, element, kind_.rate);
      to.push_back(keeps ? at<T>(from, n, h, w, c) * dropout_scale<T>(kind_.rate) : T(0));
    });
    return to;
  }

  Dropout kind_;
  Layout x_, y_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<DropoutOp> Reference<T>::dropout(const Dropout& kind, const Layout& x, const Layout& y) {
  return std::make_unique<ReferenceDropout<T>>(kind, x, y);
}

template std::unique_ptr<DropoutOp> Reference<double>::dropout(const Dropout&, const Layout&, const Layout&);
template std::unique_ptr<DropoutOp> Reference<float>::dropout(const Dropout&, const Layout&, const Layout&);

}  // namespace microtome
