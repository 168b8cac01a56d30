// Batch normalisation: Keras' goldens and finite differences certify the reference, the reference certifies the rest.
#include "kernels/harness.h"

#include <algorithm>
#include <cmath>

namespace microtome::test {
namespace {

struct BatchNormCase {
  Slice x;
  BatchNorm kind;
  bool in_place = false;     // dx is dy's memory
  int other_statistics = 0;  // of channels that this batch-norm does not read
  double mean = 0;           // of x
};

/// Nothing like a batch's, so that using others shows; NaN where a backend must write.
Tensor statistics_of(Lab& lab, const BatchNormCase& c) {
  const int channels = c.x.shape.c, known = c.kind.known_channels;
  std::vector<double> values(2 * channels, std::nan(""));
  for (int i = 0; i < known; ++i) values[i] = 0.25 - i / 64.0, values[channels + i] = 1 + i / 32.0;
  const Tensor statistics = lab.given("statistics", lab.parameters({{1, 1, 2, channels}, c.other_statistics}), values);
  if (known < channels) lab.overwritten(statistics, "statistics");
  return statistics;
}

std::string describe(const BatchNormCase& c) {
  return fmt::format("x {} scale {} bessel {} batch statistics {} activation {} shared {} known {} in place {} mean {}",
                     to_string(c.x), c.kind.scale, c.kind.bessel, c.kind.batch_statistics, name(c.kind.activation),
                     c.kind.shared_statistics, c.kind.known_channels, c.in_place, c.mean);
}

bool both_passes(Lab& lab, const BatchNormCase& c, Write write) {
  const Layout layout = lab.activations(c.x), vector = lab.parameters({{1, 1, 1, c.x.shape.c}});
  const auto op = lab.backend().batch_norm(c.kind, layout, layout);
  if (!op) return false;
  // Eight roundings an element, whichever way the formula is arranged; of the sums' own errors an element gets one part in M.
  const double zeros_at_most = c.kind.activation == Activation::relu || c.kind.activation == Activation::relu6 ? 0.75 : 0.5;
  const Expect of_elements{.zeros_at_most = zeros_at_most, .additions = 8};
  // With relu6 it clamps on both sides.
  const double of_gamma = c.kind.activation == Activation::relu6 ? 6 : 1;
  const Tensor x = lab.input("x", layout, {.offset = c.mean}), gamma = lab.input("gamma", vector, {.scale = of_gamma}),
               beta = lab.input("beta", vector);
  const Tensor mean = lab.input("mean", vector), variance = lab.input("variance", vector, {.scale = 0.5, .offset = 1});
  const Tensor* scale = c.kind.scale ? &gamma : nullptr;
  const Tensor statistics = c.kind.shared_statistics ? statistics_of(lab, c) : Tensor{};
  op->forward(x, scale, beta, mean, variance, c.kind.shared_statistics ? &statistics : nullptr, nullptr,
              lab.output("y", layout, Write::overwrite, of_elements));
  if (c.kind.batch_statistics) lab.overwritten(mean, "moving mean"), lab.overwritten(variance, "moving variance");

  const Expect of_sums{.additions = static_cast<double>(c.x.shape.count() / c.x.shape.c)};
  const Tensor dy = lab.input("dy", layout), dbeta = lab.output("dbeta", vector, Write::overwrite, of_sums);
  const Tensor dgamma = c.kind.scale ? lab.output("dgamma", vector, Write::overwrite, of_sums) : Tensor{};
  if (c.in_place) lab.overwritten(dy, "dx in place", of_elements);
  const Tensor dx = c.in_place ? dy : lab.output("dx", layout, write, of_elements);
  op->backward(x, dy, scale, beta, dx, c.kind.scale ? &dgamma : nullptr, dbeta, write);
  return true;
}

/// As a producer might leave them: of x's pixels in `rows` runs, the first of them empty.
Tensor partial_statistics(Lab& lab, const Tensor& x, const std::vector<double>& values, int rows) {
  const int channels = x.shape.c, pixels = static_cast<int>(values.size()) / channels;
  std::vector<double> partial;
  for (int r = 0; r < rows; ++r) {
    const int first = r == 0 ? 0 : (r - 1) * pixels / (rows - 1), last = r * pixels / (rows - 1);
    std::vector<double> means(channels), squares(channels);
    for (int c = 0; c < channels; ++c) {
      for (int i = first; i < last; ++i) means[c] += values[i * channels + c] / (last - first);
      for (int i = first; i < last; ++i)
        squares[c] += (values[i * channels + c] - means[c]) * (values[i * channels + c] - means[c]);
    }
    partial.insert(partial.end(), channels, last - first);
    partial.insert(partial.end(), means.begin(), means.end());
    partial.insert(partial.end(), squares.begin(), squares.end());
  }
  return lab.given("partial", lab.parameters({{1, 1, rows, 3 * channels}}), partial);
}

/// Integers are exact in every type, and of their means and variances nobody needs to know more than that they are a batch's.
std::vector<double> values_of(const Layout& x) {
  std::vector<double> values(x.shape.count());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(random_word(3, 0, i) % 64) - 20;
  return values;
}

/// Vectors forward and backward, and what they leave for x's gradient.
bool deferred(Lab& lab, const BatchNormCase& c, Write write, int partial_rows = 0, int sum_rows = 5) {
  const Layout layout = lab.activations(c.x), vector = lab.parameters({{1, 1, 1, c.x.shape.c}});
  const auto op = lab.backend().deferred_norm(c.kind, layout);
  const auto correct = lab.backend().norm_correction(layout);
  if (!op || !correct) return false;
  const std::vector<double> values = values_of(layout);
  const Tensor x = lab.given("x", layout, values), gamma = lab.input("gamma", vector), beta = lab.input("beta", vector);
  const Tensor mean = lab.input("mean", vector), variance = lab.input("variance", vector, {.scale = 0.5, .offset = 1});
  const Tensor* scale = c.kind.scale ? &gamma : nullptr;
  const Tensor statistics = c.kind.shared_statistics ? statistics_of(lab, c) : Tensor{};
  const Tensor partial = partial_rows > 0 ? partial_statistics(lab, x, values, partial_rows) : Tensor{};
  const double pixels = static_cast<double>(c.x.shape.count() / c.x.shape.c);
  const Tensor coefficients =
      lab.output("coefficients", lab.parameters({{1, 1, 3, c.x.shape.c}}), Write::overwrite, {.additions = pixels});
  op->forward(x, scale, beta, mean, variance, c.kind.shared_statistics ? &statistics : nullptr,
              partial_rows > 0 ? &partial : nullptr, coefficients);
  if (c.kind.batch_statistics) lab.overwritten(mean, "moving mean"), lab.overwritten(variance, "moving variance");

  const Expect of_sums{.additions = static_cast<double>(sum_rows)};
  const Tensor sums = lab.input("sums", lab.parameters({{1, 1, sum_rows, 2 * c.x.shape.c}}));
  const Tensor dbeta = lab.output("dbeta", vector, Write::overwrite, of_sums);
  const Tensor dgamma = c.kind.scale ? lab.output("dgamma", vector, Write::overwrite, of_sums) : Tensor{};
  const Tensor correction = lab.input("correction", lab.parameters({{1, 1, 3, c.x.shape.c}, c.other_statistics}));
  op->backward(sums, scale, c.kind.scale ? &dgamma : nullptr, dbeta, correction, write);
  lab.overwritten(correction, "correction", {.zeros_at_most = 0.7, .additions = pixels});
  const Tensor dx = lab.input("dx", layout);
  correct->run(x, correction, dx);
  lab.overwritten(dx, "dx", {.additions = 8});
  return true;
}

class BatchNormTest : public KernelTest {
 protected:
  BatchNormTest()
      : KernelTest([](Backend& backend) {
          const Layout layout{{2, 2, 2, 8}, backend.activation_type()};
          backend.batch_norm({}, layout, layout);
        }) {}

