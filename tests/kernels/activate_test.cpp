// Activations: finite differences certify the formulas, the reference certifies the rest.
#include "kernels/formulas/activation.h"
#include "kernels/harness.h"

#include <cmath>
#include <limits>

namespace microtome::test {
namespace {

constexpr Activation all_activations[] = {Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid};

struct ActivateCase {
  Slice x;
  Activation function;
  bool in_place = false;
};

/// Swish reads x in its backward pass, so that only its gradient can work in place.
bool both_passes(Lab& lab, const ActivateCase& c, Write write) {
  const Layout layout = lab.activations(c.x);
  const auto op = lab.backend().activate({c.function}, layout, layout);
  const Op::Reads reads = op->backward_reads();
  const bool y_in_place = c.in_place && !reads.x;
  const double zeros_at_most = reads.x ? 0.5 : 0.75;
  // From -8 to 8, or from -6 to 6, so that relu6 clamps on both sides.
  const Tensor x = lab.input("x", layout, {.scale = lab.fill() == Fill::uniform ? 8.0 : 2.0});
  if (y_in_place) lab.overwritten(x, "y in place", {.zeros_at_most = zeros_at_most});
  const Tensor y = y_in_place ? x : lab.output("y", layout, Write::overwrite, {.zeros_at_most = zeros_at_most});
  op->forward(x, y);
  const Tensor dy = lab.input("dy", layout);
  if (c.in_place) lab.overwritten(dy, "dx in place", {.zeros_at_most = zeros_at_most});
  const Tensor dx = c.in_place ? dy : lab.output("dx", layout, write, {.zeros_at_most = zeros_at_most});
  // Backward reads values of its own, the same for every backend: that a narrow type rounds y forward is no error of f'.
  const Spread of_x{.scale = lab.fill() == Fill::uniform ? 8.0 : 2.0}, of_sigmoid{.scale = 0.5, .offset = 0.5};
  const Tensor source = lab.input("source", layout, c.function == Activation::sigmoid ? of_sigmoid : of_x);
  op->backward(reads.x ? &source : nullptr, reads.y ? &source : nullptr, dy, dx, write);
  return true;
}

class ActivateTest : public KernelTest {
 protected:
  ActivateTest()
      : KernelTest([](Backend& backend) {
          const Layout layout{{1, 2, 2, 1}, backend.activation_type()};
          backend.activate({Activation::relu}, layout, layout);
        }) {}

  void certify_case(const ActivateCase& c) {
    SCOPED_TRACE(fmt::format("{} x {} in place {}", name(c.function), to_string(c.x), c.in_place));
    const bool piecewise_linear = c.function == Activation::relu || c.function == Activation::relu6;
    for (const Fill fill : both_fills)
      for (const Write write : both_writes) {
        if ((fill == Fill::integers && !piecewise_linear) || (c.in_place && write == Write::accumulate)) continue;
        SCOPED_TRACE(name(write));
        certify(fill, [&](Lab& lab) { return both_passes(lab, c, write); });
      }
  }
};

TEST_P(ActivateTest, EveryFunctionMatchesReference) {
  for (const Activation function : all_activations)
    for (const bool in_place : {false, true}) {
      certify_case({{{2, 24, 24, 32}}, function, in_place});
      certify_case({{{8, 1, 1, 256}}, function, in_place});
    }
}

TEST_P(ActivateTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(1, 12), dice.roll(1, 12), dice.roll(4, 70)};
    certify_case(
        {dice.slice(x), dice.pick({Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid}), dice.coin()});
  });
}

TEST_P(ActivateTest, FarValuesMatchReference) {
  for (const Activation function : all_activations)
    certify(Fill::uniform, [&](Lab& lab) {
      const Layout layout = lab.activations({{1, 1, 1, 32}});
      std::vector<double> values;
      for (const double far :
           {1e-30, 1e-3, 10.0, 20.0, 50.0, 87.0, 88.0, 89.0, 90.0, 100.0, 104.0, 110.0, 128.0, 256.0, 512.0, 1e3})
        values.push_back(far), values.push_back(-far);
      const auto op = lab.backend().activate({function}, layout, layout);
      const Tensor x = lab.given("x", layout, values);
      op->forward(x, lab.output("y", layout, Write::overwrite, {.zeros_at_most = 0.75, .additions = 4}));
      if (op->backward_reads().x)
        op->backward(&x, nullptr, lab.input("dy", layout),
                     lab.output("dx", layout, Write::overwrite, {.zeros_at_most = 0.75, .additions = 4}), Write::overwrite);
      return true;
    });
}

TEST_P(ActivateTest, NanPassesThrough) {
  for (const Activation function : all_activations) {
    Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
    const Layout x = lab.activations({{1, 1, 1, 40}});
    lab.backend().activate({function}, x, x)->forward(lab.given("x", x, std::vector(40, std::nan(""))), lab.output("y", x));
    const std::vector<Result> results = lab.results();
    for (const double value : results[0].values) EXPECT_TRUE(std::isnan(value)) << name(function);
  }
}

MICROTOME_INSTANTIATE(ActivateTest);

TEST(ReferenceActivateTest, GradientsAreFiniteDifferences) {
  for (const Activation function : all_activations) {
    SCOPED_TRACE(name(function));
    Bench bench;
    const Tensor x = bench.distinct({1, 4, 4, 2}), y = bench.zeros(x.shape), dy = bench.integers(x.shape),
                 dx = bench.zeros(x.shape);
    const auto op = bench.backend().activate({function}, x, y);
    op->forward(x, y);
    op->backward(&x, &y, dy, dx, Write::overwrite);
    expect_gradient(x, dx, y, dy, 4, [&] { op->forward(x, y); });
  }
}

TEST(ActivationFormulaTest, NanPassesThrough) {
  for (const Activation function : all_activations)
    EXPECT_TRUE(std::isnan(activate(function, std::numeric_limits<float>::quiet_NaN()))) << name(function);
}

TEST(ActivationFormulaTest, FarValuesSaturate) {
  EXPECT_EQ(sigmoid(-1000.0f), 0.0f);
  EXPECT_EQ(sigmoid(1000.0f), 1.0f);
  EXPECT_EQ(activate(Activation::swish, -1000.0f), 0.0f);
  EXPECT_EQ(activate(Activation::relu6, 7.0f), 6.0f);
}

}  // namespace
}  // namespace microtome::test
