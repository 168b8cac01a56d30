// Convolutions: finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

#include <algorithm>

namespace microtome::test {
namespace {

struct ConvCase {
  Slice x, y;
  Conv kind;
};

ConvCase make_case(Slice x, int filters, const Window& window, int groups = 1, bool bias = true) {
  return {x, {window.output(x.shape, filters)}, {window, groups, bias}};
}

std::string describe(const ConvCase& c) {
  return fmt::format("x {} y {} {} groups {} bias {} activation {}", to_string(c.x), to_string(c.y), to_string(c.kind.window),
                     c.kind.groups, c.kind.bias, name(c.kind.activation)) +
         (c.kind.deferred ? fmt::format(" deferred {}", name(*c.kind.deferred)) : "") +
         (c.kind.statistics ? " statistics" : "");
}

Shape filter_of(const ConvCase& c) {
  return {c.y.shape.c, c.kind.window.kernel.h, c.kind.window.kernel.w, c.x.shape.c / c.kind.groups};
}

std::optional<Option> needs(const ConvCase& c) {
  if (c.kind.deferred || c.kind.statistics) return Option::deferral;
  const bool depthwise = c.kind.groups > 1 && c.kind.groups == c.x.shape.c && c.kind.groups == c.y.shape.c;
  if (!depthwise && c.kind.activation != Activation::none && c.kind.activation != Activation::relu)
    return Option::any_activation_in_conv;
  return {};
}

/// Which share of the filter's taps ever meets a cell of the image, and of the image's cells a tap: the rest has no gradient.
struct Live {
  double taps = 0, cells = 0;
};

Live live(int size, int kernel, int stride, int before, int outputs) {
  std::vector<bool> taps(kernel), cells(size);
  for (int p = 0; p < outputs; ++p)
    for (int r = 0; r < kernel; ++r)
      if (const int cell = p * stride - before + r; cell >= 0 && cell < size) taps[r] = cells[cell] = true;
  const auto share = [](const std::vector<bool>& flags) {
    return static_cast<double>(std::count(flags.begin(), flags.end(), true)) / static_cast<double>(flags.size());
  };
  return {share(taps), share(cells)};
}

Live live(const ConvCase& c) {
  const Window& w = c.kind.window;
  const Live rows = live(c.x.shape.h, w.kernel.h, w.stride.h, w.before.h, c.y.shape.h);
  const Live columns = live(c.x.shape.w, w.kernel.w, w.stride.w, w.before.w, c.y.shape.w);
  return {rows.taps * columns.taps, rows.cells * columns.cells};
}

/// The op's input, as it is or with a batch-norm before it.
struct Operand {
  Deferred norm;
  bool is_deferred;

