// One step of an optimiser on flat tensors, in one pass (kernels/formulas/optimizer.h). Adam: 16 bytes read and 12 written a
// weight.
#include "kernels/formulas/optimizer.h"
#include "kernels/cpu/cpu.h"

namespace microtome {

namespace {

template <class Kind>
class CpuOptimizer final : public OptimizerOp {
 public:
  CpuOptimizer(const Kind& kind, std::int64_t count) : kind_(kind), count_(count) {}

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void update(const Tensor& dw, const StepState* state, const Tensor& w, const Tensor& m, const Tensor& v,
              const Tensor* low_precision) override {
    for (const Tensor* flat : {&dw, &w, &m, &v}) require_vector(*flat, count_, "a flat tensor");
    require(!low_precision, "an optimiser: f32 has no lower precision here");
    if (!state->finite) return;
    const auto step = optimizer_step<float>(kind_, *state);
    const float* g = dw.as<float>();
    float *weight = w.as<float>(), *first = m.as<float>(), *second = v.as<float>();
#pragma omp parallel for simd schedule(static)
    for (std::int64_t i = 0; i < count_; ++i) optimizer_update(g[i], step, weight[i], first[i], second[i]);
  }

 private:
  Kind kind_;
  std::int64_t count_;
};

}  // namespace

std::unique_ptr<OptimizerOp> make_cpu_optimizer(const Optimizer& kind, std::int64_t count) {
  return std::visit(
      [&]<class Kind>(const Kind& k) -> std::unique_ptr<OptimizerOp> { return std::make_unique<CpuOptimizer<Kind>>(k, count); },
      kind);
}

}  // namespace microtome
