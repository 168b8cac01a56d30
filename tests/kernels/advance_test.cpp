// The end of a step.
#include "kernels/harness.h"

namespace microtome::test {
namespace {

class AdvanceTest : public KernelTest {
 protected:
  AdvanceTest() : KernelTest([](Backend& backend) { backend.advance(); }) {}

  StepState after(StepState before, bool optimise) {
    Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
    StepState* state = lab.device<StepState>({before});
    lab.backend().advance()->run(state, optimise);
    return lab.host(state, 1)[0];
  }
};

TEST_P(AdvanceTest, CountsBatchesAndSteps) {
  const StepState trained = after({.seed = 5, .step = 10, .epoch = 2, .batch = 3, .learning_rate = 0.5f}, true);
  EXPECT_EQ(trained.step, 11u);
  EXPECT_EQ(trained.batch, 4u);
  EXPECT_EQ(trained.epoch, 2u);
  EXPECT_EQ(trained.seed, 5u);
  EXPECT_EQ(trained.learning_rate, 0.5f);
  EXPECT_EQ(trained.finite, 1u);
  const StepState evaluated = after({.step = 10, .batch = 3}, false);
  EXPECT_EQ(evaluated.step, 10u);
  EXPECT_EQ(evaluated.batch, 4u);
}

TEST_P(AdvanceTest, StandsStillAfterALossThatIsNotFinite) {
  const StepState state = after({.step = 10, .batch = 3, .finite = 0}, true);
  EXPECT_EQ(state.step, 10u);
  EXPECT_EQ(state.batch, 3u);
}

MICROTOME_INSTANTIATE(AdvanceTest);

}  // namespace
}  // namespace microtome::test
