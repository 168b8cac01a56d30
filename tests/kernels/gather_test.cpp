// The gather of a batch, and the permutation that shuffles an epoch.
#include "kernels/formulas/permutation.h"
#include "kernels/harness.h"

#include <cmath>
#include <map>
#include <numbers>
#include <set>

namespace microtome::test {
namespace {

struct GatherCase {
  Gather kind;
  Shape x;
  std::uint64_t batch = 0;
  bool features = false;
  int channels = 3;  // of x's memory; what lies beyond its own is zero
};

bool gather(Lab& lab, const GatherCase& c) {
  const Shape all{c.kind.images, c.x.h, c.x.w, c.x.c};
  const Layout wide = lab.activations({{c.x.n, c.x.h, c.x.w, c.features ? c.x.c : c.channels}}),
               labels{{c.kind.images, 1, 1, 1}, DType::u8};
  const Layout images = c.features ? lab.activations({all}) : Layout{all, DType::u8};
  std::vector<std::uint8_t> pixels(all.count()), classes(c.kind.images);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(random_word(1, 0, i));
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = i % 3 == 0 || i % 5 == 0;
  Layout x = wide;
  x.shape = c.x;
  const auto op = lab.backend().gather(c.kind, images, x);
  const Tensor from = c.features ? lab.input("features", images) : Tensor{images, lab.device(pixels)};
  op->forward(from, {labels, lab.device(classes)}, lab.device<StepState>({{.seed = 11, .epoch = 3, .batch = c.batch}}),
              {x, lab.output("x", wide, Write::overwrite, {.zeros_at_most = c.channels > 3 ? 0.9 : 0.5}).data},
              lab.output("y", lab.parameters({{c.x.n, 1, 1, 1}}), Write::overwrite, {.zeros_at_most = 0.9}));
  return true;
}

class GatherTest : public KernelTest {
 protected:
  GatherTest()
      : KernelTest([](Backend& backend) {
          backend.gather({.images = 1, .batch_size = 1}, {{1, 2, 2, 3}, DType::u8}, {{1, 2, 2, 3}, backend.activation_type()});
        }) {}

