#include "engine/check.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

TEST(CheckTest, RequireNamesItsOwnPlace) {
  try {
    require(2 < 1, "conv: groups ", 3, " must divide channels ", 8);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "conv: groups 3 must divide channels 8");
    EXPECT_EQ(error.code(), ExitCode::bug);
    EXPECT_NE(to_text(error, "train").find("check_test.cpp:"), std::string::npos);
  }
}

TEST(CheckTest, AUsersErrorHasNoSourceLineAndNoEmptyLines) {
  try {
    fail(ExitCode::data, "training images have the wrong shape", {.where = "x.h5", .next = "re-save it channels-last"});
  } catch (const Error& error) {
    EXPECT_EQ(to_text(error, "train"),
              "train: error: training images have the wrong shape\n"
              "  where:    x.h5\n"
              "  next:     re-save it channels-last\n");
  }
}

TEST(CheckTest, NamesOfFilesBreakNoLine) {
  try {
    fail(ExitCode::data, "no \n", {.where = "a\nb/\x1b[31m\tc", .found = "d\x7f, é"});
  } catch (const Error& error) {
    EXPECT_EQ(to_text(error, "train"),
              "train: error: no \\n\n"
              "  where:    a\\nb/\\x1b[31m\\tc\n"
              "  found:    d\\x7f, é\n");
  }
}

TEST(CheckTest, UnwindingAddsTheOuterPlaceInFront) {
  try {
    fail(ExitCode::machine, "no plan", {.where = "cudnn"});
  } catch (Error& error) {
    EXPECT_EQ(error.within("row conv2d").report().where, "row conv2d, cudnn");
  }
}

}  // namespace
}  // namespace microtome
