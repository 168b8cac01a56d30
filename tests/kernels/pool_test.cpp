// Pooling: finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

#include <algorithm>
#include <cmath>

namespace microtome::test {
namespace {

struct PoolCase {
  Slice x, y;
  Pool kind;
};

PoolCase make_case(Slice x, Pool kind) {
  return {x, {kind.window.output(x.shape, x.shape.c)}, kind};
}

std::string describe(const PoolCase& c) {
  return fmt::format("{} x {} y {} {} activation {} deferred {}", c.kind.kind == Pool::Kind::max ? "max" : "average",
                     to_string(c.x), to_string(c.y), to_string(c.kind.window), name(c.kind.activation), name(c.kind.deferred));
}

/// A mean of integers is exact where the number of cells is a power of two.
bool is_exact(const PoolCase& c) {
  const Window& w = c.kind.window;
  const int cells = w.kernel.h * w.kernel.w;
  if (c.kind.deferred == Activation::swish) return false;
  return c.kind.kind == Pool::Kind::max || (w.before == Extent(0) && w.after == Extent(0) && (cells & (cells - 1)) == 0);
}

/// Both passes: the arg max is the forward pass's.
bool both_passes(Lab& lab, const PoolCase& c, Write write) {
  const Layout x = lab.activations(c.x), y = lab.activations(c.y);
  const auto op = lab.backend().pool(c.kind, x, y);
  if (!op) return false;
  const Extent cells = c.kind.kind == Pool::Kind::average ? c.kind.window.kernel : Extent(1);
  const double zeros = zeros_behind(c.kind.deferred), pixels = c.x.shape.n * c.x.shape.h * c.x.shape.w;
  Deferred norm;
  // Whether a channel's sums are 0 depends on which cells win.
  if (c.kind.deferred) norm = lab.deferred("x", x, op->sum_rows(), {.zeros_at_most = 0.9, .additions = pixels});
  const Deferred* deferred = c.kind.deferred ? &norm : nullptr;
  op->forward(deferred ? norm.x : lab.input("x", x), deferred,
              lab.output("y", y, Write::overwrite,
                         {.zeros_at_most = c.kind.activation == Activation::relu ? std::max(zeros, 0.75) : zeros,
                          .additions = static_cast<double>(cells.h * cells.w)}));
  // Every cell that wins no window has no gradient; a clamped window has none either.
  op->backward(
      lab.input("dy", y), deferred,
      lab.output("dx", x, write,
                 {.zeros_at_most = write == Write::accumulate ? 0.5 : 1, .additions = static_cast<double>(cells.h * cells.w)}),
      write);
  return true;
}

class PoolTest : public KernelTest {
 protected:
  PoolTest()
      : KernelTest([](Backend& backend) {
          backend.pool({.window = {.kernel = 2, .stride = 2}}, {{1, 2, 2, 1}, backend.activation_type()},
                       {{1, 1, 1, 1}, backend.activation_type()});
        }) {}

  static std::optional<Option> needs(const PoolCase& c) {
    if (c.kind.deferred) return Option::deferral;
    if (c.kind.kind == Pool::Kind::average && c.kind.activation == Activation::relu) return Option::relu_in_average_pool;
    return {};
  }

