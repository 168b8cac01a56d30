#include "engine/nearest.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

TEST(NearestTest, DistanceCountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(edit_distance("epochs", "epochs"), 0);
  EXPECT_EQ(edit_distance("epoch", "epochs"), 1);
  EXPECT_EQ(edit_distance("epochss", "epochs"), 1);
  EXPECT_EQ(edit_distance("epoths", "epochs"), 1);
  EXPECT_EQ(edit_distance("epohcs", "epochs"), 1);
  EXPECT_EQ(edit_distance("", "seed"), 4);
}

TEST(NearestTest, FindsTheNearestAndNothingWhereAllAreFar) {
  EXPECT_EQ(nearest("resnet", {"b2", "resnet50", "mobilenet"}), "resnet50");
  EXPECT_EQ(nearest("xyzzy", {"b2", "resnet50"}), "");
}

}  // namespace
}  // namespace microtome
