// Dropout: rates and independence of the formula, finite differences for the reference, the reference for the rest.
#include "kernels/formulas/dropout.h"
#include "kernels/harness.h"

#include <cmath>
#include <functional>

namespace microtome::test {
namespace {

struct DropoutCase {
  Slice x;
  Dropout kind;
  bool in_place = false;  // y is x's memory but where a batch-norm is deferred, dx is dy's
};

bool both_passes(Lab& lab, const DropoutCase& c, Write write) {
  const Layout layout = lab.activations(c.x);
  const auto op = lab.backend().dropout(c.kind, layout, layout);
  if (!op) return false;
  const StepState* state = lab.device<StepState>({{.seed = 7, .step = 123456}});
  const double zeros_at_most = c.kind.per_image ? (c.kind.deferred ? 0.98 : 0.9) : c.kind.rate + 0.25;
  const double pixels = c.x.shape.n * c.x.shape.h * c.x.shape.w;
  Deferred norm;
  if (c.kind.deferred)
    norm = lab.deferred("x", layout, op->sum_rows(), {.zeros_at_most = zeros_behind(c.kind.deferred), .additions = pixels});
  const Deferred* deferred = c.kind.deferred ? &norm : nullptr;
  const Tensor x = deferred ? norm.x : lab.input("x", layout);
  const bool over_x = c.in_place && !deferred;
  if (over_x) lab.overwritten(x, "y in place", {.zeros_at_most = zeros_at_most});
  op->forward(x, deferred, state, over_x ? x : lab.output("y", layout, Write::overwrite, {.zeros_at_most = zeros_at_most}));
  const Tensor dy = lab.input("dy", layout);
  if (c.in_place) lab.overwritten(dy, "dx in place", {.zeros_at_most = zeros_at_most});
  op->backward(dy, deferred, state, c.in_place ? dy : lab.output("dx", layout, write, {.zeros_at_most = zeros_at_most}), write);
  return true;
}

class DropoutTest : public KernelTest {
 protected:
  DropoutTest()
      : KernelTest([](Backend& backend) {
          const Layout layout{{1, 2, 2, 1}, backend.activation_type()};
          backend.dropout({}, layout, layout);
        }) {}

  void certify_case(const DropoutCase& c) {
    SCOPED_TRACE(fmt::format("x {} rate {} per image {} in place {} deferred {}", to_string(c.x), c.kind.rate, c.kind.per_image,
                             c.in_place, name(c.kind.deferred)));
    std::optional<Option> needs;
    if (c.kind.deferred) needs = c.kind.per_image ? Option::deferral : Option::deferral_in_elementwise_dropout;
    for (const Fill fill : both_fills)
      for (const Write write : both_writes) {
        if (fill == Fill::integers && (c.kind.rate != 0.5f || c.kind.deferred == Activation::swish)) continue;
        if (c.in_place && write == Write::accumulate) continue;
        SCOPED_TRACE(name(write));
        certify(fill, needs, [&](Lab& lab) { return both_passes(lab, c, write); });
      }
  }
};

TEST_P(DropoutTest, CasesOfB6MatchReference) {
  for (const bool in_place : {false, true}) {
    for (const auto& [side, channels] : {std::pair{46, 32}, {21, 64}, {8, 128}})
      certify_case({{{2, side, side, channels}}, {.rate = 0.3f, .stream = stream::dropout + 5}, in_place});
    certify_case({{{32, 1, 1, 256}}, {.rate = 0.5f, .stream = stream::dropout}, in_place});
  }
}

TEST_P(DropoutTest, OneNumberAnImageMatchesReference) {
  for (const int channels : {8, 7})  // with 7, four neighbours in memory may belong to two images
    certify_case({{{16, 5, 3, channels}}, {.rate = 0.5f, .per_image = true, .stream = stream::dropout + 9}});
}

TEST_P(DropoutTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(1, 9), dice.roll(1, 9), dice.roll(32, 70)};
    certify_case(
        {dice.slice(x), {.rate = dice.pick({0.1f, 0.3f, 0.5f}), .stream = stream::dropout + dice.roll(0, 9)}, dice.coin()});
  });
}

