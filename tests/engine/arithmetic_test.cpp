// How the compiler was told to round, outside kernels/cpu.
#include <gtest/gtest.h>

namespace microtome {
namespace {

template <class T>
T product_and_sum(T a, T b, T c) {
  const volatile T known_at_run_time[] = {a, b, c};
  return known_at_run_time[0] * known_at_run_time[1] + known_at_run_time[2];
}

// x² is 1 + 2e + e² for x = 1 + e; e² is half a unit in the last place, which rounding to even drops. One instruction for both
// would keep it.
TEST(ArithmeticTest, AProductIsRoundedBeforeItIsAdded) {
  constexpr float x = 1 + 0x1p-12f, square = 1 + 0x1p-11f;
  EXPECT_EQ(product_and_sum(x, x, -square), 0.0f);
  constexpr double y = 1 + 0x1p-27, its_square = 1 + 0x1p-26;
  EXPECT_EQ(product_and_sum(y, y, -its_square), 0.0);
}

}  // namespace
}  // namespace microtome
