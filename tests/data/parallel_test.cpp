#include "data/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace microtome {
namespace {

TEST(ParallelTest, EveryIndexRunsOnceWhateverTheThreads) {
  for (const int threads : {0, 1, 3, 16}) {
    std::vector<std::atomic<int>> runs(1000);
    for_each_index(1000, threads, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; }, {});
    for (const std::atomic<int>& count : runs) ASSERT_EQ(count, 1);
  }
  for_each_index(0, 4, [](std::int64_t) { FAIL(); }, {});
}

TEST(ParallelTest, TheLowestFailureIsTheOneThrown) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    try {
      for_each_index(500, 4,
                     [](std::int64_t i) {
                       if (i == 100) std::this_thread::yield();
                       if (i == 100 || (i > 100 && i % 3 == 0)) throw std::runtime_error(std::to_string(i));
                     },
                     {});
      FAIL();
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "100");
    }
  }
}

TEST(ParallelTest, ProgressComesFromTheCallerAndEndsWithAll) {
  std::int64_t last = 0;
  const std::thread::id caller = std::this_thread::get_id();
  for_each_index(
      300, 2, [](std::int64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); },
      [&](std::int64_t done) {
        EXPECT_EQ(std::this_thread::get_id(), caller);
        EXPECT_GE(done, last);
        last = done;
      });
  EXPECT_EQ(last, 300);
}

}  // namespace
}  // namespace microtome
