#include "tools/tune/hyperband.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace microtome {
namespace {

/// Runs trials whose score is `judge(trial)` until there are no more.
template <class Judge>
std::vector<Trial> run(const HyperbandOptions& options, const std::vector<Dimension>& space, Judge judge) {
  std::vector<Trial> trials;
  while (std::optional<Trial> trial = next_trial(options, space, trials)) {
    trial->score = judge(*trial);
    trials.push_back(*trial);
  }
  return trials;
}

double small_rates_are_good(const Trial& trial) {
  return 1 - trial.values.at("lr");
}

TEST(HyperbandTest, TenEpochsByThirdsAreThirtyTrialsOf120Epochs) {
  const std::vector<HalvingRound> expected{{2, 0, 12, 0, 2}, {2, 1, 4, 2, 4},  {2, 2, 2, 4, 10},
                                           {1, 0, 6, 0, 4},  {1, 1, 2, 4, 10}, {0, 0, 4, 0, 10}};
  EXPECT_EQ(halving_rounds(10, 3), expected);
  int trials = 0, epochs = 0;
  for (const HalvingRound& r : expected) trials += r.trials, epochs += r.trials * (r.epochs - r.initial_epoch);
  EXPECT_EQ(trials, 30);
  EXPECT_EQ(epochs, 120);
}

TEST(HyperbandTest, EightyOneEpochsAreFiveBrackets) {
  std::map<int, int> first_rounds;
  int trials = 0, epochs = 0;
  for (const HalvingRound& r : halving_rounds(81, 3)) {
    if (r.round == 0) first_rounds[r.bracket] = r.trials;
    trials += r.trials;
    epochs += r.trials * (r.epochs - r.initial_epoch);
  }
  EXPECT_EQ(first_rounds, (std::map<int, int>{{4, 81}, {3, 34}, {2, 15}, {1, 8}, {0, 5}}));
  EXPECT_EQ(trials, 211);
  EXPECT_EQ(epochs, 1767);
}

TEST(HyperbandTest, TheBestOfARoundGoOnWithTheirValuesAndTheEarlierWinsATie) {
  const auto trials = run({.seed = 5}, parse_space("paper"), [](const Trial& t) { return t.id % 3 == 0 ? 0.9 : 0.5; });
  ASSERT_EQ(trials.size(), 30u);
  std::vector<int> parents;
  for (const Trial& t : trials) {
    if (t.round == 0) {
      EXPECT_EQ(t.parent, 0);
      continue;
    }
    const Trial& parent = trials[static_cast<std::size_t>(t.parent - 1)];
    EXPECT_EQ(parent.id, t.parent);
    EXPECT_EQ(parent.values, t.values);
    EXPECT_EQ(parent.epochs, t.initial_epoch);
    EXPECT_EQ(parent.round + 1, t.round);
    if (t.bracket == 2 && t.round == 1) parents.push_back(t.parent);
  }
  EXPECT_EQ(parents, (std::vector<int>{3, 6, 9, 12}));
}

TEST(HyperbandTest, WhatComesNextFollowsFromTheTrialsAlone) {
  const HyperbandOptions options{.iterations = 2, .seed = 3};
  const auto space = parse_space("paper-dense");
  const auto trials = run(options, space, small_rates_are_good);
  ASSERT_EQ(trials.size(), 60u);
  for (std::size_t stop = 0; stop < trials.size(); ++stop) {
    const auto next = next_trial(options, space, std::span(trials).first(stop));
    ASSERT_TRUE(next);
    EXPECT_EQ(next->values, trials[stop].values);
    EXPECT_EQ(next->parent, trials[stop].parent);
    EXPECT_EQ(next->epochs, trials[stop].epochs);
  }
  EXPECT_NE(run({.seed = 4}, space, small_rates_are_good)[1].values, trials[1].values) << "another seed";
}

TEST(HyperbandTest, AFailedTrialIsNeverPromotedAndStopsNothing) {
  const auto trials = run({.seed = 1}, parse_space("paper"), [](const Trial& t) -> std::optional<double> {
    if (t.round == 0 && t.bracket == 2 && t.id > 3) return std::nullopt;  // three of twelve are left
    return 0.5;
  });
  std::map<std::pair<int, int>, int> counts;
  for (const Trial& t : trials) {
    ++counts[{t.bracket, t.round}];
    if (t.parent > 0) {
      EXPECT_TRUE(trials[static_cast<std::size_t>(t.parent - 1)].score);
    }
  }
  EXPECT_EQ(counts, (std::map<std::pair<int, int>, int>{
                        {{2, 0}, 12}, {{2, 1}, 3}, {{2, 2}, 2}, {{1, 0}, 6}, {{1, 1}, 2}, {{0, 0}, 4}}));
}

TEST(HyperbandTest, TheStudysSpaceIsDrawnAsKerasTuner10DrawsIt) {
  const auto space = parse_space("paper-dense");
  std::map<double, int> batches, units;
  int low_rates = 0;
  constexpr int count = 4000;
  std::vector<Trial> one(1);
  for (int i = 0; i < count; ++i) {
    const Trial trial = *next_trial({.seed = static_cast<std::uint64_t>(i)}, space, one);
    ++batches[trial.values.at("batch-size")];
    ++units[trial.values.at("dense-units")];
    const double lr = trial.values.at("lr");
    EXPECT_GE(lr, 1e-5);
    EXPECT_LE(lr, 1e-2);
    low_rates += lr < std::sqrt(1e-5 * 1e-2);
  }
  const auto expect_share = [&](int found, double share) {
    EXPECT_NEAR(found, count * share, 4 * std::sqrt(count * share * (1 - share)));
  };
  ASSERT_EQ(batches.size(), 8u);
  for (const auto& [batch, found] : batches) expect_share(found, batch == 32 || batch == 256 ? 1.0 / 14 : 1.0 / 7);
  ASSERT_EQ(units.size(), 4u);
  for (const auto& [unit, found] : units) expect_share(found, 0.25);
  expect_share(low_rates, 0.5);
  for (std::uint64_t seed = 0; seed < 5; ++seed) EXPECT_EQ(next_trial({.seed = seed}, space, {})->values.at("batch-size"), 32);
}

TEST(HyperbandTest, ASpaceThatIsUsedUpEndsTheSearch) {
  const auto trials = run({.iterations = 9}, parse_space("dense-units=1|2|3"), [](const Trial&) { return 0.5; });
  std::set<double> seen;
  for (const Trial& t : trials) EXPECT_TRUE(seen.insert(t.values.at("dense-units")).second);
  EXPECT_EQ(seen.size(), 3u);
}

TEST(HyperbandTest, ASpaceThatCannotBeUnderstoodIsAUsageError) {
  for (const std::string text : {"", "lr", "lr=", "=1|2", "lr=1..2", "lr=0..1:log", "lr=2..1:log", "b=1..2:0", "b=1..2:x",
                                 "u=1||2", "u=1|x", "lr=nan|1", "u=1|2, u=3|4", "u=1|2,"}) {
    try {
      parse_space(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage) << text;
    }
  }
}

TEST(SpaceTest, NothingBeyondALimitIsDrawn) {
  const auto drawn = [](const char* text, double highest, bool expected) {
    std::vector<Dimension> space = parse_space(text);
    for (Dimension& d : space) d.whole = true;
    EXPECT_EQ(limit(space[0], highest), expected) << text;
    std::vector<Trial> trials;
    std::set<double> values;
    while (trials.size() < 60) {
      std::optional<Trial> trial = next_trial({.max_epochs = 81, .factor = 3, .iterations = 3}, space, trials);
      if (!trial) break;
      values.insert(trial->values.at(space[0].name));
      trial->score = 0.5;
      trials.push_back(*trial);
    }
    EXPECT_FALSE(values.empty()) << text;
    for (const double value : values) EXPECT_LE(value, highest) << text;
    return values;
  };
  EXPECT_EQ(drawn("batch-size=8|64|4096", 80, true), (std::set<double>{8, 64}));
  EXPECT_EQ(drawn("batch-size=8|64", 80, false), (std::set<double>{8, 64}));
  EXPECT_EQ(drawn("batch-size=16..4096:64", 80, true), (std::set<double>{16, 80}));
  EXPECT_EQ(drawn("batch-size=16..4096:64", 70, true), std::set<double>{16});
  EXPECT_GT(drawn("batch-size=16..4096:log", 80, true).size(), 3u);
  EXPECT_EQ(drawn("batch-size=16..4096:log", 16, true), std::set<double>{16});
  std::vector<Dimension> none = parse_space("batch-size=100|200");
  EXPECT_THROW(limit(none[0], 80), Error);
  none = parse_space("batch-size=100..200:log");
  EXPECT_THROW(limit(none[0], 80), Error);
}

}  // namespace
}  // namespace microtome
