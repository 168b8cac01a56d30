// One step of Keras' Adam on flat tensors, in one pass: 16 bytes read and 12 written a weight. See kernels/formulas/adam.h.
#include "kernels/formulas/adam.h"
#include "kernels/cpu/cpu.h"

namespace microtome {

namespace {

class CpuAdam final : public AdamOp {
 public:
  CpuAdam(const Adam& kind, std::int64_t count) : kind_(kind), count_(count) {}

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void update(const Tensor& dw, const StepState* state, const Tensor& w, const Tensor& m, const Tensor& v,
              const Tensor* low_precision) override {
    for (const Tensor* flat : {&dw, &w, &m, &v}) require_vector(*flat, count_, "a flat tensor");
    require(!low_precision, "adam: f32 has no lower precision here");
    if (!state->finite) return;
    const auto step = adam_step<float>(kind_, *state);
    const float* g = dw.as<float>();
    float *weight = w.as<float>(), *first = m.as<float>(), *second = v.as<float>();
#pragma omp parallel for simd schedule(static)
    for (std::int64_t i = 0; i < count_; ++i) adam_update(g[i], step, weight[i], first[i], second[i]);
  }

 private:
  Adam kind_;
  std::int64_t count_;
};

}  // namespace

std::unique_ptr<AdamOp> make_cpu_adam(const Adam& kind, std::int64_t count) {
  return std::make_unique<CpuAdam>(kind, count);
}

}  // namespace microtome
