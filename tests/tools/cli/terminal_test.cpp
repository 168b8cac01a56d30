#include "tools/cli/terminal.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

TEST(TerminalTest, SaysMoreOrLessAsItIsTold) {
  const auto said = [](Verbosity verbosity) {
    testing::internal::CaptureStderr();
    Terminal terminal(verbosity);
    terminal.say("one {}", 1);
    terminal.say_more("two {}", 2);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(said(Verbosity::quiet), "");
  EXPECT_EQ(said(Verbosity::normal), "one 1\n");
  EXPECT_EQ(said(Verbosity::verbose), "one 1\ntwo 2\n");
}

TEST(TerminalTest, NumbersReadEasily) {
  EXPECT_EQ(with_separators(0), "0");
  EXPECT_EQ(with_separators(999), "999");
  EXPECT_EQ(with_separators(1000), "1,000");
  EXPECT_EQ(with_separators(262144), "262,144");
  EXPECT_EQ(with_separators(-1234567), "-1,234,567");
}

TEST(TerminalTest, DurationsGrowWithTheirUnits) {
  EXPECT_EQ(duration(0.84), "0.8 s");
  EXPECT_EQ(duration(59.4), "59 s");
  EXPECT_EQ(duration(59.6), "1:00");
  EXPECT_EQ(duration(185), "3:05");
  EXPECT_EQ(duration(7385), "2:03:05");
}

TEST(TerminalTest, SizesAreBinary) {
  EXPECT_EQ(size_text(1023), "1023 B");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text(std::size_t{143} << 30), "143.0 GiB");
}

TEST(TerminalTest, ImagesAreCountedByClass) {
  const Images images{.shape = {3, 50, 48, 3}, .pixels = {}, .labels = {1, 0, 1}, .ids = {}};
  EXPECT_EQ(describe_images(images), "3 images of 50x48, 1 of class 0 and 2 of class 1");
}

}  // namespace
}  // namespace microtome
