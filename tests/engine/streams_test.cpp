#include "engine/streams.h"

#include "engine/random.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/concat.h"
#include "layers/conv.h"

#include <gtest/gtest.h>

#include <functional>

namespace microtome {
namespace {

std::vector<PlannedOp> lowered(const std::function<Node(Node)>& stages) {
  Graph graph;
  graph.output(stages(graph.input(8)));
  return lower(graph, {});
}

TEST(ScheduleTest, AChainStaysInOneStream) {
  const auto ops = lowered([](Node x) { return x | conv(4, 3) | relu() | conv(4, 3) | relu(); });
  EXPECT_EQ(assign_streams(ops, 4), std::vector<int>(ops.size(), 0));
}

TEST(ScheduleTest, BranchesLieInStreamsOfTheirOwn) {
  const auto ops = lowered([](Node x) {
    const Node y = x | conv(4, 1);
    return concat({y | conv(2, 1) | conv(2, 1), y | conv(2, 1) | conv(2, 1), y | conv(2, 1)}) | conv(4, 1);
  });
  // Image, y, the three branches, the concat, and its reader, which goes on where the last branch ended.
  EXPECT_EQ(assign_streams(ops, 4), (std::vector{0, 0, 0, 0, 1, 1, 2, 0, 2}));
  EXPECT_EQ(assign_streams(ops, 1), std::vector<int>(ops.size(), 0));
}

TEST(ScheduleTest, SlicesOfOnePieceAreApartAndPiecesAreByTheirBytes) {
  const Access slice{.piece = 1, .first = 0, .last = 1000, .begin = 0, .end = 8, .writes = true};
  Access other = slice;
  other.begin = 8, other.end = 16;
  EXPECT_FALSE(slice.conflicts(other));
  other.begin = 4;
  EXPECT_TRUE(slice.conflicts(other));
  other.piece = 2;
  EXPECT_TRUE(slice.conflicts(other));
  other.first = 1000, other.last = 2000;
  EXPECT_FALSE(slice.conflicts(other));
  Access reader = slice;
  reader.writes = false;
  EXPECT_TRUE(slice.conflicts(reader));
  EXPECT_FALSE(reader.conflicts(reader));
}

TEST(ScheduleTest, EveryConflictIsOrderedAndNoWaitIsImpliedByAnother) {
  constexpr int streams = 3;
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    std::uint64_t drawn = 0;
    const auto draw = [&](int below) { return static_cast<int>(random_word(trial, 7, drawn++) % below); };
    std::vector<Task> tasks(1 + draw(40));
    for (Task& task : tasks) {
      task.stream = draw(streams);
      for (int i = draw(4); i > 0; --i) {
        const auto first = static_cast<std::size_t>(draw(30));
        task.accesses.push_back({.piece = draw(12), .first = first, .last = first + 3, .end = 1, .writes = draw(2) == 0});
      }
    }
    const auto all = waits(tasks, streams);
    // before[t]: the tasks that are done when t begins, by its stream and by waits, but for the wait number `without`.
    const auto before = [&](int task, std::size_t without) {
      std::vector<bool> done(tasks.size());
      const std::function<void(int, std::size_t)> add = [&](int t, std::size_t skipped) {
        std::vector<int> direct;
        for (int earlier = t - 1; earlier >= 0 && direct.empty(); --earlier)
          if (tasks[earlier].stream == tasks[t].stream) direct.push_back(earlier);
        for (std::size_t k = 0; k < all[t].size(); ++k)
          if (k != skipped) direct.push_back(all[t][k]);
        for (const int d : direct) {
          if (done[d]) continue;
          done[d] = true;
          add(d, all[d].size());
        }
      };
      add(task, without);
      return done;
    };
    for (int t = 0; t < static_cast<int>(tasks.size()); ++t) {
      const std::vector<bool> done = before(t, all[t].size());
      for (int earlier = 0; earlier < t; ++earlier)
        for (const Access& a : tasks[earlier].accesses)
          for (const Access& b : tasks[t].accesses) {
            ASSERT_TRUE(done[earlier] || !a.conflicts(b)) << "trial " << trial << ": " << earlier << " and " << t;
          }
      for (std::size_t k = 0; k < all[t].size(); ++k) {
        EXPECT_NE(tasks[all[t][k]].stream, tasks[t].stream);
        EXPECT_FALSE(before(t, k)[all[t][k]]) << "trial " << trial << ": " << t << " need not wait for " << all[t][k];
      }
    }
  }
}

}  // namespace
}  // namespace microtome
