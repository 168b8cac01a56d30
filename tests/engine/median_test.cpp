#include "engine/median.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

TEST(MedianTest, IsTheMiddleOfAnOddNumber) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 4}), 4);
  EXPECT_EQ(median({5, 5, 0, 5, 100}), 5);
}

TEST(MedianTest, IsTheMeanOfTheMiddleTwoOfAnEvenNumber) {
  EXPECT_EQ(median({4, 1}), 2.5);
  EXPECT_EQ(median({8, -1, 2, 100}), 5);
}

TEST(MedianTest, OfNothingIsZero) {
  EXPECT_EQ(median({}), 0);
}

}  // namespace
}  // namespace microtome