  void certify_case(const BatchNormCase& c) {
    SCOPED_TRACE(describe(c));
    for (const Write write : both_writes) {
      if (c.in_place && write == Write::accumulate) continue;
      SCOPED_TRACE(name(write));
      certify(Fill::uniform, [&](Lab& lab) { return both_passes(lab, c, write); });
    }
  }
};

std::vector<Slice> slices_of_b6(int side) {
  std::vector<Slice> slices;
  int s = side - 2;
  for (const int channels : {32, 64, 128}) {
    s -= 2;
    slices.push_back({{2, s, s, channels}});
    if (channels > 32) slices.push_back({{2, s + 2, s + 2, channels}});
    s = s / 2 - 2;
  }
  slices.push_back({{8, 1, 1, 256}});
  return slices;
}

TEST_P(BatchNormTest, CasesOfB6MatchReference) {
  for (const int side : {96, 50})
    for (const Slice& x : slices_of_b6(side)) certify_case({x, {.bessel = x.shape.h > 1}});
}

TEST_P(BatchNormTest, GivenStatisticsMatchReference) {
  certify_case({{{3, 5, 7, 12}}, {.batch_statistics = false}});
  certify_case({{{3, 5, 7, 12}}, {.scale = false, .batch_statistics = false}});
}

TEST_P(BatchNormTest, OptionsMatchReference) {
  for (const bool scale : {true, false})
    for (const bool bessel : {true, false})
      certify_case({{{4, 5, 6, 24}}, {.scale = scale, .epsilon = 1.001e-5f, .momentum = 0.9f, .bessel = bessel}});
}

TEST_P(BatchNormTest, NoDigitsGoToADistantMean) {
  certify_case({.x = {{4, 6, 5, 24}}, .kind = {}, .mean = 256});
}

TEST_P(BatchNormTest, FusedActivationsMatchReference) {
  for (const Activation activation : {Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid})
    for (const bool batch_statistics : {true, false})
      certify_case({{{4, 6, 5, 16}}, {.batch_statistics = batch_statistics, .activation = activation}});
}

TEST_P(BatchNormTest, StatisticsOfKnownChannelsAreReadAndOthersWritten) {
  for (const int known : {0, 24, 32, 64})
    for (const int others : {0, 32})
      certify_case({.x = {{4, 6, 5, 64}, others},
                    .kind = {.activation = Activation::relu, .shared_statistics = true, .known_channels = known},
                    .other_statistics = others});
  certify_case({.x = {{2, 5, 3, 27}, 5}, .kind = {.shared_statistics = true, .known_channels = 13}, .other_statistics = 7});
}

TEST_P(BatchNormTest, PartialStatisticsMatchReference) {
  for (const Slice& x : {Slice{{4, 6, 5, 64}}, Slice{{2, 5, 3, 27}, 5}, Slice{{1, 1, 2, 8}}}) {
    const auto with_partial_statistics = [&](Lab& lab) {
      const Layout layout = lab.activations(x), vector = lab.parameters({{1, 1, 1, x.shape.c}});
      const auto op = lab.backend().batch_norm({.scale = false, .partial_statistics = true}, layout, layout);
      if (!op) return false;
      const std::vector<double> values = values_of(layout);
      const Tensor input = lab.given("x", layout, values), partial = partial_statistics(lab, input, values, 7);
      const Tensor mean = lab.input("mean", vector), variance = lab.input("variance", vector, {.scale = 0.5, .offset = 1});
      op->forward(input, nullptr, lab.input("beta", vector), mean, variance, nullptr, &partial,
                  lab.output("y", layout, Write::overwrite, {.additions = 8}));
      lab.overwritten(mean, "moving mean"), lab.overwritten(variance, "moving variance");
      return true;
    };
    certify(Fill::uniform, Option::deferral, with_partial_statistics);
  }
  MICROTOME_NEEDS(Option::deferral);
}

TEST_P(BatchNormTest, DeferredOnesMatchReference) {
  const auto certified = [&](const BatchNormCase& c, int partial_rows = 0, int sum_rows = 5) {
    SCOPED_TRACE(describe(c));
    for (const Write write : both_writes) {
      SCOPED_TRACE(name(write));
      const auto passes = [&](Lab& lab) { return deferred(lab, c, write, partial_rows, sum_rows); };
      certify(Fill::uniform, Option::deferral, passes);
    }
  };
  certified({.x = {{4, 6, 5, 64}}});
  MICROTOME_NEEDS(Option::deferral);
  for (const bool scale : {true, false}) {
    certified({.x = {{2, 5, 3, 27}, 5}, .kind = {.scale = scale, .bessel = false}, .other_statistics = 7});
    certified({.x = {{3, 5, 7, 12}}, .kind = {.scale = scale, .batch_statistics = false}});
    certified({.x = {{2, 5, 3, 27}}, .kind = {.scale = scale, .partial_statistics = true}}, 40, 1);
  }
  certified({.x = {{1, 4, 4, 72}, 8}, .kind = {.partial_statistics = true}}, 2, 70);
  for (const int known : {0, 24, 64})
    certified({.x = {{4, 6, 5, 64}, 32}, .kind = {.shared_statistics = true, .known_channels = known}, .other_statistics = 32});
}

TEST_P(BatchNormTest, GradientMayTakeTheMemoryOfDy) {
  certify_case({.x = {{4, 6, 5, 16}}, .kind = {}, .in_place = true});
  certify_case({.x = {{4, 6, 5, 16}}, .kind = {.batch_statistics = false}, .in_place = true});
  certify_case({.x = {{4, 6, 5, 16}}, .kind = {.activation = Activation::relu}, .in_place = true});
}

TEST_P(BatchNormTest, RandomShapesMatchReference) {
  for_random_cases([&](Dice& dice) {
    // Two values a channel normalise to +-1 whatever they are: their gradient is 0 but for rounding, which proves nothing.
    const Shape x{dice.roll(2, 4), dice.roll(2, 12), dice.roll(1, 12), dice.roll(1, 70)};
    // Of few channels all may lie below a relu's kink.
    const Activation any = dice.pick({Activation::none, Activation::relu, Activation::relu6, Activation::swish});
    const Activation activation = x.c < 32 && any != Activation::swish ? Activation::none : any;
    certify_case({dice.slice(x),
                  {.scale = dice.coin(), .bessel = dice.coin(), .batch_statistics = dice.coin(), .activation = activation},
                  dice.coin()});
  });
}

TEST_P(BatchNormTest, MovingAveragesAreKeras) {
  for (const bool bessel : {true, false}) {
    Lab lab(backend(), GetParam().significand_bits, Fill::uniform);
    const Layout x = lab.activations({{4, 1, 1, 1}}), vector = lab.parameters({{1, 1, 1, 1}});
    const auto op = lab.backend().batch_norm({.bessel = bessel}, x, x);
    const Tensor gamma = lab.given("gamma", vector, {1.0}), beta = lab.given("beta", vector, {0.0});
    const Tensor mean = lab.given("mean", vector, {0.0}), variance = lab.given("variance", vector, {1.0});
    op->forward(lab.given("x", x, {1.0, 2.0, 3.0, 4.0}), &gamma, beta, mean, variance, nullptr, nullptr, lab.output("y", x));
    lab.overwritten(mean, "mean"), lab.overwritten(variance, "variance");
    const std::vector<Result> results = lab.results();
    // 0.99 in float32 is off by up to 2^-25, and stands before a mean of 2.5.
    const double bound = 2.5 * std::ldexp(1, -24);
    EXPECT_NEAR(results[0].values[0], 0.025, bound);
    EXPECT_NEAR(results[1].values[0], bessel ? 0.99 + 0.01 * 5 / 3 : 1.0025, bound);
  }
}

MICROTOME_INSTANTIATE(BatchNormTest);

TEST(ReferenceBatchNormTest, GradientsAreFiniteDifferences) {
  for (const Activation activation :
       {Activation::none, Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid})
    for (const bool scale : {true, false})
      for (const bool batch_statistics : {true, false}) {
        SCOPED_TRACE(fmt::format("{} scale {} batch statistics {}", name(activation), scale, batch_statistics));
        Bench bench;
        const Shape shape{2, 3, 2, 3}, channels{1, 1, 1, 3};
        const Tensor x = bench.uniform(shape), y = bench.zeros(shape), dy = bench.uniform(shape), dx = bench.zeros(shape);
        // Wide enough for relu6 to clamp on both sides.
        const Tensor gamma = bench.uniform(channels, 0.5, 5), beta = bench.uniform(channels, 1, 3);
        const Tensor mean = bench.uniform(channels, 0.1), variance = bench.uniform(channels, 0.1, 0.3);
        const Tensor dgamma = bench.zeros(channels), dbeta = bench.zeros(channels);
        const BatchNorm kind{.scale = scale, .batch_statistics = batch_statistics, .activation = activation};
        const auto op = bench.backend().batch_norm(kind, x, y);
        const Tensor* by = scale ? &gamma : nullptr;
        const auto forward = [&] { op->forward(x, by, beta, mean, variance, nullptr, nullptr, y); };

        BatchNorm plain = kind;
        plain.activation = Activation::none;
        const auto linear = bench.backend().batch_norm(plain, x, y);
        linear->forward(x, by, beta, mean, variance, nullptr, nullptr, y);
        // A step of 2^-9 in x, gamma or beta moves y by less than 2^-5: no kink may be as near.
        const bool has_kinks = activation == Activation::relu || activation == Activation::relu6;
        for (int i = 0; has_kinks && i < shape.count(); ++i)
          for (const double kink : {0.0, 6.0}) {
            ASSERT_GT(std::abs(y.as<double>()[i] - kink), std::ldexp(1, -5)) << "another draw, please: y lies at a kink";
          }

        forward();
        op->backward(x, dy, by, beta, dx, scale ? &dgamma : nullptr, dbeta, Write::overwrite);
        const int additions = static_cast<int>(shape.count() / shape.c) + 10;
        expect_gradient(x, dx, y, dy, additions, forward);
        if (scale) expect_gradient(gamma, dgamma, y, dy, additions, forward);
        expect_gradient(beta, dbeta, y, dy, additions, forward);
      }
}

/// A batch-norm that a convolution applies: vectors from all of x, then the convolution, and backward the convolution's half of
/// x's gradient, then the vectors', then what is left of x's.
TEST(ReferenceBatchNormTest, GradientsOfADeferredOneAreFiniteDifferences) {
  for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6, Activation::swish})
    for (const bool scale : {true, false})
      for (const bool batch_statistics : {true, false}) {
        SCOPED_TRACE(fmt::format("{} scale {} batch statistics {}", name(activation), scale, batch_statistics));
        Bench bench;
        const Shape shape{2, 3, 2, 3}, channels{1, 1, 1, 3};
        const Window window{.kernel = 2, .before = 1};
        const Tensor x = bench.uniform(shape), dx = bench.zeros(shape), w = bench.uniform({2, 2, 2, 3}),
                     dw = bench.zeros(w.shape);
        const Tensor y = bench.zeros(window.output(shape, 2)), dy = bench.uniform(y.shape);
        const Tensor gamma = bench.uniform(channels, 0.5, 6), beta = bench.uniform(channels, 1, 3);
        const Tensor mean = bench.uniform(channels, 0.1), variance = bench.uniform(channels, 0.1, 0.3);
        const Tensor dgamma = bench.zeros(channels), dbeta = bench.zeros(channels), correction = bench.zeros({1, 1, 3, 3});
        const BatchNorm kind{.scale = scale, .batch_statistics = batch_statistics, .deferred = true};
        const auto norm = bench.backend().deferred_norm(kind, x);
        const auto conv = bench.backend().conv({.window = window, .deferred = activation}, x, y);
        const Deferred deferred{x, bench.zeros({1, 1, 3, 3}), bench.zeros({1, 1, conv->sum_rows(), 6})};
        const Tensor* by = scale ? &gamma : nullptr;
        const auto forward = [&] {
          norm->forward(x, by, beta, mean, variance, nullptr, nullptr, deferred.coefficients);
          conv->forward(x, &deferred, w, nullptr, y, nullptr);
        };
        forward();
        const bool has_kinks = activation == Activation::relu || activation == Activation::relu6;
        const double* row = deferred.coefficients.as<double>();
        for (int i = 0; has_kinks && i < shape.count(); ++i)
          for (const double kink : {0.0, 6.0}) {
            const double z = (x.as<double>()[i] - row[i % 3]) * row[3 + i % 3] + row[6 + i % 3];
            ASSERT_GT(std::abs(z - kink), std::ldexp(1, -5)) << "another draw, please: z lies at a kink";
          }

        conv->backward_filter(x, &deferred, dy, dw, nullptr, Write::overwrite);
        conv->backward_data(dy, w, &deferred, dx, Write::overwrite);
        norm->backward(deferred.sums, by, scale ? &dgamma : nullptr, dbeta, correction, Write::overwrite);
        bench.backend().norm_correction(x)->run(x, correction, dx);
        const int additions = static_cast<int>(shape.count() / shape.c) + 24;
        expect_gradient(x, dx, y, dy, additions, forward);
        expect_gradient(w, dw, y, dy, additions, forward);
        if (scale) expect_gradient(gamma, dgamma, y, dy, additions, forward);
        expect_gradient(beta, dbeta, y, dy, additions, forward);
      }
}

