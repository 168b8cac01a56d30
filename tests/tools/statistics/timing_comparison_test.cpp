#include "tools/statistics/timing_comparison.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace microtome {
namespace {

Timings timings(const std::string& key, std::vector<double> seconds, double calls = 0) {
  return {key, std::move(seconds), calls};
}

Comparison compare_one(std::vector<double> before, std::vector<double> after) {
  const std::vector a{timings("case", std::move(before))}, b{timings("case", std::move(after))};
  return compare(a, b).front();
}

const std::vector<double> ten{100, 101, 99, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9, 100};

std::vector<double> times(double factor, std::vector<double> seconds) {
  for (double& s : seconds) s *= factor;
  return seconds;
}

TEST(ComparisonTest, EachClassHasItsCase) {
  EXPECT_EQ(compare_one(ten, times(1.05, ten)).change, Change::slower);
  EXPECT_EQ(compare_one(ten, times(0.95, ten)).change, Change::faster);
  EXPECT_EQ(compare_one(ten, times(1.001, ten)).change, Change::unchanged);
  EXPECT_EQ(compare_one(ten, {80, 130, 90, 120, 100, 100, 110, 95, 105, 85}).change, Change::ambiguous);
  const std::vector before{timings("left", ten), timings("stayed", ten)}, after{timings("stayed", ten), timings("came", ten)};
  const std::vector<Comparison> both = compare(before, after);
  EXPECT_EQ(both[0].key, "stayed");
  EXPECT_EQ(both[1].change, Change::appeared);
  EXPECT_EQ(both[2].change, Change::gone);
}

TEST(ComparisonTest, TheIntervalIsTheOneOfRanks) {
  // Of 5 + 5 values 252 orders are equally likely. Those with U <= 2 are 1 + 1 + 2, and 4 / 252 < 2.5%; with U = 3 there are 3
  // more. So the interval begins at the third difference: of 2, 4, 4, 8, …
  const Comparison c = compare_one({1, 2, 4, 8, 16}, {32, 64, 128, 256, 512});
  EXPECT_NEAR(c.ratio, 32, 1e-9);
  EXPECT_NEAR(c.low, 4, 1e-9);
  EXPECT_NEAR(c.high, 256, 1e-9);
}

TEST(ComparisonTest, ThreeRepetitionsCannotTell) {
  const Comparison c = compare_one({1, 1.01, 1.02}, {2, 2.01, 2.02});
  EXPECT_EQ(c.change, Change::ambiguous);
  EXPECT_EQ(c.low, 0);
  EXPECT_TRUE(std::isinf(c.high));
  EXPECT_EQ(repetitions_needed(1), 4);    // 2 / C(8, 4) < 5%
  EXPECT_EQ(repetitions_needed(100), 8);  // 2 / C(16, 8) < 0.05%
}

TEST(ComparisonTest, ManyCasesAskForMoreEvidence) {
  const std::vector<double> five{100, 101, 99, 100.5, 99.5};
  std::vector<Timings> before{timings("slow", five)}, after{timings("slow", times(1.2, five))};
  EXPECT_EQ(compare(before, after).front().change, Change::slower);
  for (int i = 0; i < 99; ++i) {
    before.push_back(timings(fmt::format("case {}", i), five));
    after.push_back(before.back());
  }
  const std::vector<Comparison> all = compare(before, after);
  EXPECT_EQ(all.front().key, "slow");
  EXPECT_EQ(all.front().change, Change::ambiguous);
}

TEST(ComparisonTest, EqualRepetitionsAreNoEvidence) {
  const std::vector<double> counts(10, 1000.0);
  EXPECT_EQ(compare_one(counts, counts).change, Change::unchanged);
  EXPECT_EQ(compare_one(counts, std::vector<double>(10, 1001.0)).change, Change::slower);
}

TEST(ComparisonTest, AnOutlierOfHoursChangesNothing) {
  std::vector<double> disturbed = ten;
  disturbed[3] = 1e5;
  EXPECT_EQ(compare_one(ten, disturbed).change, Change::unchanged);
  EXPECT_EQ(compare_one(disturbed, times(1.05, ten)).change, Change::slower);
}

TEST(ComparisonTest, WhatUnchangedCodeDoesIsNoChange) {
  const std::vector one{timings("shaky", ten), timings("calm", ten)};
  const std::vector other{timings("shaky", times(1.04, ten)), timings("calm", ten)};
  EXPECT_EQ(compare(one, other).front().change, Change::slower);
  EXPECT_EQ(compare(one, other, NoiseFloor(one, other)).front().change, Change::unchanged);
}

TEST(ComparisonTest, AShakyCaseHasAFloorOfItsOwn) {
  const std::vector<double> counts(10, 1000.0);  // without scatter all that moves is drift
  std::vector<Timings> one, other;
  for (int i = 0; i < 40; ++i) {
    one.push_back(timings(fmt::format("case {}", i), counts));
    other.push_back(timings(fmt::format("case {}", i), times(i == 0 ? 1.2 : 1.005, counts)));
  }
  const NoiseFloor floor(one, other);
  EXPECT_NEAR(floor.of(one[1], one[1]), 2 * std::log(1.005), 1e-9);
  EXPECT_NEAR(floor.of(one[0], one[0]), 2 * std::log(1.2), 1e-9);
  EXPECT_NEAR(floor.pooled(), 1.005 * 1.005 - 1, 1e-9);
}

TEST(ComparisonTest, WhatScatterExplainsIsNoDrift) {
  std::vector<Timings> one, other;
  for (int i = 0; i < 40; ++i) {
    one.push_back(timings(fmt::format("case {}", i), {90, 95, 100, 105, 110}));
    other.push_back(timings(fmt::format("case {}", i), {91, 96, 101, 106, 111}));
  }
  EXPECT_EQ(NoiseFloor(one, other).pooled(), 0);
}

TEST(ComparisonTest, EffectsCountByTheirSecondsAnEpoch) {
  const std::vector before{timings("long", times(1e-3, ten), 1), timings("often", times(1e-5, ten), 1e4)};
  const std::vector after{timings("long", times(2e-3, ten), 1), timings("often", times(1.1e-5, ten), 1e4)};
  const std::vector<Comparison> both = compare(before, after);
  EXPECT_EQ(both[0].key, "often");
  EXPECT_NEAR(both[0].epoch_seconds, 1, 1e-9);
  EXPECT_NEAR(both[1].epoch_seconds, 0.1, 1e-9);
}

/// Repetitions with heavy tails (Student's t of 3 degrees) and outliers, of cases that differ in noise; each run moves all of
/// its cases together and each by itself, also with heavy tails.
class Machine {
 public:
  Machine(std::uint64_t seed, double noise, double drift) : random_(seed), noise_(noise), drift_(drift) {}

