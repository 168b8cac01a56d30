// Optimisers: Keras' goldens for the formula, the reference for the rest.
#include "kernels/formulas/optimizer.h"
#include "kernels/harness.h"

namespace microtome::test {
namespace {

bool three_steps(Lab& lab, int count) {
  const Layout flat = lab.parameters({{1, 1, 1, count}});
  const auto op = lab.backend().optimizer(Adam{}, count);
  const Tensor w = lab.input("w", flat), m = lab.input("m", flat, {.scale = 0.1}),
               v = lab.input("v", flat, {.scale = 0.05, .offset = 0.0625});
  lab.overwritten(w, "w"), lab.overwritten(m, "m"), lab.overwritten(v, "v");
  for (const std::uint64_t step : {0, 1, 1000})
    op->update(lab.input(fmt::format("dw of step {}", step), flat),
               lab.device<StepState>({{.step = step, .learning_rate = 0.01f}}), w, m, v, nullptr);
  return true;
}

class AdamTest : public KernelTest {
 protected:
  AdamTest() : KernelTest([](Backend& backend) { backend.optimizer(Adam{}, 1); }) {}
};

TEST_P(AdamTest, MatchesReference) {
  for (const int count : {1, 3, 257, 2386}) {
    SCOPED_TRACE(count);
    certify(Fill::uniform, [&](Lab& lab) { return three_steps(lab, count); });
  }
}

TEST_P(AdamTest, DoesNothingAfterALossThatIsNotFinite) {
  Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
  const Layout flat = lab.parameters({{1, 1, 1, 9}});
  const auto op = lab.backend().optimizer(Adam{}, 9);
  const Tensor w = lab.input("w", flat), m = lab.input("m", flat), v = lab.input("v", flat, {.scale = 0.1, .offset = 1});
  op->update(lab.input("dw", flat), lab.device<StepState>({{.finite = 0}}), w, m, v, nullptr);
  lab.results();  // fails if an input has changed
}

TEST_P(AdamTest, LowPrecisionWeightsFollowTheFloat32Ones) {
  if (backend().activation_type() == backend().parameter_type()) GTEST_SKIP() << "this backend has one type";
  constexpr int count = 77;
  Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
  const Layout flat = lab.parameters({{1, 1, 1, count}});
  const auto op = lab.backend().optimizer(Adam{}, count);
  const Tensor w = lab.input("w", flat), m = lab.input("m", flat), v = lab.input("v", flat, {.scale = 0.1, .offset = 1});
  lab.overwritten(w, "w"), lab.overwritten(m, "m"), lab.overwritten(v, "v");
  const Tensor low_precision = lab.output("low_precision", lab.activations({{1, 1, 1, count}}));
  op->update(lab.input("dw", flat), lab.device<StepState>({{}}), w, m, v, &low_precision);
  const std::vector<Result> results = lab.results();
  ASSERT_EQ(results[0].name, "w");
  for (int i = 0; i < count; ++i) EXPECT_EQ(results[3].values[i], rounded(results[0].values[i], results[3].significand_bits));
}

MICROTOME_INSTANTIATE(AdamTest);

TEST(AdamFormulaTest, IsKeras) {
  // Computed in float64 from Keras' formula: w = 1, then gradients 0.1, -0.2, 1e-8.
  const double gradients[] = {0.1, -0.2, 1e-8}, wanted[] = {0.9990000316217766, 0.9993661299708821, 0.9996491250252197};
  double w = 1, m = 0, v = 0;
  for (std::uint64_t step = 0; step < 3; ++step) {
    auto keras = optimizer_step<double>(Adam{}, {.step = step, .learning_rate = 1e-3f});
    keras.alpha *= 1e-3 / double{1e-3f};  // the state holds its rate in float32, Keras' formula was computed with a double
    optimizer_update(gradients[step], keras, w, m, v);
    EXPECT_DOUBLE_EQ(w, wanted[step]);
  }
}

}  // namespace
}  // namespace microtome::test