TEST(ReferenceBatchNormTest, KnownStatisticsEnterYAndTheMovingAverages) {
  Bench bench;
  const Shape shape{2, 1, 1, 2}, vector{1, 1, 1, 2};
  const Tensor x = bench.zeros(shape), y = bench.zeros(shape), statistics = bench.zeros({1, 1, 2, 2});
  const Tensor beta = bench.zeros(vector), mean = bench.zeros(vector), variance = bench.zeros(vector);
  const double pixels[] = {5, 1,  //
                           7, 5},
               known[] = {1, 0,  // means: the first channel's is not x's
                          3, 0};
  std::copy_n(pixels, 4, x.as<double>());
  std::copy_n(known, 4, statistics.as<double>());
  const auto op = bench.backend().batch_norm(
      {.scale = false, .epsilon = 1, .momentum = 0.5f, .bessel = false, .shared_statistics = true, .known_channels = 1}, x, y);
  op->forward(x, nullptr, beta, mean, variance, &statistics, nullptr, y);
  EXPECT_EQ(y.as<double>()[0], (5 - 1) / 2);
  EXPECT_EQ(y.as<double>()[2], (7 - 1) / 2);
  EXPECT_EQ(mean.as<double>()[0], 0.5);
  EXPECT_EQ(variance.as<double>()[0], 1.5);
  const double wanted[] = {1, 3,  //
                           3, 4};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(statistics.as<double>()[i], wanted[i]) << i;
}

TEST(ReferenceBatchNormTest, GradientsOfParametersAreOverwrittenWhereDxAccumulates) {
  Bench bench;
  const Shape shape{2, 2, 2, 1}, one{1, 1, 1, 1};
  const Tensor x = bench.uniform(shape), y = bench.zeros(shape), dy = bench.uniform(shape), dx = bench.zeros(shape);
  const Tensor beta = bench.zeros(one), mean = bench.zeros(one), variance = bench.zeros(one),
               dbeta = bench.uniform(one, 1, 100);
  const auto op = bench.backend().batch_norm({.scale = false}, x, y);
  op->forward(x, nullptr, beta, mean, variance, nullptr, nullptr, y);
  op->backward(x, dy, nullptr, beta, dx, nullptr, dbeta, Write::accumulate);
  double sum = 0;
  for (int i = 0; i < 8; ++i) sum += dy.as<double>()[i];
  EXPECT_EQ(dbeta.as<double>()[0], sum);
}

}  // namespace
}  // namespace microtome::test
