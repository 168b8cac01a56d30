// Known answers: Random123's kat_vectors, philox4x32 with 10 rounds [Salmon2011].
#include "engine/random.h"

#include <gtest/gtest.h>

#include <set>

namespace microtome {
namespace {

using Words = std::array<std::uint32_t, 4>;

constexpr std::uint64_t ones = ~std::uint64_t{0};

static_assert(philox(0, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, "usable at compile time");

TEST(RandomTest, PhiloxReproducesTheKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(ones, ones, ones), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0: the digits of pi, low word first.
  EXPECT_EQ(philox(0x299f31d0'a4093822, 0x03707344'13198a2e, 0x85a308d3'243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, FourNeighboursShareOneCounter) {
  for (std::uint64_t element = 0; element < 8; ++element) {
    EXPECT_EQ(random_word(3, 5, element), philox(3, 5, element / 4)[element % 4]) << "element " << element;
  }
}

TEST(RandomTest, EveryBitOfSeedStreamAndIndexMatters) {
  std::set<Words> seen{philox(0, 0, 0)};
  for (int bit = 0; bit < 64; ++bit) {
    const std::uint64_t one = std::uint64_t{1} << bit;
    seen.insert(philox(one, 0, 0));
    seen.insert(philox(0, one, 0));
    seen.insert(philox(0, 0, one));
  }
  EXPECT_EQ(seen.size(), 1u + 3 * 64);
}

TEST(RandomTest, UnitFloatStaysBelowOne) {
  EXPECT_EQ(unit_float(0), 0.0f);
  EXPECT_EQ(unit_float(0x80000000u), 0.5f);
  EXPECT_EQ(unit_float(0xffffffffu), 1 - 0x1p-24f);
}

TEST(RandomTest, UnitDoubleIsNeverZeroNorOne) {
  EXPECT_EQ(unit_double(0, 0), 0x1p-53);
  EXPECT_EQ(unit_double(0xffffffffu, 0xffffffffu), 1 - 0x1p-53);
  EXPECT_GT(unit_double(0x80000000u, 0), 0.5);
  EXPECT_LT(unit_double(0x7fffffffu, 0xffffffffu), 0.5);
}

}  // namespace
}  // namespace microtome
