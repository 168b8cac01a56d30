// A pseudo-random bijection of [0, n), a function of (seed, epoch) that is evaluated at one index without knowing the others:
// a balanced Feistel network over the next power of four, its round function a Philox word; what leaves [0, n) walks on
// through its cycle until it comes back [Black2002]. Eight philox a walk, fewer than four walks on average, one if n = 4^k.
#pragma once

#include "engine/random.h"
#include "kernels/formulas/host_device.h"

#include <cstdint>

namespace microtome {

MICROTOME_HOST_DEVICE constexpr std::uint64_t permuted(std::uint64_t index, std::uint64_t n, std::uint64_t seed,
                                                       std::uint64_t epoch) {
  constexpr std::uint64_t rounds = 8;
  int half_bits = 1;
  while ((std::uint64_t{1} << (2 * half_bits)) < n) ++half_bits;
  const std::uint64_t half_mask = (std::uint64_t{1} << half_bits) - 1;
  do {
    std::uint64_t left = index >> half_bits, right = index & half_mask;
    for (std::uint64_t round = 0; round < rounds; ++round) {
      const std::uint64_t mixed = left ^ (philox(seed, stream::permutation + epoch, round << 32 | right)[0] & half_mask);
      left = right;
      right = mixed;
    }
    index = left << half_bits | right;
  } while (index >= n);
  return index;
}

}  // namespace microtome
