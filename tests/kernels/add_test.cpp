// Addition: finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

namespace microtome::test {
namespace {

struct Case {
  Slice a, b, y;
  bool in_place = false;  // y is a's memory
  Activation activation = Activation::none;
};

bool both_passes(Lab& lab, const Case& c, Write write) {
  const Layout a = lab.activations(c.a), b = lab.activations(c.b), y = lab.activations(c.in_place ? c.a : c.y);
  const auto op = lab.backend().add({c.activation}, a, b, y);
  if (!op) return false;
  const bool clamps = c.activation == Activation::relu || c.activation == Activation::relu6;
  // A sum of two spreads from -2 to 2 or, so that relu6 clamps on both sides, from -8 to 8. One rounding, or four with an exp.
  const Spread spread{.scale = c.activation == Activation::relu6 ? 4.0 : 1.0};
  const Expect of_y{.zeros_at_most = clamps ? 0.75 : 0.5, .additions = c.activation == Activation::sigmoid ? 4.0 : 1.0};
  const Tensor first = lab.input("a", a, spread);
  if (c.in_place) lab.overwritten(first, "y in place", of_y);
  op->forward(first, nullptr, lab.input("b", b, spread), nullptr,
              c.in_place ? first : lab.output("y", y, Write::overwrite, of_y));
  const Tensor dy = lab.input("dy", y);
  op->backward(dy, nullptr, AddOp::Side::a, lab.output("da", a, write), write);
  op->backward(dy, nullptr, AddOp::Side::b, lab.output("db", b, write), write);
  return true;
}

class AddTest : public KernelTest {
 protected:
  AddTest()
      : KernelTest([](Backend& backend) {
          const Layout layout{{1, 2, 2, 1}, backend.activation_type()};
          backend.add({}, layout, layout, layout);
        }) {}

  bool certify_case(const Case& c) {
    SCOPED_TRACE(fmt::format("a {} b {} y {} in place {} activation {}", to_string(c.a), to_string(c.b), to_string(c.y),
                             c.in_place, name(c.activation)));
    bool made = true;
    for (const Fill fill : both_fills)
      for (const Write write : both_writes) {
        if (fill == Fill::integers && c.activation == Activation::sigmoid) continue;
        SCOPED_TRACE(name(write));
        made &= certify(fill, [&](Lab& lab) { return both_passes(lab, c, write); });
      }
    return made;
  }
};

TEST_P(AddTest, MatchesReference) {
  const Slice x{{2, 24, 24, 64}};
  certify_case({x, x, x});
  certify_case({x, x, x, true});
}

TEST_P(AddTest, FusedActivationsMatchReference) {
  int fused = 0;
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::sigmoid})
    for (const bool in_place : {false, true}) {
      const Slice x{{2, 6, 5, 48}};
      fused += certify_case({x, x, x, in_place, activation});
    }
  if (fused == 0) GTEST_SKIP() << "this backend fuses no activation into an addition";
}

TEST_P(AddTest, DeclinesAnActivationWhoseDerivativeDoesNotFollowFromY) {
  const Layout x{{1, 2, 2, 8}, backend().activation_type()};
  EXPECT_EQ(backend().add({Activation::swish}, x, x, x), nullptr);
}

TEST_P(AddTest, RandomShapesMatchReference) {
  for_a_second([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(1, 12), dice.roll(1, 12), dice.roll(8, 70)};
    certify_case({dice.slice(x), dice.slice(x), dice.slice(x), dice.coin(), dice.pick({Activation::none, Activation::relu})});
  });
}

MICROTOME_INSTANTIATE(AddTest);

TEST(ReferenceAddTest, GradientsAreFiniteDifferences) {
  Bench bench;
  const Tensor a = bench.integers({2, 2, 3, 2}), b = bench.integers(a.shape), y = bench.zeros(a.shape),
               dy = bench.integers(a.shape);
  const Tensor dx = bench.zeros(a.shape);
  const auto op = bench.backend().add({}, a, b, y);
  op->backward(dy, nullptr, AddOp::Side::a, dx, Write::overwrite);
  expect_exact_gradient(a, dx, y, dy, [&] { op->forward(a, nullptr, b, nullptr, y); });
  expect_exact_gradient(b, dx, y, dy, [&] { op->forward(a, nullptr, b, nullptr, y); });
}

}  // namespace
}  // namespace microtome::test
