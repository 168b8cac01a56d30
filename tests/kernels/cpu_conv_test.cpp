// Which of the CPU's convolutions are its own: that they are right, conv_test.cpp says of whatever runs.
#include "kernels/backend.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace microtome::test {
namespace {

std::string passes_of(const Shape& x, int filters, const Padding& padding, int kernel, int stride = 1, int groups = 1) {
  const auto backend = make_backend("cpu", Precision::f32);
  const Window window = resolve(x, kernel, stride, padding);
  const DType type = backend->activation_type();
  return backend->conv({window, groups, true}, {x, type}, {window.output(x, filters), type})->describe();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr const char winograd[] = "own: F(2x2, 3x3)";

TEST(CpuConvTest, WinogradServesThreeByThreeInAllPasses) {
  for (const Padding& padding : {valid, same})
    EXPECT_EQ(passes_of({2, 26, 27, 32}, 64, padding, 3),
              fmt::format("forward {0}, backward_data {0}, backward_filter {0}", winograd));
}

TEST(CpuConvTest, WinogradLeavesOutWhatItCannotOrWhatDoesNotPay) {
  EXPECT_FALSE(contains(passes_of({2, 26, 27, 32}, 64, same, 5), winograd));
  EXPECT_FALSE(contains(passes_of({2, 26, 27, 32}, 64, same, 3, 2), winograd));
  EXPECT_FALSE(contains(passes_of({2, 26, 27, 32}, 64, same, 3, 1, 2), winograd));
  EXPECT_FALSE(contains(passes_of({2, 26, 27, 3}, 64, same, 3), winograd));
  EXPECT_FALSE(contains(passes_of({2, 1, 1, 32}, 64, same, 3), winograd)) << "three quarters of a tile would be in vain";
}

TEST(CpuConvTest, FilterGradientServesWindowsOverLargeImages) {
  for (const int channels : {3, 32})
    EXPECT_TRUE(passes_of({2, 48, 48, channels}, 64, same, 5).ends_with("backward_filter own"));
  EXPECT_TRUE(passes_of({2, 96, 96, 3}, 32, same, 3, 2).ends_with("backward_filter own"));
  EXPECT_FALSE(passes_of({2, 20, 20, 32}, 64, same, 5).ends_with("backward_filter own")) << "too few positions";
  EXPECT_FALSE(passes_of({2, 48, 48, 32}, 64, same, 1).ends_with("backward_filter own")) << "a product of matrices";
  EXPECT_FALSE(passes_of({2, 48, 48, 32}, 64, same, 3, 1, 2).ends_with("backward_filter own")) << "groups";
}

}  // namespace
}  // namespace microtome::test
