#include "engine/shape.h"

#include "engine/check.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

/// Places where a kernel fits, counted one by one.
int places(int padded, int kernel, int stride) {
  int count = 0;
  for (int first = 0; first + kernel <= padded; first += stride) ++count;
  return count;
}

TEST(ShapeTest, OutputIsTheNumberOfPlacesWhereTheKernelFits) {
  for (int n = 1; n <= 12; ++n)
    for (int k = 1; k <= 5; ++k)
      for (int s = 1; s <= 3; ++s)
        for (int before = 0; before <= 2; ++before)
          for (int after = 0; after <= 2; ++after) {
            if (n + before + after < k) continue;
            const Window window{.kernel = k, .stride = s, .before = before, .after = after};
            const Shape y = window.output({2, n, n + 1, 3}, 7);
            EXPECT_EQ(y, (Shape{2, places(n + before + after, k, s), places(n + 1 + before + after, k, s), 7}));
          }
}

TEST(ShapeTest, SameKeepsCeilOfSizeOverStrideAndPutsTheOddCellAfter) {
  for (int n = 1; n <= 20; ++n)
    for (int k = 1; k <= 7; ++k)
      for (int s = 1; s <= 3; ++s) {
        const Window window = resolve({1, n, n, 1}, k, s, same);
        EXPECT_EQ(window.output({1, n, n, 1}, 1).h, (n + s - 1) / s) << n << " " << k << " " << s;
        EXPECT_GE(window.after.h, window.before.h);
        EXPECT_LE(window.after.h - window.before.h, 1);
      }
}

TEST(ShapeTest, SameOfKerasForTheKernelsOfTheStudy) {  // keras: 3/2 pads (0, 1) on even sizes, (1, 1) on odd; 5/1 pads (2, 2)
  EXPECT_EQ(resolve({1, 96, 96, 3}, 3, 2, same), (Window{3, 2, 0, 1}));
  EXPECT_EQ(resolve({1, 25, 25, 3}, 3, 2, same), (Window{3, 2, 1, 1}));
  EXPECT_EQ(resolve({1, 96, 96, 3}, 5, 1, same), (Window{5, 1, 2, 2}));
  EXPECT_EQ(resolve({1, 9, 9, 3}, {1, 7}, 1, same), (Window{{1, 7}, 1, {0, 3}, {0, 3}}));
}

TEST(ShapeTest, AnImageSmallerThanTheKernelSaysWhatWouldFit) {
  try {
    Window{.kernel = 3, .stride = 2}.output({1, 2, 5, 1}, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_EQ(error.report().expected, "at least 3x3 here");
    EXPECT_EQ(error.report().found, "2x5");
  }
}

}  // namespace
}  // namespace microtome
