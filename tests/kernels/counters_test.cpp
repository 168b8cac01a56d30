// Counters by row and pass, of a device that is played: which ranges are counted when, and what becomes of their values.
#include "kernels/cuda/profiling/counters.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace microtome::cuda {
namespace {

constexpr Scope stem{"conv1_conv", Pass::forward}, filter{"conv1_conv", Pass::backward_filter}, update{"", Pass::update};
constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

/// Says what it was told, and that a range's values are what `values` has by its number.
struct Played final : RangeCounter {
  Played(int most, int of, std::vector<CountedRange>& ranges, std::string& told)
      : most_(most), of_(of), ranges_(ranges), said(told) {}

  int most_ranges() const override { return most_; }
  int passes() const override { return of_; }
  void open(int ranges) override {
    said += " open" + std::to_string(ranges);
    window_.clear();
  }
  void start() override { said += " ("; }
  void push(int number) override {
    said += std::to_string(number);
    if (window_.empty() || window_.back() < number) window_.push_back(number);
  }
  void pop() override { said += "."; }
  void stop() override { said += ")"; }
  std::vector<CountedRange> read() override {
    said += " read";
    std::vector<CountedRange> read;
    for (auto number = window_.rbegin(); number != window_.rend(); ++number)  // in any order
      read.push_back(ranges_.at(static_cast<std::size_t>(*number)));
    return read;
  }

  int most_, of_;
  std::vector<CountedRange>& ranges_;
  std::string& said;
  std::vector<int> window_;
};

struct CountersTest : testing::Test {
  std::unique_ptr<CudaCounters> make(int most, int passes, const std::vector<std::string>& metrics) {
    return std::make_unique<CudaCounters>(slot, std::make_unique<Played>(most, passes, ranges, said), metrics);
  }
  void step(Counters& counters, const std::vector<Scope>& scopes) {
    counters.start();
    for (const Scope& scope : scopes) slot->enter(scope), slot->leave();
    counters.stop();
  }

  ScopeListener* slot = nullptr;
  std::vector<CountedRange> ranges;
  std::string said;
};

TEST_F(CountersTest, AStepIsHeardOnceAndThenRunOnceForEachPassOfEachWindow) {
  ranges = {{0, 1, {1}}, {1, 1, {2}}, {2, 1, {4}}};
  const auto counters = make(2, 3, {"dram__bytes.sum"});
  EXPECT_EQ(counters->steps(), 1) << "nothing is known yet";
  step(*counters, {stem, filter, update});
  EXPECT_EQ(said, "") << "the first is only heard";
  ASSERT_EQ(counters->steps(), 1 + 2 * 3) << "three ranges in windows of two";
  while (said.size() < 1000 && std::count(said.begin(), said.end(), ')') < 6) step(*counters, {stem, filter, update});
  EXPECT_EQ(said, " open2 (0.1.) (0.1.) (0.1.) read open1 (2.) (2.) (2.) read");
  EXPECT_EQ(counters->values().size(), 3u);
  EXPECT_EQ(counters->values().at({"", Pass::update}), std::vector{4.0});
  EXPECT_THROW(counters->start(), Error) << "all has been counted";
}

TEST_F(CountersTest, SumsAddUpAndSharesAreMeansOverTime) {
  ranges = {{0, 30, {100, 80, 7}}, {1, 10, {50, 40, 3}}, {2, 5, {8, 1, 1}}};
  const auto counters = make(
      100, 1, {"dram__bytes.sum", "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed", "sm__cycles_elapsed.avg"});
  for (int i = 0; i < 2; ++i) step(*counters, {stem, stem, update});
  EXPECT_EQ(counters->values().at({"conv1_conv", Pass::forward}), (std::vector{150.0, (30 * 80 + 10 * 40) / 40.0, 10.0}));
  EXPECT_EQ(counters->values().at({"", Pass::update}), (std::vector{8.0, 1.0, 1.0}));
}

TEST_F(CountersTest, ARangeWithoutAKernelSaysNothing) {
  ranges = {{0, 0, {0, nothing}}, {1, 10, {nothing, 30}}};
  const auto counters = make(100, 1, {"dram__bytes.sum", "sm__throughput.avg.pct_of_peak_sustained_elapsed"});
  for (int i = 0; i < 2; ++i) step(*counters, {stem, filter});
  const auto values = counters->values();
  EXPECT_EQ(values.at({"conv1_conv", Pass::forward})[0], 0);
  EXPECT_TRUE(std::isnan(values.at({"conv1_conv", Pass::forward})[1]));
  EXPECT_TRUE(std::isnan(values.at({"conv1_conv", Pass::backward_filter})[0]));
  EXPECT_EQ(values.at({"conv1_conv", Pass::backward_filter})[1], 30);
}

TEST_F(CountersTest, BetweenStepsNothingIsCounted) {
  ranges = {{0, 1, {1}}};
  const auto counters = make(10, 1, {"dram__bytes.sum"});
  step(*counters, {stem});
  slot->enter(filter), slot->leave();
  EXPECT_EQ(counters->steps(), 2);
  step(*counters, {stem});
  EXPECT_EQ(said, " open1 (0.) read");
}

TEST_F(CountersTest, AnotherStepIsRefused) {
  ranges = {{0, 1, {1}}};
  const auto counters = make(10, 2, {"dram__bytes.sum"});
  step(*counters, {stem});
  counters->start();
  EXPECT_THROW(counters->stop(), Error) << "it lacks a range";
  EXPECT_THROW(slot->enter(filter), Error);
}

TEST_F(CountersTest, TheSlotIsTheirsAloneForAsLongAsTheyLive) {
  {
    const auto counters = make(10, 1, {"dram__bytes.sum"});
    EXPECT_EQ(slot, counters.get());
    EXPECT_THROW(make(10, 1, {"dram__bytes.sum"}), Error);
    EXPECT_EQ(slot, counters.get());
  }
  EXPECT_EQ(slot, nullptr);
}

}  // namespace
}  // namespace microtome::cuda