  void certify_case(const GatherCase& c) {
    SCOPED_TRACE(fmt::format("{} images, batch {} of {}, x {} in {} channels, shuffle {} bgr {} features {}", c.kind.images,
                             c.batch, c.kind.batch_size, to_string(c.x), c.channels, c.kind.shuffle, c.kind.bgr, c.features));
    certify(c.features ? Fill::integers : Fill::uniform, [&](Lab& lab) { return gather(lab, c); });
  }
};

TEST_P(GatherTest, BatchesMatchReference) {
  for (const int side : {96, 50})
    for (const bool shuffle : {false, true})
      certify_case({{.images = 20, .batch_size = 8, .shuffle = shuffle}, {8, side, side, 3}, 1});
}

TEST_P(GatherTest, LastPartialBatchMatchesReference) {
  for (const bool shuffle : {false, true}) certify_case({{.images = 21, .batch_size = 8, .shuffle = shuffle}, {5, 9, 7, 3}, 2});
}

TEST_P(GatherTest, MeansAndDivisorsArePerChannel) {
  certify_case({{.images = 9,
                 .batch_size = 4,
                 .shuffle = true,
                 .mean = {123.675f, 116.28f, 103.53f},
                 .divisor = {58.395f, 57.12f, 57.375f}},
                {4, 11, 13, 3}});
}

TEST_P(GatherTest, ChannelsAreReversedBeforeTheyAreNormalised) {
  certify_case({{.images = 9,
                 .batch_size = 4,
                 .shuffle = true,
                 .mean = {103.939f, 116.779f, 123.68f},
                 .divisor = {1, 1, 1},
                 .bgr = true},
                {4, 11, 13, 3},
                1});
}

TEST_P(GatherTest, FeaturesAreCopiedAsTheyAre) {
  for (const bool shuffle : {false, true}) {
    certify_case({{.images = 21, .batch_size = 8, .shuffle = shuffle}, {8, 1, 1, 1280}, 1, true});
    certify_case({{.images = 21, .batch_size = 8, .shuffle = shuffle}, {5, 3, 3, 70}, 2, true});
  }
}

TEST_P(GatherTest, ChannelsBeyondItsOwnAreZero) {
  for (const int channels : {8, 4, 5}) {
    certify_case({{.images = 20, .batch_size = 8, .shuffle = true, .bgr = true}, {8, 50, 50, 3}, 1, false, channels});
    certify_case({{.images = 6, .batch_size = 5, .mean = {124, 116, 104}}, {1, 96, 96, 3}, 1, false, channels});
    certify_case({{.images = 21, .batch_size = 8}, {5, 9, 7, 3}, 2, false, channels});
  }
}

TEST_P(GatherTest, AugmentedImagesMatchReference) {
  const Augment symmetries{.flip = true, .rotate90 = true}, moved{.shift = 5},
      all{.flip = true, .rotate90 = true, .shift = 60, .zoom = 0.5f, .rotate = 30, .brightness = 0.5f};
  for (const Augment& augment : {symmetries, moved, all})
    for (const int channels : {3, 8}) {
      certify_case({{.images = 20, .batch_size = 8, .shuffle = true, .augment = augment}, {8, 50, 50, 3}, 1, false, channels});
      certify_case({{.images = 10, .batch_size = 3, .bgr = true, .augment = augment}, {1, 96, 96, 3}, 3, false, channels});
    }
  certify_case({{.images = 21, .batch_size = 8, .shuffle = true, .augment = {.zoom = 0.2f, .rotate = 90}}, {5, 9, 7, 3}, 2});
}

TEST_P(GatherTest, PowerOfTwoDivisorsAreExact) {
  const GatherCase c{
      {.images = 9, .batch_size = 4, .shuffle = true, .mean = {128, 64, 1}, .divisor = {128, 64, 2}}, {4, 11, 13, 3}, 1};
  certify(Fill::integers, [&](Lab& lab) { return gather(lab, c); });
}

MICROTOME_INSTANTIATE(GatherTest);

TEST(ReferenceGatherTest, TakesImagesInFileOrderAndNormalisesThem) {
  Bench bench;
  std::vector<std::uint8_t> pixels{0, 64, 128, 255, 10, 20}, labels{1, 0, 1};
  const Layout images{{3, 1, 2, 1}, DType::u8}, all{{3, 1, 1, 1}, DType::u8};
  const Tensor x = bench.zeros({1, 1, 2, 1}), y = bench.zeros({1, 1, 1, 1});
  const StepState state{.batch = 1};
  const auto op = bench.backend().gather({.images = 3, .batch_size = 2, .mean = {4}, .divisor = {2}}, images, x);
  op->forward({images, pixels.data()}, {all, labels.data()}, &state, x, y);
  EXPECT_EQ(x.as<double>()[0], 3);
  EXPECT_EQ(x.as<double>()[1], 8);
  EXPECT_EQ(y.as<double>()[0], 1);
}

TEST(ReferenceGatherTest, ReversesChannelsButNotTheirMeans) {
  Bench bench;
  std::vector<std::uint8_t> red_green_blue{10, 20, 30}, labels{1};
  const Layout images{{1, 1, 1, 3}, DType::u8};
  const Tensor x = bench.zeros({1, 1, 1, 3}), y = bench.zeros({1, 1, 1, 1});
  const StepState state;
  const auto op =
      bench.backend().gather({.images = 1, .batch_size = 1, .mean = {1, 2, 3}, .divisor = {1, 1, 1}, .bgr = true}, images, x);
  op->forward({images, red_green_blue.data()}, {{{1, 1, 1, 1}, DType::u8}, labels.data()}, &state, x, y);
  EXPECT_EQ(x.as<double>()[0], 30 - 1);
  EXPECT_EQ(x.as<double>()[1], 20 - 2);
  EXPECT_EQ(x.as<double>()[2], 10 - 3);
}

/// One image, augmented so for each of many epochs, as a string of pixels.
std::vector<std::vector<double>> augmented(const Augment& augment, const std::vector<std::uint8_t>& pixels, int side,
                                           int epochs) {
  Bench bench;
  const Layout images{{1, side, side, 1}, DType::u8};
  const std::uint8_t label = 1;
  const Tensor x = bench.zeros({1, side, side, 1}), y = bench.zeros({1, 1, 1, 1});
  const auto op = bench.backend().gather({.images = 1, .batch_size = 1, .divisor = {1}, .augment = augment}, images, x);
  std::vector<std::vector<double>> all;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const StepState state{.seed = 3, .epoch = static_cast<std::uint64_t>(epoch)};
    op->forward({images, const_cast<std::uint8_t*>(pixels.data())},
                {{{1, 1, 1, 1}, DType::u8}, const_cast<std::uint8_t*>(&label)}, &state, x, y);
    all.emplace_back(x.as<double>(), x.as<double>() + side * side);
  }
  return all;
}

TEST(AugmentationTest, FlipsAndQuarterTurnsAreTheEightSymmetriesEquallyOften) {
  constexpr int epochs = 8000;
  std::map<std::vector<double>, int> seen;
  for (const auto& image : augmented({.flip = true, .rotate90 = true}, {1, 2, 3, 4}, 2, epochs)) ++seen[image];
  const std::set<std::vector<double>> eight{{1, 2, 3, 4}, {2, 1, 4, 3}, {3, 4, 1, 2}, {4, 3, 2, 1},
                                            {3, 1, 4, 2}, {2, 4, 1, 3}, {1, 3, 2, 4}, {4, 2, 3, 1}};
  ASSERT_EQ(seen.size(), 8u);
  for (const auto& [image, count] : seen) {
    EXPECT_TRUE(eight.contains(image));
    EXPECT_NEAR(count, epochs / 8, 5 * std::sqrt(epochs / 8.0));
  }
}

TEST(AugmentationTest, FlipsAloneNeverTurn) {
  std::set<std::vector<double>> seen;
  for (const auto& image : augmented({.flip = true}, {1, 2, 3, 4}, 2, 100)) seen.insert(image);
  EXPECT_EQ(seen, (std::set<std::vector<double>>{{1, 2, 3, 4}, {2, 1, 4, 3}, {3, 4, 1, 2}, {4, 3, 2, 1}}));
}

TEST(AugmentationTest, ShiftsAreWholePixelsAndTheEdgeReflects) {
  // d c b a | a b c d | d c b a, rows and columns alike.
  std::set<std::vector<double>> expected, seen;
  const auto at = [](int i) { return i < 0 ? -1 - i : i > 2 ? 5 - i : i; };
  for (int down = -2; down <= 2; ++down)
    for (int right = -2; right <= 2; ++right) {
      std::vector<double> image;
      for (int r = 0; r < 3; ++r)
        for (int c = 0; c < 3; ++c) image.push_back(10 * at(r + down) + at(c + right));
      expected.insert(image);
    }
  for (const auto& image : augmented({.shift = 2}, {0, 1, 2, 10, 11, 12, 20, 21, 22}, 3, 1000)) seen.insert(image);
  EXPECT_EQ(seen, expected);
}

TEST(AugmentationTest, ARampStaysLinearUnderZoomAndRotation) {
  // Pixel (r, c) is 100 + 3 r + c: between pixels bilinear means exact, and centre and gradient say what was drawn.
  constexpr int side = 9, mid = side / 2;
  std::vector<std::uint8_t> pixels;
  for (int r = 0; r < side; ++r)
    for (int c = 0; c < side; ++c) pixels.push_back(static_cast<std::uint8_t>(100 + 3 * r + c));
  double least = 2, most = 0, leftmost = 0, rightmost = 0;
  for (const auto& image : augmented({.zoom = 0.3f, .rotate = 20}, pixels, side, 500)) {
    const auto at = [&](int r, int c) { return image[static_cast<std::size_t>(r * side + c)]; };
    const double centre = 100 + 3 * mid + mid, down = at(mid + 1, mid) - centre, right = at(mid, mid + 1) - centre;
    EXPECT_NEAR(at(mid, mid), centre, 1e-12);
    EXPECT_NEAR(at(mid - 1, mid + 2), centre - down + 2 * right, 1e-12);
    const double scale = std::hypot(down, right) / std::hypot(3, 1), angle = std::atan2(right, down) - std::atan2(1, 3);
    least = std::min(least, scale), most = std::max(most, scale);
    leftmost = std::min(leftmost, angle), rightmost = std::max(rightmost, angle);
  }
  const double degrees = 20 * std::numbers::pi / 180;
  EXPECT_NEAR(least, 0.7, 0.01);
  EXPECT_NEAR(most, 1.3, 0.01);
  EXPECT_NEAR(leftmost, -degrees, 0.01);
  EXPECT_NEAR(rightmost, degrees, 0.01);
}

TEST(AugmentationTest, BrightnessScalesWithinAByte) {
  double least = 1000, most = 0;
  for (const auto& image : augmented({.brightness = 0.5f}, {0, 100, 180, 255}, 2, 500)) {
    const double factor = image[1] / 100;
    EXPECT_EQ(image[0], 0);
    EXPECT_DOUBLE_EQ(image[2], std::min(180 * factor, 255.0));
    EXPECT_DOUBLE_EQ(image[3], std::min(255 * factor, 255.0));
    least = std::min(least, factor), most = std::max(most, factor);
  }
  EXPECT_NEAR(least, 0.5, 0.01);
  EXPECT_NEAR(most, 1.5, 0.01);
}

TEST(AugmentationTest, OnlySquaresTurnAndOnlyImagesAreAugmented) {
  Bench bench;
  const auto make = [&](const Augment& augment, const Shape& shape, DType type) {
    return bench.backend().gather({.images = 1, .batch_size = 1, .augment = augment}, {shape, type}, {shape, DType::f64});
  };
  EXPECT_THROW(make({.rotate90 = true}, {1, 4, 5, 3}, DType::u8), Error);
  EXPECT_NO_THROW(make({.flip = true}, {1, 4, 5, 3}, DType::u8));
  EXPECT_THROW(make({.flip = true}, {1, 4, 4, 3}, DType::f64), Error);
}

TEST(PermutationTest, IsABijection) {
  for (const std::uint64_t n : {1, 2, 3, 4, 5, 16, 17, 100, 1023, 4096, 50000}) {
    std::vector<int> hits(n);
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t to = permuted(i, n, 5, 2);
      ASSERT_LT(to, n);
      ++hits[to];
    }
    for (const int count : hits) ASSERT_EQ(count, 1) << "n " << n;
  }
}