  Operand(Lab& lab, const ConvCase& c, int sum_rows = 0, Expect of_sums = {}) : is_deferred(c.kind.deferred.has_value()) {
    const Layout layout = lab.activations(c.x);
    norm = is_deferred ? lab.deferred("x", layout, sum_rows, of_sums) : Deferred{lab.input("x", layout), {}, {}};
  }
  const Tensor& x() const { return norm.x; }
  const Deferred* deferred() const { return is_deferred ? &norm : nullptr; }
};

bool forward(Lab& lab, const ConvCase& c) {
  const Layout y_layout = lab.activations(c.y);
  const auto op = lab.backend().conv(c.kind, lab.activations(c.x), y_layout);
  if (!op) return false;
  const Operand operand(lab, c);
  const Tensor b = lab.input("b", lab.parameters({{1, 1, 1, c.y.shape.c}})),
               w = lab.input("w", lab.activations({filter_of(c)}));
  const Tensor y = lab.output("y", y_layout, Write::overwrite,
                              {.zeros_at_most = c.kind.activation == Activation::none && !c.kind.deferred ? 0.5 : 0.75,
                               .additions = static_cast<double>(filter_of(c).count() / c.y.shape.c)});
  const Tensor statistics = c.kind.statistics ? lab.statistics(y, op->statistics_rows()) : Tensor{};
  op->forward(operand.x(), operand.deferred(), w, c.kind.bias ? &b : nullptr, y, c.kind.statistics ? &statistics : nullptr);
  return true;
}

/// Two passes, or one that makes both gradients; dw has one writer in that, and is overwritten.
enum class Passes { two, one };

bool backward(Lab& lab, const ConvCase& c, Write write, Passes passes = Passes::two) {
  const Layout x_layout = lab.activations(c.x), y_layout = lab.activations(c.y);
  const auto op = lab.backend().conv(c.kind, x_layout, y_layout);
  if (!op) return false;
  const Tensor dy = lab.input("dy", y_layout), w = lab.input("w", lab.activations({filter_of(c)}));
  const Live share = live(c);
  const Window& window = c.kind.window;
  const auto steps = [](int kernel, int stride) {
    return (kernel + stride - 1) / stride;
  };  // windows over a cell, along a side
  const double taps = steps(window.kernel.h, window.stride.h) * steps(window.kernel.w, window.stride.w);
  const double positions = static_cast<double>(c.y.shape.count() / c.y.shape.c);
  // A deferred batch-norm's activation has its own zeros, and takes four roundings.
  const double live_share = c.kind.deferred ? 0.2 : 0.5, roundings = c.kind.deferred ? 4 : 0;
  const double additions = taps * c.y.shape.c / c.kind.groups + roundings;
  const Operand operand(lab, c, op->sum_rows(),
                        {.zeros_at_most = 0.8, .additions = additions + static_cast<double>(c.x.shape.count() / c.x.shape.c)});
  const Write dw_write = passes == Passes::one ? Write::overwrite : write;
  const Tensor dw = lab.output("dw", lab.parameters({filter_of(c)}), dw_write,
                               {.zeros_at_most = 1 - live_share * share.taps, .additions = positions + roundings});
  const Tensor db =
      c.kind.bias ? lab.output("db", lab.parameters({{1, 1, 1, c.y.shape.c}}), dw_write, {.additions = positions}) : Tensor{};
  const Tensor dx = lab.output("dx", x_layout, write, {.zeros_at_most = 1 - live_share * share.cells, .additions = additions});
  const Tensor* bias_gradient = c.kind.bias ? &db : nullptr;
  if (passes == Passes::one) {
    op->backward(operand.x(), operand.deferred(), dy, w, dx, write, dw, bias_gradient);
  } else {
    op->backward_filter(operand.x(), operand.deferred(), dy, dw, bias_gradient, write);
    op->backward_data(dy, w, operand.deferred(), dx, write);
  }
  return true;
}

class ConvTest : public KernelTest {
 protected:
  explicit ConvTest(int groups = 1)
      : KernelTest([groups](Backend& backend) {
          const Layout layout{{1, 2, 2, groups}, backend.activation_type()};
          backend.conv({.groups = groups}, layout, layout);
        }) {}

  void certify_case(const ConvCase& c, Passes passes = Passes::two) {
    SCOPED_TRACE(describe(c));
    for (const Fill fill : both_fills) {
      if (fill == Fill::integers && c.kind.deferred == Activation::swish) continue;
      certify(fill, needs(c), [&](Lab& lab) { return forward(lab, c); });
      for (const Write write : both_writes) {
        SCOPED_TRACE(name(write));
        certify(fill, needs(c), [&](Lab& lab) { return backward(lab, c, write, passes); });
      }
    }
  }

