// Addition: finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

#include <algorithm>
#include <array>
#include <optional>

namespace microtome::test {
namespace {

struct AddCase {
  Slice a, b, y;
  bool in_place = false;  // y is a's memory
  Activation activation = Activation::none;
  std::array<DeferredNorm, 2> deferred = {};
};

/// One of the sum's sides, deferred or not.
struct Side {
  Deferred deferred;
  bool is_deferred = false;
  Tensor tensor;

  Side(Lab& lab, std::string_view name, const Layout& layout, Spread spread, const DeferredNorm& option, int sum_rows)
      : is_deferred(option.has_value()) {
    const double pixels = static_cast<double>(layout.shape.count()) / layout.shape.c;
    if (is_deferred)
      deferred = lab.deferred(name, layout, sum_rows, {.zeros_at_most = zeros_behind(option), .additions = pixels});
    tensor = is_deferred ? deferred.x : lab.input(name, layout, spread);
  }
  const Deferred* option() const { return is_deferred ? &deferred : nullptr; }
};

bool both_passes(Lab& lab, const AddCase& c, Write write) {
  const Layout a = lab.activations(c.a), b = lab.activations(c.b), y = lab.activations(c.in_place ? c.a : c.y);
  const auto op = lab.backend().add({c.activation, c.deferred}, a, b, y);
  if (!op) return false;
  const bool clamps = c.activation == Activation::relu || c.activation == Activation::relu6;
  // A sum of two spreads from -2 to 2 or, so that relu6 clamps on both sides, from -8 to 8. One rounding, or four with an exp.
  const Spread spread{.scale = c.activation == Activation::relu6 ? 4.0 : 1.0};
  const Expect of_y{.zeros_at_most = clamps ? 0.75 : std::max(zeros_behind(c.deferred[0]), zeros_behind(c.deferred[1])),
                    .additions = c.activation == Activation::sigmoid ? 4.0 : 1.0};
  const Side first(lab, "a", a, spread, c.deferred[0], op->sum_rows()),
      second(lab, "b", b, spread, c.deferred[1], op->sum_rows());
  if (c.in_place) lab.overwritten(first.tensor, "y in place", of_y);
  op->forward(first.tensor, first.option(), second.tensor, second.option(),
              c.in_place ? first.tensor : lab.output("y", y, Write::overwrite, of_y));
  const Tensor dy = lab.input("dy", y);
  op->backward(dy, first.option(), AddOp::Side::a, lab.output("da", a, write, {.zeros_at_most = zeros_behind(c.deferred[0])}),
               write);
  op->backward(dy, second.option(), AddOp::Side::b, lab.output("db", b, write, {.zeros_at_most = zeros_behind(c.deferred[1])}),
               write);
  return true;
}

/// An exp is not exact.
bool is_exact(const AddCase& c) {
  return c.activation != Activation::sigmoid && c.deferred[0] != Activation::swish && c.deferred[1] != Activation::swish;
}

class AddTest : public KernelTest {
 protected:
  AddTest()
      : KernelTest([](Backend& backend) {
          const Layout layout{{1, 2, 2, 1}, backend.activation_type()};
          backend.add({}, layout, layout, layout);
        }) {}

  void certify_case(const AddCase& c) {
    const bool defers = c.deferred[0] || c.deferred[1];
    SCOPED_TRACE(fmt::format("a {} b {} y {} in place {} activation {} deferred {} and {}", to_string(c.a), to_string(c.b),
                             to_string(c.y), c.in_place, name(c.activation), name(c.deferred[0]), name(c.deferred[1])));
    for (const Fill fill : both_fills)
      for (const Write write : both_writes) {
        if (fill == Fill::integers && !is_exact(c)) continue;
        SCOPED_TRACE(name(write));
        certify(fill, defers ? std::optional(Option::deferral) : std::nullopt,
                [&](Lab& lab) { return both_passes(lab, c, write); });
      }
  }
};

TEST_P(AddTest, MatchesReference) {
  const Slice x{{2, 24, 24, 64}};
  certify_case({x, x, x});
  certify_case({x, x, x, true});
}

TEST_P(AddTest, FusedActivationsMatchReference) {
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::sigmoid})
    for (const bool in_place : {false, true}) {
      const Slice x{{2, 6, 5, 48}};
      certify_case({x, x, x, in_place, activation});
    }
}

TEST_P(AddTest, DeferredNormsMatchReference) {
  for (const Activation a : deferrable) {
    const Slice x{{2, 24, 24, 64}}, odd{{1, 5, 7, 29}};
    certify_case({x, x, x, false, Activation::relu, {a, std::nullopt}});
    certify_case({x, x, x, true, Activation::none, {std::nullopt, a}});
    for (const Activation b : deferrable) certify_case({odd, odd, odd, false, Activation::relu, {a, b}});
  }
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(AddTest, DeferredNormsOfSlicesMatchReference) {
  const Shape x{3, 9, 4, 44};
  for (const int others : {4, 20})  // aligned for vectors, though 44 channels are no number of them
    certify_case({{x, others}, {x, others}, {x, others}, false, Activation::relu, {Activation::relu, Activation::none}});
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(AddTest, DeclinesAnActivationWhoseDerivativeDoesNotFollowFromY) {
  const Layout x{{1, 2, 2, 8}, backend().activation_type()};
  EXPECT_EQ(backend().add({Activation::swish}, x, x, x), nullptr);
}

TEST_P(AddTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(1, 12), dice.roll(1, 12), dice.roll(8, 70)};
    certify_case({dice.slice(x), dice.slice(x), dice.slice(x), dice.coin(), dice.pick({Activation::none, Activation::relu})});
  });
}

TEST_P(AddTest, RandomShapesWithDeferredNormsMatchReference) {
  MICROTOME_NEEDS(Option::deferral);
  for_random_cases([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(4, 12), dice.roll(4, 12), dice.roll(20, 70)};
    const auto side = [&] { return dice.coin() ? DeferredNorm(deferrable[dice.roll(0, 3)]) : std::nullopt; };
    certify_case({dice.slice(x),
                  dice.slice(x),
                  dice.slice(x),
                  false,
                  dice.pick({Activation::none, Activation::relu}),
                  {side(), side()}});
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
