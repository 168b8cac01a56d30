// The product with a gate: finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

namespace microtome::test {
namespace {

struct MultiplyCase {
  Slice x, y;
  int other_gates = 0;
  bool in_place = false;  // dx is dy's memory
  DeferredNorm deferred = {};
};

bool all_passes(Lab& lab, const MultiplyCase& c, Write write) {
  const Layout x = lab.activations(c.x), y = lab.activations(c.in_place ? c.x : c.y);
  const Layout gate = lab.activations({{c.x.shape.n, 1, 1, c.x.shape.c}, c.other_gates});
  const auto op = lab.backend().multiply({c.deferred}, x, gate, y);
  if (!op) return false;
  const double zeros = zeros_behind(c.deferred), cells = c.x.shape.h * c.x.shape.w;
  Deferred norm;
  if (c.deferred) norm = lab.deferred("x", x, op->sum_rows(), {.zeros_at_most = zeros, .additions = cells * c.x.shape.n});
  const Deferred* deferred = c.deferred ? &norm : nullptr;
  const Tensor image = deferred ? norm.x : lab.input("x", x), factors = lab.input("gate", gate), dy = lab.input("dy", y);
  op->forward(image, deferred, factors, lab.output("y", y, Write::overwrite, {.zeros_at_most = zeros}));
  op->backward_gate(image, deferred, dy, lab.output("dgate", gate, write, {.zeros_at_most = zeros, .additions = cells}), write);
  if (c.in_place) lab.overwritten(dy, "dx in place", {.zeros_at_most = zeros});
  op->backward_data(dy, factors, deferred, c.in_place ? dy : lab.output("dx", x, write, {.zeros_at_most = zeros}), write);
  return true;
}

class MultiplyTest : public KernelTest {
 protected:
  MultiplyTest()
      : KernelTest([](Backend& backend) {
          const Layout x{{1, 2, 2, 1}, backend.activation_type()}, gate{{1, 1, 1, 1}, backend.activation_type()};
          backend.multiply({}, x, gate, x);
        }) {}

  void certify_case(const MultiplyCase& c) {
    SCOPED_TRACE(fmt::format("x {} y {} other gates {} in place {} deferred {}", to_string(c.x), to_string(c.y), c.other_gates,
                             c.in_place, name(c.deferred)));
    const std::optional<Option> needs = c.deferred ? std::optional(Option::deferral) : std::nullopt;
    for (const Fill fill : both_fills)
      for (const Write write : both_writes) {
        if (c.in_place && write == Write::accumulate) continue;
        if (fill == Fill::integers && c.deferred == Activation::swish) continue;
        SCOPED_TRACE(name(write));
        certify(fill, needs, [&](Lab& lab) { return all_passes(lab, c, write); });
      }
  }
};

TEST_P(MultiplyTest, MatchesReference) {
  for (const auto& [side, channels] : {std::pair{24, 64}, {6, 192}, {3, 672}, {1, 40}}) {
    const Slice x{{3, side, side, channels}};
    certify_case({x, x});
    certify_case({.x = x, .y = x, .in_place = true});
  }
}

TEST_P(MultiplyTest, SlicesMatchReference) {
  certify_case({.x = {{2, 5, 6, 48}, 16}, .y = {{2, 5, 6, 48}, 32}, .other_gates = 16});
}

TEST_P(MultiplyTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(1, 12), dice.roll(1, 12), dice.roll(4, 70)};
    certify_case({dice.slice(x), dice.slice(x), dice.roll(0, 9), dice.coin()});
  });
}

TEST_P(MultiplyTest, DeferredNormsMatchReference) {
  for (const Activation activation : deferrable) {
    for (const auto& [side, channels] : {std::pair{24, 64}, {6, 192}, {3, 672}, {4, 41}}) {
      const Slice x{{3, side, side, channels}};
      certify_case({.x = x, .y = x, .deferred = activation});
      certify_case({.x = x, .y = x, .in_place = true, .deferred = activation});
    }
    const Shape one{1, 5, 6, 44};
    certify_case({.x = {one, 4}, .y = {one, 20}, .other_gates = 4, .deferred = activation});
  }
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(MultiplyTest, RandomShapesWithDeferredNormsMatchReference) {
  MICROTOME_NEEDS(Option::deferral);
  for_random_cases([&](Dice& dice) {
    const Shape x{dice.roll(1, 4), dice.roll(4, 12), dice.roll(4, 12), dice.roll(20, 70)};
    certify_case({dice.slice(x), dice.slice(x), dice.roll(0, 9), dice.coin(), deferrable[dice.roll(0, 3)]});
  });
}

MICROTOME_INSTANTIATE(MultiplyTest);

TEST(ReferenceMultiplyTest, GradientsAreFiniteDifferences) {
  Bench bench;
  const Tensor x = bench.integers({2, 3, 2, 3}), gate = bench.integers({2, 1, 1, 3}), y = bench.zeros(x.shape),
               dy = bench.integers(x.shape);
  const Tensor dx = bench.zeros(x.shape), dgate = bench.zeros(gate.shape);
  const auto op = bench.backend().multiply({}, x, gate, y);
  op->backward_data(dy, gate, nullptr, dx, Write::overwrite);
  op->backward_gate(x, nullptr, dy, dgate, Write::overwrite);
  const auto forward = [&] { op->forward(x, nullptr, gate, y); };
  expect_exact_gradient(x, dx, y, dy, forward);
  expect_exact_gradient(gate, dgate, y, dy, forward);
}

}  // namespace
}  // namespace microtome::test
