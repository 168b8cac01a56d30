// y = activation(a + b); the gradient of either is that before the activation. See kernels/formulas/activation.h.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lane.h"

namespace microtome {

namespace {

class CpuAdd final : public AddOp {
 public:
  CpuAdd(const Add& kind, const Layout& a, const Layout& b, const Layout& y) : kind_(kind), a_(a), b_(b), y_(y) {
    require_f32(a, y), require_f32(b, y);
    require(a.shape == b.shape && a.shape == y.shape, "add: ", to_string(a.shape), " and ", to_string(b.shape), " do not give ",
            to_string(y.shape));
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& a, const Deferred*, const Tensor& b, const Deferred*, const Tensor& y) override {
    require_layout(a, a_, "a"), require_layout(b, b_, "b"), require_layout(y, y_, "y");
    with_activation(kind_.activation, [&](auto function) {
      for_each_run(
          y.shape,
          [&](std::int64_t, std::int64_t count, std::int64_t at_a, std::int64_t at_b, std::int64_t at_y) {
            const float *one = a.as<float>() + at_a, *other = b.as<float>() + at_b;
            float* to = y.as<float>() + at_y;
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i) to[i] = activate(function(), one[i] + other[i]);
          },
          a, b, y);
    });
  }

  void backward(const Tensor& dy, const Deferred*, Side, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy");
    require_layout(dx, static_cast<const Layout&>(dx) == a_ ? a_ : b_, "dx");
    with_write(write, [&](auto accumulate) {
      for_each_run(
          dy.shape,
          [&](std::int64_t, std::int64_t count, std::int64_t at_dy, std::int64_t at_dx) {
            const float* from = dy.as<float>() + at_dy;
            float* to = dx.as<float>() + at_dx;
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i) to[i] = accumulate ? to[i] + from[i] : from[i];
          },
          dy, dx);
    });
  }

 private:
  Add kind_;
  Layout a_, b_, y_;
};

}  // namespace

std::unique_ptr<AddOp> make_cpu_add(const Add& kind, const Layout& a, const Layout& b, const Layout& y) {
  if (derivative_reads_x(kind.activation)) return nullptr;
  return std::make_unique<CpuAdd>(kind, a, b, y);
}

}  // namespace microtome
