#include "engine/ledger.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace microtome {
namespace {

Activity op(std::string_view row, Pass pass, std::int64_t start, std::int64_t end, int stream = 0) {
  return {.start_ns = start, .end_ns = end, .attributed = true, .scope = {row, pass}, .stream = stream};
}

Activity kernel(std::string name, std::string_view row, Pass pass, std::int64_t start, std::int64_t end, int stream = 0) {
  Activity activity = op(row, pass, start, end, stream);
  activity.kind = Activity::Kind::kernel;
  activity.name = std::move(name);
  return activity;
}

/// Whatever was recorded, every nanosecond is in one row, and in one only.
void expect_whole(const Ledger& l) {
  EXPECT_DOUBLE_EQ(l.busy_ns + l.within_ns + l.ends_ns, l.total_ns);
  double shares = l.unattributed_ns, sums = 0;
  for (const auto& [key, spent] : l.scopes) shares += spent.share_ns, sums += spent.sum_ns;
  EXPECT_DOUBLE_EQ(shares, l.busy_ns);
  if (l.unattributed_ns == 0) {
    EXPECT_DOUBLE_EQ(sums, l.busy_ns + l.overlap_ns);
  }
}

double share(const Ledger& l, std::string_view row, Pass pass) {
  const auto found = l.scopes.find({row, pass});
  return found == l.scopes.end() ? -1 : found->second.share_ns;
}

TEST(LedgerTest, WorkInOneStreamLeavesGapsAtTheEndsAndWithin) {
  const Ledger l = ledger(
      {.activities = {op("a", Pass::forward, 110, 140), op("b", Pass::forward, 150, 190)}, .start_ns = 100, .end_ns = 200});
  expect_whole(l);
  EXPECT_EQ(l.total_ns, 100);
  EXPECT_EQ(l.busy_ns, 70);
  EXPECT_EQ(l.within_ns, 10);
  EXPECT_EQ(l.ends_ns, 10 + 10);
  EXPECT_EQ(l.overlap_ns, 0);
  EXPECT_EQ(share(l, "b", Pass::forward), 40);
}

TEST(LedgerTest, WorkSideBySideSharesTheTimeThatItTakesTogether) {
  //  a  ====----====      10..50 alone to 30, with b to 50
  //  b      ========      30..70
  //  c          ==        40..50, three at once
  const Ledger l = ledger({.activities = {op("a", Pass::backward_data, 10, 50), op("b", Pass::backward_filter, 30, 70, 1),
                                          op("c", Pass::forward, 40, 50, 2)},
                           .start_ns = 10,
                           .end_ns = 70});
  expect_whole(l);
  EXPECT_EQ(l.busy_ns, 60);
  EXPECT_EQ(l.overlap_ns, 40 + 40 + 10 - 60);
  EXPECT_DOUBLE_EQ(share(l, "a", Pass::backward_data), 20 + 5 + 10 / 3.0);
  EXPECT_DOUBLE_EQ(share(l, "b", Pass::backward_filter), 5 + 10 / 3.0 + 20);
  EXPECT_DOUBLE_EQ(share(l, "c", Pass::forward), 10 / 3.0);
  EXPECT_EQ(l.scopes.at({"a", Pass::backward_data}).sum_ns, 40);
}

TEST(LedgerTest, TheOrderOfTheRecordsChangesNothing) {
  Recorded recorded{.activities = {op("a", Pass::forward, 0, 10), op("b", Pass::forward, 5, 9, 1),
                                   op("a", Pass::backward, 20, 31), op("c", Pass::update, 31, 31)},
                    .start_ns = 0,
                    .end_ns = 40};
  const Ledger sorted = ledger(recorded);
  do {
    std::next_permutation(recorded.activities.begin(), recorded.activities.end(),
                          [](const Activity& a, const Activity& b) { return a.start_ns < b.start_ns; });
    const Ledger l = ledger(recorded);
    expect_whole(l);
    EXPECT_EQ(l.within_ns, sorted.within_ns);
    EXPECT_EQ(l.ends_ns, sorted.ends_ns);
    for (const auto& [key, spent] : sorted.scopes) EXPECT_EQ(share(l, key.first, key.second), spent.share_ns) << key.first;
  } while (!std::is_sorted(recorded.activities.begin(), recorded.activities.end(),
                           [](const Activity& a, const Activity& b) { return a.start_ns < b.start_ns; }));
}

TEST(LedgerTest, PiecesOfNoLengthAreCountedAndTakeNothing) {
  const Ledger l =
      ledger({.activities = {op("a", Pass::forward, 10, 10), op("b", Pass::forward, 10, 20), op("c", Pass::forward, 20, 20)},
              .start_ns = 0,
              .end_ns = 20});
  expect_whole(l);
  EXPECT_EQ(l.ends_ns, 10);
  EXPECT_EQ(share(l, "a", Pass::forward), 0);
  EXPECT_EQ(share(l, "b", Pass::forward), 10);
  EXPECT_EQ(l.scopes.at({"c", Pass::forward}).pieces, 1);
}

TEST(LedgerTest, WorkWithoutAScopeIsNamedAsSuch) {
  Activity nameless{.kind = Activity::Kind::kernel, .name = "memset", .start_ns = 10, .end_ns = 30};
  const Ledger l = ledger({.activities = {op("a", Pass::forward, 0, 10), nameless}, .start_ns = 0, .end_ns = 30});
  expect_whole(l);
  EXPECT_EQ(l.unattributed_ns, 20);
  EXPECT_EQ(l.scopes.size(), 1u);
  EXPECT_TRUE(l.kernels.at("memset").scopes.empty());
}

TEST(LedgerTest, ARecordWithoutAnEndIsCountedAndNotTimed) {
  const Ledger l =
      ledger({.activities = {op("a", Pass::forward, 10, 0), op("b", Pass::forward, 20, 30)}, .start_ns = 0, .end_ns = 40});
  expect_whole(l);
  EXPECT_EQ(l.unfinished, 1);
  EXPECT_EQ(share(l, "a", Pass::forward), 0);
  EXPECT_EQ(l.busy_ns, 10);
}

TEST(LedgerTest, WhatLiesOutsideOfTheRecordingIsCutOff) {
  const Ledger l = ledger(
      {.activities = {op("a", Pass::forward, -50, 10), op("b", Pass::forward, 90, 170), op("c", Pass::forward, 200, 300)},
       .start_ns = 0,
       .end_ns = 100});
  expect_whole(l);
  EXPECT_EQ(l.busy_ns, 20);
  EXPECT_EQ(share(l, "c", Pass::forward), 0);
}

TEST(LedgerTest, KernelsOfOneNameAreOneWithAllTheirScopes) {
  Activity last = kernel("gemm", "b", Pass::backward_data, 20, 50);
  last.launch.registers = 168;
  Activity copy{.kind = Activity::Kind::copy, .start_ns = 60, .end_ns = 61, .attributed = true, .scope = {"", Pass::input}};
  const Ledger l = ledger({.activities = {kernel("gemm", "a", Pass::forward, 0, 20), last, copy}, .start_ns = 0, .end_ns = 61});
  const KernelSpent& gemm = l.kernels.at("gemm");
  EXPECT_EQ(gemm.sum_ns, 50);
  EXPECT_EQ(gemm.pieces, 2);
  EXPECT_EQ(gemm.launch.registers, 168u);
  EXPECT_EQ(gemm.scopes, (std::set<ScopeKey>{{"a", Pass::forward}, {"b", Pass::backward_data}}));
  EXPECT_EQ(l.kernels.at("(copy)").sum_ns, 1);
}

TEST(LedgerTest, NothingRecordedIsAllGap) {
  const Ledger l = ledger({.start_ns = 5, .end_ns = 25});
  expect_whole(l);
  EXPECT_EQ(l.ends_ns, 20);
}

TEST(SplitStepsTest, StepsBeginWithTheInputThatFollowsAnAdvanceAndTileTheRecording) {
  // Out of order; the input of each step is two pieces, and between steps the device is idle.
  Recorded recorded{.activities = {op("", Pass::advance, 150, 160), op("", Pass::input, 10, 20), op("", Pass::input, 20, 22, 1),
                                   op("a", Pass::forward, 22, 60), op("", Pass::advance, 60, 62), op("", Pass::input, 100, 110),
                                   op("", Pass::input, 110, 112), op("a", Pass::forward, 112, 150)},
                    .start_ns = 0,
                    .end_ns = 200,
                    .dropped = 3,
                    .note = "partial"};
  const std::vector<Recorded> steps = split_steps(recorded);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].start_ns, 0);
  EXPECT_EQ(steps[0].end_ns, 100);
  EXPECT_EQ(steps[1].start_ns, 100);
  EXPECT_EQ(steps[1].end_ns, 200);
  EXPECT_EQ(steps[0].activities.size(), 4u);
  EXPECT_EQ(steps[1].activities.size(), 4u);
  EXPECT_EQ(steps[0].dropped, 3u);
  EXPECT_EQ(steps[1].dropped, 0u);
  EXPECT_EQ(steps[0].note, "partial");
  const Ledger whole = ledger(recorded), first = ledger(steps[0]), second = ledger(steps[1]);
  EXPECT_EQ(first.busy_ns + second.busy_ns, whole.busy_ns);
  EXPECT_EQ(first.total_ns + second.total_ns, whole.total_ns);
}

}  // namespace
}  // namespace microtome
