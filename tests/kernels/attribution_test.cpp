// Which row and pass a piece of a device's work is for, on recorded activity records: a table each.
#include "kernels/cuda/profiling/attribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace microtome::cuda {
namespace {

using Kind = Activity::Kind;

constexpr Scope stem{"conv1_conv", Pass::forward}, filter{"conv1_conv", Pass::backward_filter}, pool{"pool1", Pass::forward};

struct Row {
  const char* name;
  std::int64_t start, end;
  GraphNode node;
  std::uint32_t correlation = 1, stream = 7;
  Kind kind = Kind::kernel;
};

Collected collected(const std::vector<Row>& rows) {
  Collected c;
  for (const Row& r : rows) {
    c.records.push_back({.activity = {.kind = r.kind, .name = r.name, .start_ns = r.start, .end_ns = r.end},
                         .stream = r.stream,
                         .correlation = r.correlation,
                         .node = r.node});
  }
  return c;
}

/// "name row pass", by start.
std::vector<std::string> said(const Recorded& recorded) {
  std::vector<std::string> lines;
  for (const Activity& a : recorded.activities) {
    lines.push_back(a.attributed ? a.name + " " + std::string(a.scope.row) + " " + std::string(name(a.scope.pass))
                                 : a.name + " ?");
    EXPECT_TRUE(a.attributed || a.scope == Scope{});
  }
  return lines;
}

using Lines = std::vector<std::string>;

/// Graph 1 as it was captured, its clone 2 as it runs, and a clone 3 of that.
GraphNodes twice_cloned() {
  GraphNodes nodes;
  nodes.created({11, 1}, stem);
  nodes.created({12, 1}, pool);
  nodes.cloned({11, 1}, {21, 2});
  nodes.cloned({12, 1}, {22, 2});
  nodes.cloned({21, 2}, {31, 3});
  nodes.cloned({22, 2}, {32, 3});
  return nodes;
}

TEST(AttributionTest, AReplayedNodeIsForWhatItWasCapturedFor) {
  const Lines seen = said(attribute(
      twice_cloned(),
      collected(
          {{"conv", 10, 20, {21, 2}}, {"pool", 20, 25, {22, 2}}, {"conv", 30, 40, {21, 2}, 2}, {"pool", 40, 45, {22, 2}, 2}})));
  EXPECT_EQ(seen, Lines({"conv conv1_conv forward", "pool pool1 forward", "conv conv1_conv forward", "pool pool1 forward"}));
}

TEST(AttributionTest, ACloneOfACloneIsForWhatTheFirstWasFor) {
  EXPECT_EQ(said(attribute(twice_cloned(), collected({{"pool", 1, 2, {32, 3}}}))), Lines({"pool pool1 forward"}));
}

TEST(AttributionTest, TheOrderOfRecordsAndOfClonesIsOfNoMatter) {
  const std::vector<Row> rows{{"conv", 10, 20, {31, 3}}, {"wait", 20, 21, {99, 3}}, {"pool", 30, 35, {32, 3}, 2, 8}};
  const Lines expected = said(attribute(twice_cloned(), collected(rows)));
  GraphNodes backwards;
  backwards.cloned({22, 2}, {32, 3});
  backwards.cloned({21, 2}, {31, 3});
  backwards.cloned({12, 1}, {22, 2});
  backwards.cloned({11, 1}, {21, 2});
  backwards.created({12, 1}, pool);
  backwards.created({11, 1}, stem);
  std::vector<Row> shuffled = rows;
  std::mt19937 random(3);
  for (int round = 0; round < 6; ++round) {
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    EXPECT_EQ(said(attribute(backwards, collected(shuffled))), expected);
  }
  EXPECT_EQ(expected, Lines({"conv conv1_conv forward", "wait ?", "pool pool1 forward"}));
}

TEST(AttributionTest, WhatWasBeingDoneWhenACloneWasMadeIsNotWhatItIsFor) {
  GraphNodes nodes = twice_cloned();
  nodes.created({21, 2}, filter);
  EXPECT_EQ(said(attribute(nodes, collected({{"conv", 1, 2, {21, 2}}}))), Lines({"conv conv1_conv forward"}));
}

TEST(AttributionTest, GraphsThatUseTheSameNumbersAreKeptApart) {
  GraphNodes nodes;
  nodes.created({5, 1}, stem);
  nodes.created({5, 2}, filter);
  nodes.created({6, 1}, pool);
  nodes.created({6, 2}, pool);
  const Recorded recorded = attribute(
      nodes, collected({{"a", 1, 2, {5, 1}}, {"b", 2, 3, {5, 2}}, {"disputed", 3, 4, {5, 9}}, {"agreed", 4, 5, {6, 9}}}));
  EXPECT_EQ(said(recorded),
            Lines({"a conv1_conv forward", "b conv1_conv backward_filter", "disputed ?", "agreed pool1 forward"}));
}

TEST(AttributionTest, ANodeNobodyKnowsIsForNobody) {
  EXPECT_EQ(said(attribute(twice_cloned(), collected({{"early", 1, 2, {71, 7}}}))), Lines({"early ?"}));
}

TEST(AttributionTest, ACircleOfClonesEnds) {
  GraphNodes nodes;
  nodes.cloned({1, 1}, {2, 1});
  nodes.cloned({2, 1}, {1, 1});
  EXPECT_EQ(said(attribute(nodes, collected({{"kernel", 1, 2, {1, 1}}}))), Lines({"kernel ?"}));
}

TEST(AttributionTest, WorkOutsideOfGraphsIsForWhatItsCallWasMadeFor) {
  Collected eager = collected({{"conv", 1, 2, {}, 4}, {"reduce", 2, 3, {}, 4}, {"pool", 3, 4, {}, 5}, {"other", 4, 5, {}, 6}});
  eager.launched_for = {{4, filter}, {5, pool}};
  EXPECT_EQ(said(attribute({}, std::move(eager))),
            Lines({"conv conv1_conv backward_filter", "reduce conv1_conv backward_filter", "pool pool1 forward", "other ?"}));
}

TEST(AttributionTest, ANodeKnowsBetterThanTheLaunchOfItsGraph) {
  Collected replay = collected({{"conv", 1, 2, {21, 2}, 4}, {"unseen", 2, 3, {71, 7}, 4}});
  replay.launched_for = {{4, filter}};
  EXPECT_EQ(said(attribute(twice_cloned(), std::move(replay))),
            Lines({"conv conv1_conv forward", "unseen conv1_conv backward_filter"}));
}

TEST(AttributionTest, CopiesAndFillsInGraphsAreSomebodysToo) {
  Collected c = collected({{"", 1, 2, {21, 2}, 1, 7, Kind::copy}, {"", 2, 3, {22, 2}, 1, 7, Kind::fill}});
  c.records[0].activity.bytes = 512;
  const Recorded recorded = attribute(twice_cloned(), std::move(c));
  ASSERT_EQ(said(recorded), Lines({" conv1_conv forward", " pool1 forward"}));
  EXPECT_EQ(recorded.activities[0].kind, Kind::copy);
  EXPECT_EQ(recorded.activities[0].bytes, 512u);
  EXPECT_EQ(recorded.activities[1].kind, Kind::fill);
}

TEST(AttributionTest, RecordsWithoutTimesAreLeftOutAndSaidToBe) {
  Collected c = collected({{"conv", 10, 20, {21, 2}}, {"running", 15, 0, {22, 2}}, {"lost", 0, 0, {22, 2}}});
  c.dropped = 3;
  const Recorded recorded = attribute(twice_cloned(), std::move(c));
  EXPECT_EQ(said(recorded), Lines({"conv conv1_conv forward"}));
  EXPECT_EQ(recorded.dropped, 5u);
  EXPECT_EQ(recorded.note, "2 records came without times");
}

TEST(AttributionTest, ACompleteTraceHasNoNote) {
  const Recorded recorded = attribute(twice_cloned(), collected({{"conv", 10, 20, {21, 2}}}));
  EXPECT_EQ(recorded.dropped, 0u);
  EXPECT_EQ(recorded.note, "");
}

TEST(AttributionTest, ARecordThatCameTwiceCountsOnce) {
  const Recorded recorded = attribute(twice_cloned(), collected({{"conv", 10, 20, {21, 2}},
                                                                 {"conv", 10, 20, {22, 2}},        // another node
                                                                 {"conv", 10, 20, {21, 2}, 1, 8},  // another stream
                                                                 {"conv", 10, 20, {21, 2}},
                                                                 {"conv", 10, 20, {21, 2}, 2}}));  // another launch
  EXPECT_EQ(recorded.activities.size(), 4u);
}

TEST(AttributionTest, StreamsAreNumberedAsTheyAreMet) {
  const Recorded recorded = attribute(
      {}, collected({{"c", 30, 40, {}, 1, 21}, {"a", 10, 20, {}, 1, 44}, {"b", 20, 30, {}, 1, 7}, {"d", 40, 50, {}, 1, 44}}));
  std::vector<int> streams;
  for (const Activity& a : recorded.activities) streams.push_back(a.stream);
  EXPECT_EQ(streams, std::vector<int>({0, 1, 2, 0}));
}

TEST(AttributionTest, KernelsHaveTheirNamesAsWritten) {
  const Recorded recorded = attribute({}, collected({{"_ZN9microtome4cuda11add_forwardIfEEvPKT_PS2_i", 1, 2},
                                                     {"f", 2, 3},  // C's, and C++'s for float
                                                     {"sm90_xmma_gemm", 3, 4}}));
  std::vector<std::string> names;
  for (const Activity& a : recorded.activities) names.push_back(a.name);
  EXPECT_EQ(names, Lines({"void microtome::cuda::add_forward<float>(float const*, float*, int)", "f", "sm90_xmma_gemm"}));
}

}  // namespace
}  // namespace microtome::cuda
