// Dense layers: finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

namespace microtome::test {
namespace {

struct DenseCase {
  Slice x, y;
  Dense kind;
  bool logits = false;  // y in the parameters' type, as a network's last layer has it
};

std::string describe(const DenseCase& c) {
  return fmt::format("x {} y {} bias {} activation {}", to_string(c.x), to_string(c.y), c.kind.bias, name(c.kind.activation));
}

Layout layout_of_y(Lab& lab, const DenseCase& c) {
  return c.logits ? lab.parameters(c.y) : lab.activations(c.y);
}

bool forward(Lab& lab, const DenseCase& c) {
  const Layout x = lab.activations(c.x), y = layout_of_y(lab, c);
  const auto op = lab.backend().dense(c.kind, x, y);
  if (!op) return false;
  const Tensor b = lab.input("b", lab.parameters({{1, 1, 1, c.y.shape.c}}));
  op->forward(lab.input("x", x), lab.input("w", lab.activations({{1, 1, c.x.shape.c, c.y.shape.c}})),
              c.kind.bias ? &b : nullptr,
              lab.output("y", y, Write::overwrite,
                         {.zeros_at_most = c.kind.activation == Activation::none ? 0.5 : 0.75,
                          .additions = static_cast<double>(c.x.shape.c)}));
  return true;
}

bool backward(Lab& lab, const DenseCase& c, Write write) {
  const Layout x = lab.activations(c.x), y = layout_of_y(lab, c);
  const Shape w{1, 1, c.x.shape.c, c.y.shape.c};
  const auto op = lab.backend().dense(c.kind, x, y);
  if (!op) return false;
  const Tensor dy = lab.input("dy", lab.activations(c.y));
  const Tensor dw = lab.output("dw", lab.parameters({w}), write, {.additions = static_cast<double>(c.x.shape.n)});
  if (c.kind.bias) {
    const Tensor db =
        lab.output("db", lab.parameters({{1, 1, 1, c.y.shape.c}}), write, {.additions = static_cast<double>(c.x.shape.n)});
    op->backward_filter(lab.input("x", x), dy, dw, &db, write);
  } else {
    op->backward_filter(lab.input("x", x), dy, dw, nullptr, write);
  }
  op->backward_data(dy, lab.input("w", lab.activations({w})),
                    lab.output("dx", x, write, {.additions = static_cast<double>(c.y.shape.c)}), write);
  return true;
}

class DenseTest : public KernelTest {
 protected:
  DenseTest()
      : KernelTest([](Backend& backend) {
          backend.dense({}, {{1, 1, 1, 8}, backend.activation_type()}, {{1, 1, 1, 8}, backend.activation_type()});
        }) {}

  void certify_case(const DenseCase& c) {
    SCOPED_TRACE(describe(c));
    for (const Fill fill : both_fills) {
      certify(fill, [&](Lab& lab) { return forward(lab, c); });
      for (const Write write : both_writes) {
        SCOPED_TRACE(name(write));
        certify(fill, [&](Lab& lab) { return backward(lab, c, write); });
      }
    }
  }
};

TEST_P(DenseTest, CasesOfB2AndB6MatchReference) {
  for (const int inputs : {36864, 9216, 8192, 512})
    if (inputs < 8192 || !GetParam().is_played) certify_case({{{2, 1, 1, inputs}}, {{2, 1, 1, 256}}, {.bias = inputs != 8192}});
}

TEST_P(DenseTest, LogitsMatchReference) {
  certify_case({.x = {{32, 1, 1, 256}}, .y = {{32, 1, 1, 1}}, .kind = {.bias = true}, .logits = true});
  certify_case({.x = {{1, 1, 1, 256}}, .y = {{1, 1, 1, 1}}, .kind = {.bias = true}, .logits = true});
}

TEST_P(DenseTest, FusedActivationsMatchReference) {
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid}) {
    const DenseCase c{{{8, 1, 1, 40}}, {{8, 1, 1, 24}}, {.bias = true, .activation = activation}};
    SCOPED_TRACE(describe(c));
    certify(Fill::uniform, [&](Lab& lab) { return forward(lab, c); });
  }
}

TEST_P(DenseTest, NanPassesThroughAFusedActivation) {
  const Slice x{{8, 1, 1, 40}}, y{{8, 1, 1, 24}};
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid}) {
    Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
    const DenseCase c{x, y, {.bias = true, .activation = activation}};
    const auto op = lab.backend().dense(c.kind, lab.activations(x), lab.activations(y));
    ASSERT_NE(op, nullptr) << name(activation);
    const Tensor given = lab.given("x", lab.activations(x), std::vector(320, std::nan("")));
    const Tensor w = lab.input("w", lab.activations({{1, 1, 40, 24}})), b = lab.input("b", lab.parameters({{1, 1, 1, 24}}));
    op->forward(given, w, &b, lab.output("y", lab.activations(y)));
    const std::vector<Result> results = lab.results();
    for (const double value : results[0].values) EXPECT_TRUE(std::isnan(value)) << name(activation);
  }
}

TEST_P(DenseTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const int batch = dice.roll(1, 33);
    const Slice x = dice.slice({batch, 1, 1, dice.roll(1, 70)}), y = dice.slice({batch, 1, 1, dice.roll(1, 70)});
    certify_case({x, y, {.bias = dice.coin()}});
  });
}

MICROTOME_INSTANTIATE(DenseTest);

TEST(ReferenceDenseTest, GradientsAreFiniteDifferences) {
  Bench bench;
  const Tensor x = bench.integers({3, 1, 1, 5}), w = bench.integers({1, 1, 5, 4}), b = bench.integers({1, 1, 1, 4});
  const Tensor y = bench.zeros({3, 1, 1, 4}), dy = bench.integers(y.shape);
  const Tensor dx = bench.zeros(x.shape), dw = bench.zeros(w.shape), db = bench.zeros(b.shape);
  const auto op = bench.backend().dense({.bias = true}, x, y);
  op->backward_data(dy, w, dx, Write::overwrite);
  op->backward_filter(x, dy, dw, &db, Write::overwrite);
  const auto forward = [&] { op->forward(x, w, &b, y); };
  expect_exact_gradient(x, dx, y, dy, forward);
  expect_exact_gradient(w, dw, y, dy, forward);
  expect_exact_gradient(b, db, y, dy, forward);
}

}  // namespace
}  // namespace microtome::test
