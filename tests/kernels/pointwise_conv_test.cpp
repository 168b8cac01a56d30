// 1 x 1 convolutions that apply their input's batch-norm and leave statistics of their output, where a backend has them.
#include "kernels/harness.h"

#include <optional>

namespace microtome::test {
namespace {

struct PointwiseConvCase {
  Slice x, y;
  Conv kind;
};

PointwiseConvCase make_case(Slice x, int filters, const Conv& kind) {
  return {x, {{x.shape.n, x.shape.h, x.shape.w, filters}}, kind};
}

std::string describe(const PointwiseConvCase& c) {
  return fmt::format("x {} y {} bias {} deferred {} statistics {}", to_string(c.x), to_string(c.y), c.kind.bias,
                     c.kind.deferred ? name(*c.kind.deferred) : "no", c.kind.statistics);
}

Shape filter_of(const PointwiseConvCase& c) {
  return {c.y.shape.c, 1, 1, c.x.shape.c};
}

/// A relu6 of wide spread is constant nearly everywhere.
double zeros_of(const PointwiseConvCase& c) {
  if (!c.kind.deferred) return 0.5;
  return *c.kind.deferred == Activation::relu6 ? 0.95 : 0.75;
}

/// The input of a pass, deferred or not.
struct Input {
  Input(Lab& lab, const PointwiseConvCase& c, int sum_rows = 0, Expect of_sums = {}) {
    if (c.kind.deferred)
      deferred = lab.deferred("x", lab.activations(c.x), sum_rows, of_sums), x = deferred->x;
    else
      x = lab.input("x", lab.activations(c.x));
  }
  const Deferred* norm() const { return deferred ? &*deferred : nullptr; }

  std::optional<Deferred> deferred;
  Tensor x;
};

bool forward(Lab& lab, const PointwiseConvCase& c) {
  const auto op = lab.backend().conv(c.kind, lab.activations(c.x), lab.activations(c.y));
  if (!op) return false;
  const Input input(lab, c);
  const Tensor b = lab.input("b", lab.parameters({{1, 1, 1, c.y.shape.c}}));
  const Tensor y =
      lab.output("y", lab.activations(c.y), Write::overwrite,
                 {.additions = static_cast<double>(c.x.shape.c), .factor_bits = c.kind.deferred ? lab.factor_bits() : 53});
  std::optional<Tensor> statistics;
  if (c.kind.statistics) statistics = lab.statistics(y, op->statistics_rows());
  op->forward(input.x, input.norm(), lab.input("w", lab.activations({filter_of(c)})), c.kind.bias ? &b : nullptr, y,
              statistics ? &*statistics : nullptr);
  return true;
}

bool backward_data(Lab& lab, const PointwiseConvCase& c, Write write) {
  const auto op = lab.backend().conv(c.kind, lab.activations(c.x), lab.activations(c.y));
  if (!op) return false;
  const double terms = c.y.shape.c, pixels = static_cast<double>(c.x.shape.count() / c.x.shape.c);
  const Input input(lab, c, op->sum_rows(), {.zeros_at_most = zeros_of(c), .additions = terms + pixels});
  op->backward_data(lab.input("dy", lab.activations(c.y)), lab.input("w", lab.activations({filter_of(c)})), input.norm(),
                    lab.output("dx", lab.activations(c.x), write, {.zeros_at_most = zeros_of(c), .additions = terms}), write);
  return true;
}

bool backward_filter(Lab& lab, const PointwiseConvCase& c, Write write) {
  const auto op = lab.backend().conv(c.kind, lab.activations(c.x), lab.activations(c.y));
  if (!op) return false;
  const Input input(lab, c);
  const double pixels = static_cast<double>(c.x.shape.count() / c.x.shape.c);
  const Tensor dw =
      lab.output("dw", lab.parameters({filter_of(c)}), write,
                 {.zeros_at_most = zeros_of(c), .additions = pixels, .factor_bits = c.kind.deferred ? lab.factor_bits() : 53});
  std::optional<Tensor> db;
  if (c.kind.bias) db = lab.output("db", lab.parameters({{1, 1, 1, c.y.shape.c}}), write, {.additions = pixels});
  op->backward_filter(input.x, input.norm(), lab.input("dy", lab.activations(c.y)), dw, db ? &*db : nullptr, write);
  return true;
}

constexpr Activation behind_norms[] = {Activation::none, Activation::relu, Activation::relu6, Activation::swish};

class PointwiseConvTest : public KernelTest {
 protected:
  PointwiseConvTest()
      : KernelTest([](Backend& backend) {
          const Layout layout{{1, 1, 1, 8}, backend.activation_type()};
          backend.conv({.deferred = Activation::relu}, layout, layout);
        }) {}

  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped()) return;
    const Layout layout{{1, 1, 1, 8}, backend().activation_type()};
    ASSERT_EQ(backend().conv({.deferred = Activation::relu}, layout, layout) != nullptr,
              accepts(Option::deferral_in_pointwise_conv));
    MICROTOME_NEEDS(Option::deferral_in_pointwise_conv);
  }

