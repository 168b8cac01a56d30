// One step of an optimiser on flat tensors. See kernels/formulas/optimizer.h.
#include "kernels/formulas/optimizer.h"
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T, class Kind>
class ReferenceOptimizer final : public OptimizerOp {
 public:
  ReferenceOptimizer(const Kind& kind, std::int64_t count) : kind_(kind), count_(count) {}

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void update(const Tensor& dw, const StepState* state, const Tensor& w, const Tensor& m, const Tensor& v,
              const Tensor* low_precision) override {
    for (const Tensor* flat : {&dw, &w, &m, &v}) require_vector<T>(*flat, count_, "a flat tensor");
    require(!low_precision, "an optimiser: the reference has no lower precision");
    if (!state->finite) return;
    const auto step = optimizer_step<T>(kind_, *state);
    for (std::int64_t i = 0; i < count_; ++i) optimizer_update(at<T>(dw, i), step, at<T>(w, i), at<T>(m, i), at<T>(v, i));
  }

 private:
  Kind kind_;
  std::int64_t count_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<OptimizerOp> Reference<T>::optimizer(const Optimizer& kind, std::int64_t count) {
  return std::visit(
      [&]<class Kind>(const Kind& k) -> std::unique_ptr<OptimizerOp> {
        return std::make_unique<ReferenceOptimizer<T, Kind>>(k, count);
      },
      kind);
}

template std::unique_ptr<OptimizerOp> Reference<double>::optimizer(const Optimizer&, std::int64_t);
template std::unique_ptr<OptimizerOp> Reference<float>::optimizer(const Optimizer&, std::int64_t);

}  // namespace microtome
