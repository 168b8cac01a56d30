// loss = mean over n of cross_entropy(z[n], y[n]); dz[n] = (sigmoid(z[n]) - y[n]) / N. See kernels/formulas/loss.h.
#include "kernels/formulas/loss.h"
#include "kernels/cpu/cpu.h"

#include <cmath>

namespace microtome {

namespace {

class CpuLoss final : public LossOp {
 public:
  CpuLoss(const Loss& kind, const Layout& z) : kind_(kind), z_(z) {
    require_f32(z, z);
    require(z.shape == Shape{z.shape.n, 1, 1, 1}, "loss: logits are ", to_string(z.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& z, const Tensor& y, StepState* state, BatchMetrics* metrics, float* scores) override {
    require_layout(z, z_, "z"), require_vector(y, z.shape.n, "y");
    double sum = 0;
    std::uint32_t correct = 0;
    for (int n = 0; n < z.shape.n; ++n) {
      const float logit = *pixel(z, n, 0, 0), label = y.as<float>()[n];
      sum += cross_entropy(logit, label);
      correct += is_correct(logit, label);
      if (scores) scores[state->batch * kind_.batch_size + n] = sigmoid(logit);
    }
    metrics[state->batch] = {.loss = sum / z.shape.n, .correct = correct, .count = static_cast<std::uint32_t>(z.shape.n)};
    if (!std::isfinite(sum)) state->finite = 0;
  }

  void backward(const Tensor& z, const Tensor& y, const Tensor& dz) override {
    require_layout(z, z_, "z"), require_vector(y, z.shape.n, "y"), require_layout(dz, z_, "dz");
    for (int n = 0; n < z.shape.n; ++n)
      *pixel(dz, n, 0, 0) = cross_entropy_derivative(*pixel(z, n, 0, 0), y.as<float>()[n]) / static_cast<float>(z.shape.n);
  }

 private:
  Loss kind_;
  Layout z_;
};

}  // namespace

std::unique_ptr<LossOp> make_cpu_loss(const Loss& kind, const Layout& z) {
  return std::make_unique<CpuLoss>(kind, z);
}

}  // namespace microtome
