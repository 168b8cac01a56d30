// Bounds are exact; moments are held to five standard errors of an independent sample of that size and distribution.
#include "engine/init.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>
#include <vector>

namespace microtome {
namespace {

using Rule = Initializer::Rule;

constexpr int count = 200'000;

std::vector<float> draw(const Initializer& init, std::uint64_t seed = 1, int index = 0, int n = count) {
  std::vector<float> values(n);
  initialize(init, seed, index, values);
  return values;
}

double mean_of_powers(const std::vector<float>& values, int power) {
  double sum = 0;
  for (const float x : values) sum += std::pow(static_cast<double>(x), power);
  return sum / static_cast<double>(values.size());
}

// `second` and `fourth` moments of a symmetric distribution say how far sample moments stray.
void expect_symmetric_moments(const std::vector<float>& values, double second, double fourth) {
  const double n = static_cast<double>(values.size());
  EXPECT_NEAR(mean_of_powers(values, 1), 0, 5 * std::sqrt(second / n));
  EXPECT_NEAR(mean_of_powers(values, 2), second, 5 * std::sqrt((fourth - second * second) / n));
}

float largest(const std::vector<float>& values) {
  float most = 0;
  for (const float x : values) most = std::max(most, std::abs(x));
  return most;
}

TEST(InitTest, ConstantFillsEveryElement) {
  const std::vector<float> values = draw(constant(0.25), 1, 0, 7);
  EXPECT_EQ(values, std::vector<float>(7, 0.25f));
}

TEST(InitTest, GlorotUniformHasItsLimitAndVariance) {
  // B2's second convolution: 5 x 5 x 32 -> 64.
  const Initializer init{.rule = Rule::glorot_uniform, .fan_in = 5 * 5 * 32, .fan_out = 5 * 5 * 64};
  const double limit = std::sqrt(6.0 / (800 + 1600));
  const std::vector<float> values = draw(init);
  EXPECT_LE(largest(values), static_cast<float>(limit));
  EXPECT_GT(largest(values), limit * (1 - 50.0 / count)) << "some of so many values come close to the limit";
  expect_symmetric_moments(values, limit * limit / 3, std::pow(limit, 4) / 5);
}

struct Truncated {
  Initializer init;
  double variance;
};

class InitTruncatedTest : public testing::TestWithParam<Truncated> {};

TEST_P(InitTruncatedTest, HasVarianceScaleOverFanWithinTwoSigma) {
  const auto& [init, variance] = GetParam();
  // Moments of the standard normal truncated at a = 2: E[x^k] = (k - 1) E[x^(k-2)] - 2 a^(k-1) phi(a) / Z.
  const double phi = std::exp(-2.0) / std::sqrt(2 * std::numbers::pi), z = std::erf(std::numbers::sqrt2);
  const double second = 1 - 4 * phi / z, fourth = 3 * second - 16 * phi / z;
  const double sigma = std::sqrt(variance / second);
  const std::vector<float> values = draw(init);

  EXPECT_LE(largest(values), static_cast<float>(2 * sigma));
  EXPECT_GT(largest(values), 1.99 * sigma) << "the tails reach two sigma";
  expect_symmetric_moments(values, variance, fourth * std::pow(sigma, 4));

  const double share =
      std::erf(std::numbers::sqrt2 / 2) / z;  // within one sigma: a uniform of this variance has 0.66, not 0.72
  const auto inside = std::count_if(values.begin(), values.end(), [&](float x) { return std::abs(x) < sigma; });
  EXPECT_NEAR(static_cast<double>(inside) / count, share, 5 * std::sqrt(share * (1 - share) / count));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, InitTruncatedTest,
    testing::Values(Truncated{{.rule = Rule::he_normal, .fan_in = 288, .fan_out = 576}, 2.0 / 288},
                    Truncated{{.rule = Rule::variance_scaling_fan_out, .value = 2, .fan_in = 288, .fan_out = 576}, 2.0 / 576},
                    Truncated{{.rule = Rule::variance_scaling_fan_out, .value = 1.0 / 3, .fan_in = 9, .fan_out = 9},
                              1.0 / 27}));

TEST(InitTest, ValuesDependOnSeedIndexAndElementAlone) {
  for (const Rule rule : {Rule::glorot_uniform, Rule::he_normal, Rule::variance_scaling_fan_out}) {
    const Initializer init{.rule = rule, .value = 2, .fan_in = 9, .fan_out = 9};
    const std::vector<float> second = draw(init, 7, 1, 1000);  // before the first, and longer
    const std::vector<float> first = draw(init, 7, 0, 1000);
    EXPECT_EQ(draw(init, 7, 0, 1000), first);
    EXPECT_EQ(draw(init, 7, 1, 10), std::vector<float>(second.begin(), second.begin() + 10));
    EXPECT_NE(first, second);
    EXPECT_NE(draw(init, 8, 0, 1000), first);
    EXPECT_GT(std::set<float>(first.begin(), first.end()).size(), 990u) << "elements share no draws";
  }
}

TEST(InitTest, ParametersAreUncorrelated) {
  const Initializer init{.rule = Rule::glorot_uniform, .fan_in = 3, .fan_out = 3};  // limit 1, variance 1/3
  const std::vector<float> a = draw(init, 1, 0), b = draw(init, 1, 1), c = draw(init, 2, 0);
  double ab = 0, ac = 0, neighbours = 0;
  for (int i = 0; i + 1 < count; ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    ac += static_cast<double>(a[i]) * c[i];
    neighbours += static_cast<double>(a[i]) * a[i + 1];
  }
  const double limit = 5 * std::sqrt(count) / 3;
  EXPECT_NEAR(ab, 0, limit);
  EXPECT_NEAR(ac, 0, limit);
  EXPECT_NEAR(neighbours, 0, limit);
}

TEST(InitTest, RefusesFansThatMakeNoVariance) {
  std::vector<float> values(1);
  EXPECT_THROW(initialize({.rule = Rule::glorot_uniform, .fan_in = 0, .fan_out = 0}, 0, 0, values), Error);
  EXPECT_THROW(initialize({.rule = Rule::variance_scaling_fan_out, .value = 0}, 0, 0, values), Error);
}

}  // namespace
}  // namespace microtome
