// y = f(x); dx = f'(x or y) dy. See kernels/formulas/activation.h.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lane.h"

namespace microtome {

namespace {

class CpuActivate final : public ActivateOp {
 public:
  CpuActivate(const Activate& kind, const Layout& x, const Layout& y) : function_(kind.function), x_(x), y_(y) {
    require_f32(x, y);
    require(x.shape == y.shape, "activation: ", to_string(x.shape), " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = derivative_reads_x(function_), .y = derivative_reads_y(function_)}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& x, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    with_activation(function_, [&](auto function) {
      for_each_run(
          x.shape,
          [&](std::int64_t, std::int64_t count, std::int64_t at_x, std::int64_t at_y) {
            const float* from = x.as<float>() + at_x;
            float* to = y.as<float>() + at_y;
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i) to[i] = microtome::activate(function(), from[i]);
          },
          x, y);
    });
  }

  void backward(const Tensor* x, const Tensor* y, const Tensor& dy, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    const Tensor* known = derivative_reads_x(function_) ? x : y;
    require(known || function_ == Activation::none, "activation: the tensor that backward_reads names is missing");
    if (!known) known = &dy;
    with_activation(function_, [&](auto function) {
      with_write(write, [&](auto accumulate) {
        for_each_run(
            dx.shape,
            [&](std::int64_t, std::int64_t count, std::int64_t at_known, std::int64_t at_dy, std::int64_t at_dx) {
              const float *value = known->as<float>() + at_known, *from = dy.as<float>() + at_dy;
              float* to = dx.as<float>() + at_dx;
#pragma omp simd
              for (std::int64_t i = 0; i < count; ++i) {
                const float gradient = activation_derivative(function(), value[i]) * from[i];
                to[i] = accumulate ? to[i] + gradient : gradient;
              }
            },
            *known, dy, dx);
      });
    });
  }

 private:
  Activation function_;
  Layout x_, y_;
};

}  // namespace

std::unique_ptr<ActivateOp> make_cpu_activate(const Activate& kind, const Layout& x, const Layout& y) {
  return std::make_unique<CpuActivate>(kind, x, y);
}

}  // namespace microtome