  void certify_activations(ConvCase c) {
    for (const Activation activation : {Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid}) {
      c.kind.activation = activation;
      SCOPED_TRACE(describe(c));
      certify(Fill::uniform, needs(c), [&](Lab& lab) { return forward(lab, c); });
    }
  }
};

/// Every convolution of B2 and B6, for PCam's images and for IDC's.
std::vector<ConvCase> cases_of_b2_and_b6(int side, int batch = 2) {
  std::vector<ConvCase> cases;
  int s = side;
  for (const auto& [in, out] : {std::pair{3, 32}, {32, 64}}) {
    const Shape x{batch, s, s, in};
    cases.push_back(make_case({x}, out, resolve(x, 5, 1, same)));
    s /= 2;
  }
  s = side;
  for (const int filters : {32, 64, 128}) {
    for (int i = 0; i < 2; ++i, s -= 2) {
      const int in = i == 1 ? filters : filters == 32 ? 3 : filters / 2;
      cases.push_back(make_case({{batch, s, s, in}}, filters, {.kernel = 3}, 1, filters == 32 && i == 0));
    }
    s /= 2;
  }
  return cases;
}

TEST_P(ConvTest, CasesOfB2AndB6At96MatchReference) {
  if (GetParam().is_played) GTEST_SKIP() << GetParam().name << " is played on the host, where images of 50 pixels must do";
  for (const ConvCase& c : cases_of_b2_and_b6(96)) certify_case(c);
}

TEST_P(ConvTest, CasesOfB2AndB6At50MatchReference) {
  for (const ConvCase& c : cases_of_b2_and_b6(50, GetParam().is_played ? 1 : 2)) certify_case(c);
}

TEST_P(ConvTest, StridesAndAsymmetricPaddingsMatchReference) {
  certify_case(make_case({{2, 9, 9, 5}}, 7, {.kernel = 3, .stride = 2, .before = 0, .after = 1}));
  certify_case(make_case({{1, 12, 10, 3}}, 4, {.kernel = 7, .stride = 2, .before = 3, .after = 3}));
  certify_case(make_case({{2, 8, 9, 6}}, 5, {.kernel = {1, 7}, .before = {0, 3}, .after = {0, 3}}));
  certify_case(make_case({{2, 1, 1, 6}}, 8, {.kernel = 3, .before = 1, .after = 1}));
}

TEST_P(ConvTest, GroupsMatchReference) {
  certify_case(make_case({{2, 7, 6, 8}}, 12, {.kernel = 3, .before = 1, .after = 1}, 4));
  certify_case(make_case({{2, 9, 9, 16}}, 16, {.kernel = 3, .stride = 2, .before = 0, .after = 1}, 16, false));
}

/// Where backends have shorter ways than the sum over taps: every padding, odd sizes, slices, and deep sums.
TEST_P(ConvTest, ThreeByThreeMatchesReference) {
  for (const Padding& padding : {valid, same, zeros(2), zeros(0, 1)}) {
    const Slice x{{2, 7, 10, 64}, 32};
    ConvCase c = make_case(x, 32, resolve(x.shape, 3, 1, padding), 1, padding == same);
    c.y.others = 96;
    certify_case(c);
  }
  certify_case(make_case({{2, 26, 27, 32}}, 32, {.kernel = 3, .before = 1, .after = 1}));  // a filter's gradient in pieces
  certify_case(make_case({{1, 5, 6, 256}}, 96, {.kernel = 3, .before = 1, .after = 1}));
  certify_case(make_case({{3, 4, 4, 48}}, 64, {.kernel = 3, .before = 1, .after = 1}));
}

TEST_P(ConvTest, OneByOneMatchesReference) {
  for (const int stride : {1, 2})
    for (const auto& [in, out] : {std::pair{64, 128}, {96, 80}, {128, 64}, {33, 5}})
      for (const int others : {0, 64}) {
        ConvCase c = make_case({{2, 7, 6, in}, others}, out, {.kernel = 1, .stride = stride}, 1, others == 0);
        c.y.others = others / 2;
        certify_case(c);
      }
}

TEST_P(ConvTest, FusedActivationsMatchReference) {
  for (const auto& [in, out] : {std::pair{8, 12}, {32, 64}})
    certify_activations(make_case({{2, 10, 9, in}}, out, {.kernel = 3, .before = 1, .after = 1}));
}

TEST_P(ConvTest, NanPassesThroughAFusedActivation) {
  for (const auto& [in, out, kernel] : {std::tuple{8, 12, 3}, {32, 64, 3}, {32, 64, 1}}) {
    for (const Activation activation : {Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid}) {
      ConvCase c = make_case({{2, 10, 9, in}}, out, {.kernel = kernel, .before = kernel / 2, .after = kernel / 2});
      c.kind.activation = activation;
      SCOPED_TRACE(describe(c));
      Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
      const auto op = lab.backend().conv(c.kind, lab.activations(c.x), lab.activations(c.y));
      ASSERT_EQ(op != nullptr, !needs(c) || accepts(*needs(c)));
      if (!op) continue;
      const std::vector<double> nothing(static_cast<std::size_t>(c.x.shape.count()), std::nan(""));
      const Tensor x = lab.given("x", lab.activations(c.x), nothing), w = lab.input("w", lab.activations({filter_of(c)})),
                   b = lab.input("b", lab.parameters({{1, 1, 1, out}}));
      op->forward(x, nullptr, w, c.kind.bias ? &b : nullptr, lab.output("y", lab.activations(c.y)), nullptr);
      const std::vector<Result> results = lab.results();
      EXPECT_TRUE(std::ranges::all_of(results[0].values, [](double value) { return std::isnan(value); }));
    }
  }
}

/// As the network's input lies on a GPU in bf16: 3 channels, and room for 8.
TEST_P(ConvTest, ZeroPaddedChannelsMatchReference) {
  const Shape own{2, 9, 11, 3}, padded{2, 9, 11, 8};
  std::vector<double> image(static_cast<std::size_t>(padded.count()));
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = i % 8 < 3 ? static_cast<double>(i * 7 % 5) - 2 : 0;
  for (const Window& window : {Window{.kernel = 3, .stride = 2, .before = 0, .after = 1}, Window{.kernel = 1}}) {
    ConvCase c = make_case({own}, 16, window);
    c.kind.zero_padded_channels = true;
    SCOPED_TRACE(describe(c));
    const auto x_of = [&](Lab& lab) {
      Tensor x = lab.given("x", lab.activations({padded}), image);
      x.shape = own;
      return x;
    };
    certify(Fill::integers, [&](Lab& lab) {
      const Layout y = lab.activations(c.y), channels = lab.parameters({{1, 1, 1, c.y.shape.c}});
      const Tensor x = x_of(lab), b = lab.input("b", channels);
      const auto op = lab.backend().conv(c.kind, x, y);
      op->forward(x, nullptr, lab.input("w", lab.activations({filter_of(c)})), &b, lab.output("y", y), nullptr);
      return true;
    });
    for (const Write write : both_writes) {
      SCOPED_TRACE(name(write));
      certify(Fill::integers, [&](Lab& lab) {
        const Layout y = lab.activations(c.y), channels = lab.parameters({{1, 1, 1, c.y.shape.c}});
        const Tensor x = x_of(lab), db = lab.output("db", channels, write);
        const auto op = lab.backend().conv(c.kind, x, y);
        op->backward_filter(x, nullptr, lab.input("dy", y), lab.output("dw", lab.parameters({filter_of(c)}), write), &db,
                            write);
        return true;
      });
    }
  }
}

TEST_P(ConvTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    const int groups = dice.pick({1, 1, 1, 2, 3});
    Shape x{dice.roll(1, 3), dice.roll(1, 14), dice.roll(1, 14), groups * dice.roll(1, 17)};
    const Window window = dice.window(x, 5);
    ConvCase c = make_case(dice.slice(x), groups * dice.roll(1, 17), window, groups, dice.coin());
    c.y = dice.slice(c.y.shape);
    certify_case(c);
  });
}

