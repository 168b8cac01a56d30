// One step of Keras' Adam on flat tensors. See kernels/formulas/adam.h.
#include "kernels/formulas/adam.h"
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T>
class ReferenceAdam final : public AdamOp {
 public:
  ReferenceAdam(const Adam& kind, std::int64_t count) : kind_(kind), count_(count) {}

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void update(const Tensor& dw, const StepState* state, const Tensor& w, const Tensor& m, const Tensor& v,
              const Tensor* low_precision) override {
    for (const Tensor* flat : {&dw, &w, &m, &v}) require_vector<T>(*flat, count_, "a flat tensor");
    require(!low_precision, "adam: the reference has no lower precision");
    if (!state->finite) return;
    const auto step = adam_step<T>(kind_, *state);
    for (std::int64_t i = 0; i < count_; ++i) adam_update(at<T>(dw, i), step, at<T>(w, i), at<T>(m, i), at<T>(v, i));
  }

 private:
  Adam kind_;
  std::int64_t count_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<AdamOp> Reference<T>::adam(const Adam& kind, std::int64_t count) {
  return std::make_unique<ReferenceAdam<T>>(kind, count);
}

template std::unique_ptr<AdamOp> Reference<double>::adam(const Adam&, std::int64_t);
template std::unique_ptr<AdamOp> Reference<float>::adam(const Adam&, std::int64_t);

}  // namespace microtome
