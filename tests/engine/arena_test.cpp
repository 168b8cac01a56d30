#include "engine/arena.h"

#include "engine/random.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

TEST(ArenaPlanTest, APieceIsAsLargeAsTheLargestAskedForAndInUseFromFirstToLast) {
  ArenaPlan plan;
  const int piece = plan.piece(), unused = plan.piece();
  plan.touch(piece, 5, 256);
  plan.touch(piece, 2, 512);
  plan.touch(piece, 7, 256);
  EXPECT_EQ(plan.life(piece).first, 2);
  EXPECT_EQ(plan.life(piece).last, 7);
  EXPECT_EQ(plan.life(piece).bytes, 512u);
  EXPECT_EQ(plan.life(unused).bytes, 0u);
  EXPECT_EQ(plan.unshared_bytes(), 512u);
}

TEST(ArenaPlanTest, ForAnotherBatchImagesAreProportionalAndSharedPiecesGrowButDoNotShrink) {
  ArenaPlan plan;
  plan.touch(plan.piece(true), 0, 8 * 1024);
  plan.touch(plan.piece(false), 0, 512);
  plan.assign();
  EXPECT_EQ(plan.bytes(), 8 * 1024u + 512);
  EXPECT_EQ(plan.bytes(8, 8), plan.bytes());
  EXPECT_EQ(plan.bytes(16, 8), 16 * 1024u + 1024);
  EXPECT_EQ(plan.bytes(4, 8), 4 * 1024u + 512);
}

TEST(ArenaPlanTest, TensorsGetAddressesInTheirPiecesAndAgainWhereTheArenaMoves) {
  ArenaPlan plan;
  const Layout four{{1, 1, 1, 4}, DType::f32};
  Tensor first{four, nullptr}, second{four, nullptr}, slice{four, nullptr};
  const int a = plan.piece(), b = plan.piece();
  plan.touch(a, 0, 512), plan.touch(b, 0, 256);
  plan.put(first, a), plan.put(slice, a, 64), plan.put(second, b);
  plan.assign();
  alignas(256) static std::byte arenas[2][1024];
  for (std::byte* arena : arenas) {
    plan.bind(arena);
    EXPECT_EQ(first.data, arena);
    EXPECT_EQ(slice.data, arena + 64);
    EXPECT_EQ(second.data, arena + 512);
  }
}

TEST(ArenaTest, NoTwoLiveTensorsOverlapInTheArena) {
  for (std::uint64_t trial = 0; trial < 300; ++trial) {
    std::uint64_t drawn = 0;
    const auto draw = [&](int below) { return static_cast<int>(random_word(trial, 1, drawn++) % below); };
    std::vector<Lifetime> lifetimes(1 + draw(60));
    for (Lifetime& life : lifetimes) {
      life.first = draw(40);
      life.last = life.first + draw(12);
      life.bytes = draw(8) == 0 ? 0 : 1 + draw(5000);
    }
    const Arena arena = assign_offsets(lifetimes);
    std::size_t sum = 0;
    for (std::size_t i = 0; i < lifetimes.size(); ++i) {
      sum += (lifetimes[i].bytes + 255) / 256 * 256;
      EXPECT_EQ(arena.offsets[i] % 256, 0u);
      EXPECT_LE(arena.offsets[i] + lifetimes[i].bytes, arena.bytes);
      for (std::size_t j = 0; j < i; ++j) {
        const bool together = lifetimes[i].first <= lifetimes[j].last && lifetimes[j].first <= lifetimes[i].last;
        const bool apart = arena.offsets[i] + lifetimes[i].bytes <= arena.offsets[j] ||
                           arena.offsets[j] + lifetimes[j].bytes <= arena.offsets[i];
        ASSERT_TRUE(!together || apart) << "trial " << trial << ": " << i << " and " << j;
      }
    }
    EXPECT_LE(arena.bytes, sum);
  }
}

TEST(ArenaTest, TensorsThatNeverMeetShareOnePlace) {
  const Arena arena = assign_offsets(std::vector<Lifetime>{{0, 1, 1000}, {2, 3, 1000}, {4, 5, 900}});
  EXPECT_EQ(arena.bytes, 1024u);
}

}  // namespace
}  // namespace microtome