MICROTOME_INSTANTIATE(ConvTest);

class DepthwiseConvTest : public ConvTest {
 protected:
  DepthwiseConvTest() : ConvTest(8) {}
};

/// MobileNet's and EfficientNetV2's: padding `same`, or zeros after only where a layer of its own pads.
TEST_P(DepthwiseConvTest, MatchesReference) {
  for (const int stride : {1, 2})
    for (const auto& [side, channels] :
         {std::pair{24, 128}, {12, 32}, {7, 96}, {6, 144}, {3, 672}, {3, 64}, {2, 48}, {1, 16}}) {
      const Slice x{{2, side, side, channels}}, part{{2, side, side, channels}, 32};
      certify_case(make_case(x, channels, resolve(x.shape, 3, stride, same), channels, false));
      if (side > 1) certify_case(make_case(part, channels, resolve(x.shape, 3, stride, zeros(0, 1)), channels, true));
    }
}

TEST_P(DepthwiseConvTest, WidePaddingsMatchReference) {
  for (const int stride : {1, 2})
    certify_case(make_case({{2, 6, 5, 16}}, 16, {.kernel = 3, .stride = stride, .before = {1, 5}, .after = {5, 2}}, 16));
}

TEST_P(DepthwiseConvTest, FusedActivationsMatchReference) {
  for (const int kernel : {3, 5})
    certify_activations(make_case({{2, 10, 9, 24}}, 24, {.kernel = kernel, .before = 1, .after = 1}, 24));
}

