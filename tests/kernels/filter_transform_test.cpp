// Filters in all eight symmetries: drawn for one corner, the reference by finite differences, the rest by the reference.
#include "kernels/harness.h"

namespace microtome::test {
namespace {

struct FilterTransformCase {
  P4m p4m;
  int filters, side, channels;  // channels: of the parameter, eight maps' in P4m::group
};

bool both_passes(Lab& lab, const FilterTransformCase& c) {
  const Slice w{{c.filters, c.side, c.side, c.channels}}, all{{p4m_symmetries * c.filters, c.side, c.side, c.channels}};
  const auto op = lab.backend().filter_transform(c.p4m, lab.activations(w), lab.activations(all));
  op->forward(lab.input("w", lab.activations(w)), lab.output("all", lab.activations(all)));
  op->backward(lab.input("dall", lab.parameters(all)), lab.output("dw", lab.parameters(w), Write::overwrite, {.additions = 8}));
  return true;
}

class FilterTransformTest : public KernelTest {
 protected:
  FilterTransformTest()
      : KernelTest([](Backend& backend) {
          const DType type = backend.activation_type();
          backend.filter_transform(P4m::lift, {{1, 1, 1, 1}, type}, {{8, 1, 1, 1}, type});
        }) {}

  void certify_case(const FilterTransformCase& c) {
    SCOPED_TRACE(fmt::format("{} {} filters, {}x{}, {} channels", c.p4m == P4m::lift ? "lift" : "group", c.filters, c.side,
                             c.side, c.channels));
    for (const Fill fill : both_fills) certify(fill, [&](Lab& lab) { return both_passes(lab, c); });
  }
};

TEST_P(FilterTransformTest, MatchesReference) {
  certify_case({P4m::lift, 8, 3, 3});
  certify_case({P4m::lift, 5, 5, 4});
  certify_case({P4m::group, 8, 3, 64});
  certify_case({P4m::group, 16, 1, 128});
  certify_case({P4m::group, 3, 2, 24});
}

TEST_P(FilterTransformTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const bool lift = dice.coin();
    certify_case({lift ? P4m::lift : P4m::group, dice.roll(1, 9), dice.roll(1, 5),
                  lift ? dice.roll(1, 9) : p4m_symmetries * dice.roll(1, 20)});
  });
}

MICROTOME_INSTANTIATE(FilterTransformTest);

TEST(ReferenceFilterTransformTest, GradientsAreFiniteDifferences) {
  for (const P4m p4m : {P4m::lift, P4m::group}) {
    Bench bench;
    const Tensor w = bench.integers({2, 3, 3, 16}), all = bench.zeros({16, 3, 3, 16}), dall = bench.integers(all.shape),
                 dw = bench.zeros(w.shape);
    const auto op = bench.backend().filter_transform(p4m, w, all);
    op->backward(dall, dw);
    expect_exact_gradient(w, dw, all, dall, [&] { op->forward(w, all); });
  }
}

TEST(ReferenceFilterTransformTest, ACornerGoesRoundAndThenRoundAgainInTheMirror) {
  Bench bench;
  const Tensor w = bench.zeros({1, 2, 2, 1}), all = bench.zeros({8, 2, 2, 1});
  const double drawn[4] = {1, 2,  //
                           3, 4};
  std::copy_n(drawn, 4, w.as<double>());
  bench.backend().filter_transform(P4m::lift, w, all)->forward(w, all);
  const double turned[8][4] = {{1, 2,  //
                                3, 4},
                               {2, 4,  //
                                1, 3},
                               {4, 3,  //
                                2, 1},
                               {3, 1,  //
                                4, 2},
                               {2, 1,  //
                                4, 3},
                               {1, 3,  //
                                2, 4},
                               {3, 4,  //
                                1, 2},
                               {4, 2,  //
                                3, 1}};
  for (int g = 0; g < 8; ++g)
    for (int i = 0; i < 4; ++i) EXPECT_EQ(all.as<double>()[4 * g + i], turned[g][i]) << "symmetry " << g << ", cell " << i;
}

}  // namespace
}  // namespace microtome::test