TEST_P(DropoutTest, DeferredNormsUnderOneNumberAnImageMatchReference) {
  for (const Activation activation : deferrable)
    for (const bool in_place : {false, true}) {
      const Dropout kind{.rate = 0.5f, .per_image = true, .stream = stream::dropout + 9, .deferred = activation};
      for (const Slice& x : {Slice{{16, 12, 12, 64}}, Slice{{9, 5, 3, 37}}, Slice{{17, 4, 4, 44}, 4}})
        certify_case({x, kind, in_place});
    }
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(DropoutTest, DeferredNormsUnderOneNumberAnElementMatchReference) {
  certify_case({{{4, 6, 5, 40}}, {.rate = 0.5f, .stream = stream::dropout, .deferred = Activation::none}});
  MICROTOME_NEEDS(Option::deferral_in_elementwise_dropout);
}

MICROTOME_INSTANTIATE(DropoutTest);

TEST(ReferenceDropoutTest, GradientsAreFiniteDifferences) {
  Bench bench;
  const Tensor x = bench.integers({3, 2, 2, 5}), y = bench.zeros(x.shape), dy = bench.integers(x.shape),
               dx = bench.zeros(x.shape);
  const StepState state{.seed = 3, .step = 4};
  for (const bool per_image : {false, true}) {
    const auto op = bench.backend().dropout({.rate = 0.5f, .per_image = per_image, .stream = 1}, x, y);
    op->backward(dy, nullptr, &state, dx, Write::overwrite);
    expect_exact_gradient(x, dx, y, dy, [&] { op->forward(x, nullptr, &state, y); });
  }
}

double kept_share(float rate, std::uint64_t seed, std::uint64_t step, int count) {
  int kept = 0;
  for (int i = 0; i < count; ++i) kept += dropout_keeps(seed, stream::dropout, step, i, rate);
  return static_cast<double>(kept) / count;
}

TEST(DropoutFormulaTest, RateIsTheShareOfDroppedElements) {
  constexpr int count = 1 << 18;
  for (const float rate : {0.1f, 0.3f, 0.5f, 0.9f})  // five standard deviations of a binomial share
    EXPECT_NEAR(kept_share(rate, 1, 2, count), 1 - rate, 5 * std::sqrt(rate * (1 - rate) / count)) << rate;
  EXPECT_EQ(kept_share(0, 1, 2, count), 1);
}

TEST(DropoutFormulaTest, SurvivorsMakeUpForTheDropped) {
  EXPECT_EQ(dropout_scale<double>(0.5f), 2);
  EXPECT_EQ(dropout_scale<double>(0.75f), 4);
}

TEST(DropoutFormulaTest, SeedStreamStepAndElementAllMatter) {
  // Two masks that know nothing of each other agree on half their elements.
  constexpr int count = 1 << 16;
  // A template that can be constexpr would be: GCC takes 15 s over it.
  const auto agreement = [](const std::function<bool(std::uint64_t)>& other) {
    int same = 0;
    for (std::uint64_t i = 0; i < count; ++i) same += dropout_keeps(1, stream::dropout, 5, i, 0.5f) == other(i);
    return same;
  };
  const double deviation = std::sqrt(count * 0.25);
  EXPECT_EQ(agreement([](std::uint64_t i) { return dropout_keeps(1, stream::dropout, 5, i, 0.5f); }), count);
  EXPECT_NEAR(agreement([](std::uint64_t i) { return dropout_keeps(2, stream::dropout, 5, i, 0.5f); }), count / 2,
              5 * deviation);
  EXPECT_NEAR(agreement([](std::uint64_t i) { return dropout_keeps(1, stream::dropout + 1, 5, i, 0.5f); }), count / 2,
              5 * deviation);
  EXPECT_NEAR(agreement([](std::uint64_t i) { return dropout_keeps(1, stream::dropout, 6, i, 0.5f); }), count / 2,
              5 * deviation);
  EXPECT_NEAR(agreement([](std::uint64_t i) { return dropout_keeps(1, stream::dropout, 5, i + 1, 0.5f); }), count / 2,
              5 * deviation);
}

TEST(DropoutFormulaTest, NeighboursAreTheWordsOfOnePhilox) {
  for (std::uint64_t i = 0; i < 64; i += 4)
    for (std::uint64_t k = 0; k < 4; ++k)
      EXPECT_EQ(dropout_keeps(philox(9, 8, dropout_index(7, i) / 4)[k], 0.4f), dropout_keeps(9, 8, 7, i + k, 0.4f));
}

}  // namespace
}  // namespace microtome::test