TEST_P(DepthwiseConvTest, GradientsInOnePassMatchReference) {
  for (const int stride : {1, 2}) {
    certify_case(make_case({{2, 7, 9, 72}}, 72, {.kernel = 3, .stride = stride, .before = 1, .after = 1}, 72), Passes::one);
    certify_case(make_case({{1, 5, 4, 13}}, 13, {.kernel = 3, .stride = stride, .before = 1, .after = 1}, 13, false),
                 Passes::one);
  }
}

TEST_P(DepthwiseConvTest, DeferredBatchNormsMatchReference) {
  for (const int stride : {1, 2}) {
    const auto certified = [&](const Slice& x, const Window& window, Activation activation, Passes passes) {
      ConvCase c = make_case(x, x.shape.c, window, x.shape.c, false);
      c.kind.deferred = activation;
      c.kind.statistics = true;
      c.y.others = x.others / 2;
      certify_case(c, passes);
    };
    const Slice x{{2, 7, 6, 48}, 16};
    for (const Passes passes : {Passes::two, Passes::one})
      for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6, Activation::swish})
        certified(x, resolve(x.shape, 3, stride, same), activation, passes);
    const Window uneven{.kernel = 3, .stride = stride, .before = {0, 1}, .after = {1, 0}};
    certified({{1, 3, 3, 264}}, uneven, Activation::relu, Passes::one);
    const Window wide{.kernel = 3, .stride = stride, .before = {1, 5}, .after = {5, 2}};
    certified({{1, 6, 5, 8}}, wide, Activation::swish, Passes::two);
  }
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(DepthwiseConvTest, StatisticsAreThoseOfY) {
  for (const int stride : {1, 2})
    for (const Activation activation : {Activation::none, Activation::relu}) {
      ConvCase c = make_case({{3, 11, 9, 40}}, 40, {.kernel = 3, .stride = stride, .before = 1, .after = 1}, 40);
      c.kind.statistics = true;
      c.kind.activation = activation;
      SCOPED_TRACE(describe(c));
      certify(Fill::uniform, Option::deferral, [&](Lab& lab) { return forward(lab, c); });
    }
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(DepthwiseConvTest, RandomOptionsMatchReference) {
  MICROTOME_NEEDS(Option::deferral);
  for_random_cases([&](Dice& dice) {
    Shape x{dice.roll(1, 3), dice.roll(3, 14), dice.roll(3, 14), 8 * dice.roll(1, 9)};
    const auto pad = [&] { return dice.roll(0, 2); };
    const Window window{.kernel = 3, .stride = dice.roll(1, 2), .before = {pad(), pad()}, .after = {pad(), pad()}};
    ConvCase c = make_case({x, 8 * dice.roll(0, 2)}, x.c, window, x.c, dice.coin());
    c.y.others = 8 * dice.roll(0, 2);
    c.kind.deferred = dice.pick({Activation::none, Activation::relu, Activation::relu6, Activation::swish});
    c.kind.statistics = dice.coin();
    certify_case(c, dice.coin() ? Passes::one : Passes::two);
  });
}

TEST_P(DepthwiseConvTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    Shape x{dice.roll(1, 3), dice.roll(1, 14), dice.roll(1, 14), dice.roll(1, 70)};
    const Window window = dice.window(x, 5);
    ConvCase c = make_case(dice.slice(x), x.c, window, x.c, dice.coin());
    c.y = dice.slice(c.y.shape);
    certify_case(c);
  });
}

