// y = x / (1 - rate) where the random number of the element, or of the image, says keep, else 0; dx likewise from dy.
// See kernels/formulas/dropout.h.
#include "kernels/formulas/dropout.h"
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T>
class ReferenceDropout final : public DropoutOp {
 public:
  ReferenceDropout(const Dropout& kind, const Layout& x, const Layout& y) : kind_(kind), x_(x), y_(y) {
    require_types<T>(x, y);
    require(x.shape == y.shape, "dropout: ", to_string(x.shape), " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const StepState* state, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    drop(x, *state, y, Write::overwrite);
  }

  void backward(const Tensor& dy, const StepState* state, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    drop(dy, *state, dx, write);
  }

 private:
  void drop(const Tensor& from, const StepState& state, const Tensor& to, Write write) const {
    std::uint64_t index = 0;
    for_each(from.shape, [&](int n, int h, int w, int c) {
      const std::uint64_t element = kind_.per_image ? n : index;
      const bool keeps = dropout_keeps(state.seed, kind_.stream, state.step, element, kind_.rate);
      put(at<T>(to, n, h, w, c), keeps ? at<T>(from, n, h, w, c) * dropout_scale<T>(kind_.rate) : T(0), write);
      ++index;
    });
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