  std::vector<Timings> run(double slowdown = 1) {
    std::vector<Timings> all;
    const double together = normal_(random_) * drift_;
    for (int i = 0; i < cases; ++i) {
      const double usual = 1e-5 * std::pow(1000.0, i / double{cases}), loudness = noise_ * std::pow(4.0, i % 3 - 1.0);
      const double shift = together + drift_ * heavy_drift_(random_);
      Timings& one = all.emplace_back(timings(fmt::format("case {}", i), {}));
      for (int r = 0; r < repetitions; ++r) {
        const double outlier = uniform_(random_) < 0.05 ? exponential_(random_) : 0;
        one.seconds.push_back(usual * slowdown * std::exp(shift + loudness * heavy_(random_) + outlier));
      }
    }
    return all;
  }

  static constexpr int cases = 100, repetitions = 10;

 private:
  std::mt19937_64 random_;
  double noise_, drift_;
  std::normal_distribution<> normal_;
  std::student_t_distribution<> heavy_{3}, heavy_drift_{4};
  std::uniform_real_distribution<> uniform_;
  std::exponential_distribution<> exponential_{2};
};

/// Means of many comparisons of 100 cases: unchanged ones that are called changed, those found that were slowed down by 5%, and
/// those that fail a gate of 5% for it; the share of unchanged comparisons that fail it.
struct Rates {
  double alarms = 0, found = 0, gated = 0, gate_alarms = 0;
};

Rates rates(double noise, double drift) {
  constexpr int comparisons = 100;
  Machine machine(1, noise, drift);
  Rates mean;
  for (int i = 0; i < comparisons; ++i) {
    const std::vector<Timings> one = machine.run(), other = machine.run(), before = machine.run();
    const NoiseFloor floor(one, other);
    for (const Comparison& c : compare(before, machine.run(), floor))
      mean.alarms += (c.change == Change::slower || c.change == Change::faster) / double{comparisons};
    const std::vector<Comparison> slowed = compare(before, machine.run(1.05), floor);
    for (const Comparison& c : slowed) mean.found += (c.change == Change::slower) / double{comparisons};
    mean.gated += static_cast<double>(gate_of(slowed, 0.05).failed_by.size()) / comparisons;
    mean.gate_alarms += !gate_of(compare(before, machine.run(), floor), 0.05).passed() / double{comparisons};
  }
  return mean;
}

TEST(ComparisonTest, OnAQuietMachineAtMostOneOfAHundredIsAFalseAlarmAndNinetyFiveSlowdownsOfFivePercentAreFound) {
  const Rates r = rates(0.002, 0.002);
  EXPECT_LE(r.alarms, 1);
  EXPECT_GE(r.found, 95);
  EXPECT_GE(r.gated, 95) << "of 100 cases that are slower by 5%";
  EXPECT_LE(r.gate_alarms, 0.01) << "of comparisons";
}

TEST(ComparisonTest, WhatIsSlowerByJustTheShareFailsTheGate) {
  const std::vector before{timings("case", times(1e-3, ten))}, after{timings("case", times(1.05e-3, ten))},
      less{timings("case", times(1.04e-3, ten))};
  EXPECT_FALSE(gate_of(compare(before, after, {}, 0.05), 0.05).passed());
  EXPECT_TRUE(gate_of(compare(before, less, {}, 0.05), 0.05).passed()) << "more is excluded";
  EXPECT_TRUE(gate_of(compare(after, before, {}, 0.05), 0.05).passed());
}

TEST(ComparisonTest, OnALoudMachineAtMostOneOfAHundredIsAFalseAlarm) {
  const Rates r = rates(0.03, 0.01);
  EXPECT_LE(r.alarms, 1);
  EXPECT_LT(r.found, 95) << "this machine is not loud";
}

}  // namespace
}  // namespace microtome