MICROTOME_INSTANTIATE(DepthwiseConvTest);

TEST(ReferenceConvTest, GradientsAreFiniteDifferences) {
  struct {
    Shape x;
    int filters;
    Window window;
    int groups;
  } const cases[] = {
      {{2, 4, 5, 3}, 2, {.kernel = 3}, 1},
      {{1, 6, 5, 2}, 3, {.kernel = 3, .stride = 2, .before = 0, .after = 1}, 1},
      {{2, 5, 4, 2}, 2, {.kernel = {3, 2}, .stride = {1, 2}, .before = {2, 0}, .after = {0, 1}}, 1},
      {{1, 4, 4, 4}, 6, {.kernel = 3, .before = 1, .after = 1}, 2},
      {{1, 5, 5, 3}, 3, {.kernel = 3, .stride = 2, .before = 1, .after = 1}, 3},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(to_string(c.window));
    Bench bench;
    const Tensor x = bench.integers(c.x), y = bench.zeros(c.window.output(c.x, c.filters)), dy = bench.integers(y.shape);
    const Tensor w = bench.integers({c.filters, c.window.kernel.h, c.window.kernel.w, c.x.c / c.groups});
    const Tensor b = bench.integers({1, 1, 1, c.filters});
    const Tensor dx = bench.zeros(x.shape), dw = bench.zeros(w.shape), db = bench.zeros(b.shape);
    const auto op = bench.backend().conv({c.window, c.groups, true}, x, y);
    op->backward_data(dy, w, nullptr, dx, Write::overwrite);
    op->backward_filter(x, nullptr, dy, dw, &db, Write::overwrite);
    const auto forward = [&] { op->forward(x, nullptr, w, &b, y, nullptr); };
    expect_exact_gradient(x, dx, y, dy, forward);
    expect_exact_gradient(w, dw, y, dy, forward);
    expect_exact_gradient(b, db, y, dy, forward);
  }
}

TEST(ReferenceConvTest, CrossCorrelatesAsKeras) {
  Bench bench;
  const Tensor x = bench.zeros({1, 4, 4, 1}), w = bench.zeros({1, 2, 2, 1}), y = bench.zeros({1, 3, 3, 1});
  const double image[] = {1,  2,  3,  4,    //
                          5,  6,  7,  8,    //
                          9,  10, 11, 12,   //
                          13, 14, 15, 16},  //
      filter[] = {1, 0,                     //
                  0, -2},                   //
      wanted[] = {-11, -12, -13,            //
                  -15, -16, -17,            //
                  -19, -20, -21};
  std::copy_n(image, 16, x.as<double>());
  std::copy_n(filter, 4, w.as<double>());
  bench.backend().conv({{.kernel = 2}}, x, y)->forward(x, nullptr, w, nullptr, y, nullptr);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(y.as<double>()[i], wanted[i]) << i;
}

TEST(ReferenceConvTest, SamePutsTheOddCellAfter) {
  Bench bench;
  const Tensor x = bench.zeros({1, 1, 4, 1}), w = bench.zeros({1, 1, 3, 1}), y = bench.zeros({1, 1, 2, 1});
  const double row[] = {1, 2, 3, 4};
  std::copy_n(row, 4, x.as<double>());
  std::fill_n(w.as<double>(), 3, 1.0);
  bench.backend().conv({resolve(x.shape, {1, 3}, 2, same)}, x, y)->forward(x, nullptr, w, nullptr, y, nullptr);
  EXPECT_EQ(y.as<double>()[0], 1 + 2 + 3);
  EXPECT_EQ(y.as<double>()[1], 3 + 4);
}

}  // namespace
}  // namespace microtome::test
