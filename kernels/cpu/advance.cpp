// The end of a step: where the loss was finite, the batch is done, and so is the optimiser's step if there was one.
#include "kernels/cpu/cpu.h"

namespace microtome {

namespace {

class CpuAdvance final : public AdvanceOp {
 public:
  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void run(StepState* state, bool optimise) override {
    if (!state->finite) return;
    ++state->batch;
    if (optimise) ++state->step;
  }
};

}  // namespace

std::unique_ptr<AdvanceOp> make_cpu_advance() {
  return std::make_unique<CpuAdvance>();
}

}  // namespace microtome