  void certify_case(const PoolCase& c) {
    SCOPED_TRACE(describe(c));
    for (const Fill fill : both_fills)
      for (const Write write : both_writes) {
        if (fill == Fill::integers && !is_exact(c)) continue;
        SCOPED_TRACE(name(write));
        certify(fill, needs(c), [&](Lab& lab) { return both_passes(lab, c, write); });
      }
  }
};

TEST_P(PoolTest, CasesOfB2AndB6MatchReference) {
  const Pool halve{.window = {.kernel = 2, .stride = 2}};
  for (const auto& [side, channels] :
       {std::pair{96, 32}, {48, 64}, {92, 32}, {42, 64}, {17, 128}, {50, 32}, {25, 64}, {46, 32}, {19, 64}, {5, 128}})
    certify_case(make_case({{2, side, side, channels}}, halve));
}

TEST_P(PoolTest, OverlappingMaximaMatchReference) {
  certify_case(make_case({{2, 11, 9, 16}}, {.window = {.kernel = 3, .stride = 2}}));
  certify_case(make_case({{2, 12, 10, 16}}, {.window = {.kernel = 3, .stride = 2, .before = 1, .after = 1}}));
}

TEST_P(PoolTest, AverageLeavesPaddingOut) {
  certify_case(make_case({{2, 7, 6, 16}}, {Pool::Kind::average, {.kernel = 3, .before = 1, .after = 1}}));
  certify_case(make_case({{2, 8, 6, 16}}, {Pool::Kind::average, {.kernel = 2, .stride = 2}}));
  certify_case(make_case({{2, 5, 4, 24}}, {Pool::Kind::average, {.kernel = {5, 4}}}));
}

TEST_P(PoolTest, AverageOfAWholeImageMatchesReference) {
  for (const auto& [side, channels] : {std::pair{24, 32}, {12, 96}, {7, 48}, {3, 1024}, {2, 70}, {1, 1280}})
    certify_case(make_case({{3, side, side, channels}}, {Pool::Kind::average, {.kernel = side}}));
  certify_case(make_case({{3, 24, 24, 16}, 32}, {Pool::Kind::average, {.kernel = 24}}));
}

TEST_P(PoolTest, FusedReluMatchesReference) {
  for (const Pool::Kind kind : {Pool::Kind::max, Pool::Kind::average})
    certify_case(make_case({{2, 9, 8, 16}}, {kind, {.kernel = 2, .stride = 2}, Activation::relu}));
}

TEST_P(PoolTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    Shape x{dice.roll(1, 3), dice.roll(1, 14), dice.roll(1, 14), dice.roll(1, 40)};
    Pool kind{dice.pick({Pool::Kind::max, Pool::Kind::average}), dice.window(x, 4)};
    // No window may lie in the padding alone.
    const Shape y = kind.window.output(x, x.c);
    if ((y.h - 1) * kind.window.stride.h - kind.window.before.h >= x.h ||
        (y.w - 1) * kind.window.stride.w - kind.window.before.w >= x.w)
      return;
    PoolCase c = make_case(dice.slice(x), kind);
    c.y = dice.slice(c.y.shape);
    certify_case(c);
  });
}

