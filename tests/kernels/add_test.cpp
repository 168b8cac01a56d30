// Addition: finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

namespace microtome::test {
namespace {

struct Case {
  Slice a, b, y;
  bool in_place = false;  // y is a's memory
};

bool both_passes(Lab& lab, const Case& c, Write write) {
  const Layout a = lab.activations(c.a), b = lab.activations(c.b), y = lab.activations(c.in_place ? c.a : c.y);
  const auto op = lab.backend().add({}, a, b, y);
  const Tensor first = lab.input("a", a);
  if (c.in_place) lab.overwritten(first, "y in place");
  op->forward(first, lab.input("b", b), c.in_place ? first : lab.output("y", y));
  const Tensor dy = lab.input("dy", y);
  op->backward(dy, lab.output("da", a, write), write);
  op->backward(dy, lab.output("db", b, write), write);
  return true;
}

class AddTest : public KernelTest {
 protected:
  AddTest()
      : KernelTest([](Backend& backend) {
          const Layout layout{{1, 2, 2, 1}, backend.activation_type()};
          backend.add({}, layout, layout, layout);
        }) {}

  void certify_case(const Case& c) {
    SCOPED_TRACE(fmt::format("a {} b {} y {} in place {}", to_string(c.a), to_string(c.b), to_string(c.y), c.in_place));
    for (const Fill fill : both_fills)
      for (const Write write : both_writes) {
        SCOPED_TRACE(name(write));
        certify(fill, [&](Lab& lab) { return both_passes(lab, c, write); });
      }
  }
};

TEST_P(AddTest, MatchesReference) {
  const Slice x{{2, 24, 24, 64}};
  certify_case({x, x, x});
  certify_case({x, x, x, true});
}

TEST_P(AddTest, RandomShapesMatchReference) {
  for_a_second([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(1, 12), dice.roll(1, 12), dice.roll(8, 70)};
    certify_case({dice.slice(x), dice.slice(x), dice.slice(x), dice.coin()});
  });
}

MICROTOME_INSTANTIATE(AddTest);

TEST(ReferenceAddTest, GradientsAreFiniteDifferences) {
  Bench bench;
  const Tensor a = bench.integers({2, 2, 3, 2}), b = bench.integers(a.shape), y = bench.zeros(a.shape),
               dy = bench.integers(a.shape);
  const Tensor dx = bench.zeros(a.shape);
  const auto op = bench.backend().add({}, a, b, y);
  op->backward(dy, dx, Write::overwrite);
  expect_exact_gradient(a, dx, y, dy, [&] { op->forward(a, b, y); });
  expect_exact_gradient(b, dx, y, dy, [&] { op->forward(a, b, y); });
}

}  // namespace
}  // namespace microtome::test