TEST(PermutationTest, SeedAndEpochBothMatter) {
  constexpr std::uint64_t n = 1000;
  int same_epoch = 0, same_seed = 0, still = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    same_epoch += permuted(i, n, 1, 1) == permuted(i, n, 1, 2);
    same_seed += permuted(i, n, 1, 1) == permuted(i, n, 2, 1);
    still += permuted(i, n, 1, 1) == i;
  }
  for (const int agreements : {same_epoch, same_seed, still}) EXPECT_LT(agreements, 8);  // Poisson of mean 1: P(>= 8) = 1e-5
}

/// Where index i goes over many epochs, against a uniform distribution: chi-square has n - 1 degrees of freedom, mean n - 1 and
/// variance 2 (n - 1).
TEST(PermutationTest, EveryPlaceIsEquallyLikely) {
  for (const int n : {7, 64, 100}) {
    constexpr int epochs = 20000;
    for (const int i : {0, 1, n - 1}) {
      std::vector<int> hits(n);
      for (int epoch = 0; epoch < epochs; ++epoch) ++hits[permuted(i, n, 42, epoch)];
      const double expected = static_cast<double>(epochs) / n;
      double chi_square = 0;
      for (const int count : hits) chi_square += (count - expected) * (count - expected) / expected;
      EXPECT_NEAR(chi_square, n - 1, 5 * std::sqrt(2.0 * (n - 1))) << "n " << n << " index " << i;
    }
  }
}

/// Neighbours in the file must not stay neighbours: the pair's distance is as that of two places drawn blindly.
TEST(PermutationTest, NeighboursAreSeparated) {
  constexpr std::uint64_t n = 262144;
  int near = 0;
  constexpr int pairs = 20000;
  for (std::uint64_t i = 0; i < pairs; ++i) {
    const std::uint64_t a = permuted(i, n, 1, 0), b = permuted(i + 1, n, 1, 0);
    near += (a > b ? a - b : b - a) < n / 100;
  }
  const double share = 2 * 0.01 - 0.01 * 0.01;
  EXPECT_NEAR(near, pairs * share, 5 * std::sqrt(pairs * share));
}

}  // namespace
}  // namespace microtome::test
