// loss = mean over n of cross_entropy(z[n], y[n]); dz[n] = (sigmoid(z[n]) - y[n]) / N. See kernels/formulas/loss.h.
#include "kernels/formulas/loss.h"
#include "kernels/reference/reference.h"

#include <cmath>

namespace microtome {

namespace {

template <class T>
class ReferenceLoss final : public LossOp {
 public:
  ReferenceLoss(const Loss& kind, const Layout& z) : kind_(kind), z_(z) {
    require_types<T>(z, z);
    require(z.shape == Shape{z.shape.n, 1, 1, 1}, "loss: logits are ", to_string(z.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& z, const Tensor& y, StepState* state, BatchMetrics* metrics, float* scores) override {
    require_layout(z, z_, "z"), require_vector<T>(y, z.shape.n, "y");
    T sum = 0;
    std::uint32_t correct = 0;
    for (int n = 0; n < z.shape.n; ++n) {
      const T logit = at<T>(z, n, 0, 0, 0);
      const float narrow = static_cast<float>(logit);
      sum += cross_entropy(logit, at<T>(y, n));
      correct += is_correct(narrow, static_cast<float>(at<T>(y, n)));
      if (scores) scores[state->batch * kind_.batch_size + n] = sigmoid(narrow);
    }
    metrics[state->batch] = {.loss = sum / z.shape.n, .correct = correct, .count = static_cast<std::uint32_t>(z.shape.n)};
    if (!std::isfinite(sum)) state->finite = 0;
  }

  void backward(const Tensor& z, const Tensor& y, const Tensor& dz) override {
    require_layout(z, z_, "z"), require_vector<T>(y, z.shape.n, "y"), require_layout(dz, z_, "dz");
    for (int n = 0; n < z.shape.n; ++n)
      at<T>(dz, n, 0, 0, 0) = cross_entropy_derivative(at<T>(z, n, 0, 0, 0), at<T>(y, n)) / static_cast<T>(z.shape.n);
  }

 private:
  Loss kind_;
  Layout z_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<LossOp> Reference<T>::loss(const Loss& kind, const Layout& z) {
  return std::make_unique<ReferenceLoss<T>>(kind, z);
}

template std::unique_ptr<LossOp> Reference<double>::loss(const Loss&, const Layout&);
template std::unique_ptr<LossOp> Reference<float>::loss(const Loss&, const Layout&);

}  // namespace microtome