TEST_P(PoolTest, DeferredNormsMatchReference) {
  for (const Activation activation : deferrable) {
    const auto with = [&](const Slice& x, Pool kind) {
      kind.deferred = activation;
      certify_case(make_case(x, kind));
    };
    with({{2, 24, 22, 64}}, {.window = {.kernel = 2, .stride = 2}});
    with({{2, 17, 14, 29}}, {.window = {.kernel = 3, .stride = 2, .before = 1, .after = 1}});
    with({{2, 9, 8, 44}, 4}, {.window = {.kernel = 2, .stride = 2}, .activation = Activation::relu});
    with({{2, 8, 6, 40}}, {Pool::Kind::average, {.kernel = 2, .stride = 2}});
    with({{1, 7, 6, 24}}, {Pool::Kind::average, {.kernel = 3, .before = 1, .after = 1}});
    for (const auto& [side, channels] : {std::pair{12, 96}, {8, 64}, {7, 48}, {3, 1024}, {4, 70}})
      with({{3, side, side, channels}}, {Pool::Kind::average, {.kernel = side}});
    with({{3, 8, 8, 44}, 4}, {Pool::Kind::average, {.kernel = 8}, Activation::relu});
  }
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(PoolTest, RandomShapesWithDeferredNormsMatchReference) {
  MICROTOME_NEEDS(Option::deferral);
  for_random_cases([&](Dice& dice) {
    Shape x{dice.roll(1, 3), dice.roll(6, 14), dice.roll(6, 14), dice.roll(20, 40)};
    Pool kind{dice.pick({Pool::Kind::max, Pool::Kind::average}), dice.window(x, 4)};
    kind.deferred = deferrable[dice.roll(0, 3)];
    PoolCase c = make_case(dice.slice(x), kind);
    c.y = dice.slice(c.y.shape);
    certify_case(c);
  });
}

TEST_P(PoolTest, NanPassesThrough) {
  for (const Pool::Kind kind : {Pool::Kind::max, Pool::Kind::average})
    for (int cell = 0; cell < 4; ++cell) {
      Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
      const Layout x = lab.activations({{1, 2, 2, 24}}), y = lab.activations({{1, 1, 1, 24}});
      std::vector<double> values(x.shape.count(), 1.0);
      std::fill_n(values.begin() + cell * 24, 24, std::nan(""));
      const auto op = lab.backend().pool({kind, {.kernel = 2, .stride = 2}}, x, y);
      op->forward(lab.given("x", x, values), nullptr, lab.output("y", y));
      const std::vector<Result> results = lab.results();
      for (const double value : results[0].values) EXPECT_TRUE(std::isnan(value)) << "cell " << cell;
    }
}

MICROTOME_INSTANTIATE(PoolTest);

TEST(ReferencePoolTest, GradientsAreFiniteDifferences) {
  const Window windows[] = {{.kernel = 2, .stride = 2},
                            {.kernel = 4, .stride = 3, .before = {1, 2}, .after = {2, 1}},
                            {.kernel = {2, 1}, .stride = 1, .before = {1, 0}, .after = 0}};
  for (const Window& window : windows)
    for (const Activation activation : {Activation::none, Activation::relu}) {
      SCOPED_TRACE(to_string(window));
      Bench bench;
      const Tensor x = bench.distinct({2, 5, 6, 2}), y = bench.zeros(window.output(x.shape, 2)), dy = bench.integers(y.shape);
      const Tensor dx = bench.zeros(x.shape);
      const auto op = bench.backend().pool({Pool::Kind::max, window, activation}, x, y);
      op->forward(x, nullptr, y);
      op->backward(dy, nullptr, dx, Write::overwrite);
      expect_exact_gradient(x, dx, y, dy, [&] { op->forward(x, nullptr, y); });
    }
  for (const Window& window : windows) {
    SCOPED_TRACE(to_string(window));
    Bench bench;
    const Tensor x = bench.uniform({2, 5, 6, 2}), y = bench.zeros(window.output(x.shape, 2)), dy = bench.integers(y.shape);
    const Tensor dx = bench.zeros(x.shape);
    const auto op = bench.backend().pool({Pool::Kind::average, window}, x, y);
    op->backward(dy, nullptr, dx, Write::overwrite);
    expect_gradient(x, dx, y, dy, window.kernel.h * window.kernel.w, [&] { op->forward(x, nullptr, y); });
  }
}

TEST(ReferencePoolTest, AverageDividesByTheCellsInsideTheImage) {
  Bench bench;
  const Tensor x = bench.zeros({1, 2, 2, 1}), y = bench.zeros({1, 2, 2, 1});
  const double image[] = {1, 2,  //
                          3, 6};
  std::copy_n(image, 4, x.as<double>());
  bench.backend().pool({Pool::Kind::average, resolve(x.shape, 3, 1, same)}, x, y)->forward(x, nullptr, y);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(y.as<double>()[i], 3);
}

TEST(ReferencePoolTest, TiesGoToTheFirstCell) {
  Bench bench;
  const Tensor x = bench.zeros({1, 2, 2, 1}), y = bench.zeros({1, 1, 1, 1}), dy = bench.integers(y.shape),
               dx = bench.zeros(x.shape);
  const auto op = bench.backend().pool({.window = {.kernel = 2, .stride = 2}}, x, y);
  op->forward(x, nullptr, y);
  op->backward(dy, nullptr, dx, Write::overwrite);
  EXPECT_EQ(dx.as<double>()[0], dy.as<double>()[0]);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(dx.as<double>()[i], 0);
}

}  // namespace
}  // namespace microtome::test
