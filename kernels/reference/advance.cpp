// The end of a step: where the loss was finite, the batch is done, and so is the optimiser's step if there was one.
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

class ReferenceAdvance final : public AdvanceOp {
 public:
  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void run(StepState* state, bool optimise) override {
    if (!state->finite) return;
    ++state->batch;
    if (optimise) ++state->step;
  }
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<AdvanceOp> Reference<T>::advance() {
  return std::make_unique<ReferenceAdvance>();
}

template std::unique_ptr<AdvanceOp> Reference<double>::advance();
template std::unique_ptr<AdvanceOp> Reference<float>::advance();

}  // namespace microtome
