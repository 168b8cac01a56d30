// The end of a step: where the loss was finite, ++batch, and ++step after an optimiser's. One thread.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"

namespace microtome::cuda {

namespace {

__global__ void advance_state(StepState* state, bool optimise) {
  if (state->finite == 0) return;
  ++state->batch;
  if (optimise) ++state->step;
}

class CudaAdvance final : public AdvanceOp {
 public:
  explicit CudaAdvance(Context& context) : context_(context) {}

  void run(StepState* state, bool optimise) override {
    launch("advance_state", context_, 1, 1, advance_state, state, optimise);
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  Context& context_;
};

}  // namespace

std::unique_ptr<AdvanceOp> make_advance(Context& context) {
  return std::make_unique<CudaAdvance>(context);
}

}  // namespace microtome::cuda