  void certify_case(const PointwiseConvCase& c) {
    SCOPED_TRACE(describe(c));
    for (const Fill fill : both_fills) {
      if (c.kind.deferred == Activation::swish && fill == Fill::integers) continue;
      certify(fill, [&](Lab& lab) { return forward(lab, c); });
      for (const Write write : both_writes) {
        SCOPED_TRACE(name(write));
        certify(fill, [&](Lab& lab) { return backward_data(lab, c, write); });
        certify(fill, [&](Lab& lab) { return backward_filter(lab, c, write); });
      }
    }
  }
};

TEST_P(PointwiseConvTest, AppliesABatchNormWithAnyActivation) {
  for (const Activation activation : behind_norms) certify_case(make_case({{2, 7, 6, 64}}, 32, {.deferred = activation}));
}

TEST_P(PointwiseConvTest, StatisticsAreThoseOfTheOutput) {
  certify_case(make_case({{2, 9, 10, 16}}, 64, {.statistics = true}));
  certify_case(make_case({{2, 9, 10, 16}}, 40, {.bias = true, .deferred = Activation::relu, .statistics = true}));
  certify_case(make_case({{1, 1, 1, 16}}, 16, {.statistics = true}));
}

/// DenseNet's: x is the first channels of a wider buffer.
TEST_P(PointwiseConvTest, ReadsAndWritesSlices) {
  for (const int channels : {64, 96}) {
    PointwiseConvCase c = make_case({{2, 6, 5, channels}, 64}, 128, {.deferred = Activation::relu, .statistics = true});
    c.y.others = channels - 64;
    certify_case(c);
  }
}

/// Around multiples of 32, 64 and 128 channels and of 128 pixels.
TEST_P(PointwiseConvTest, TailsMatchReference) {
  for (const auto& [in, out] : {std::pair{8, 8}, {72, 136}, {136, 72}})
    certify_case(make_case({{1, 3, 5, in}}, out, {.bias = true, .deferred = Activation::relu}));
  for (const int pixels : {1, 128, 129})
    certify_case(make_case({{1, 1, pixels, 24}}, 40, {.deferred = Activation::none, .statistics = true}));
}

/// More tiles than blocks.
TEST_P(PointwiseConvTest, ManyPixelsMatchReference) {
  certify_case(make_case({{2, 23, 24, 16}}, 8, {.deferred = Activation::swish, .statistics = true}));
  certify_case(make_case({{1, 13, 11, 264}}, 136, {.deferred = Activation::relu, .statistics = true}));
}

TEST_P(PointwiseConvTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const Shape x{dice.roll(1, 3), dice.roll(1, 9), dice.roll(1, 9), 8 * dice.roll(1, 12)};
    const auto slice = [&](Shape shape) { return Slice{shape, 8 * dice.pick({0, 0, 1, 5})}; };
    PointwiseConvCase c = make_case(slice(x), 8 * dice.roll(1, 12), {.bias = dice.coin(), .statistics = dice.coin()});
    c.y = slice(c.y.shape);
    if (!c.kind.statistics || dice.coin())
      c.kind.deferred = dice.pick({Activation::none, Activation::relu, Activation::relu6, Activation::swish});
    certify_case(c);
  });
}

MICROTOME_INSTANTIATE(PointwiseConvTest);

}  // namespace
}  // namespace microtome::test
