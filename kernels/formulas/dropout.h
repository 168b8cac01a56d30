// Inverted dropout [Srivastava2014]: y = x / (1 - rate) where a random number says keep, else 0.
// The number is word `step * 2^40 + element` of Philox stream `stream` under key `seed`: step, stream and element are disjoint
// bits of one counter, so that no two of them share a number before 2^24 steps. `element` counts n h w c of the logical tensor
// (not of its memory), or n alone where one number serves an image.
#pragma once

#include "engine/random.h"
#include "kernels/formulas/host_device.h"

#include <cstdint>

namespace microtome {

/// Neighbours 4 i … 4 i + 3 are the four words of philox(seed, stream, dropout_index(step, 4 i) / 4).
MICROTOME_HOST_DEVICE constexpr std::uint64_t dropout_index(std::uint64_t step, std::uint64_t element) {
  return (step << 40) + element;
}

MICROTOME_HOST_DEVICE constexpr bool dropout_keeps(std::uint32_t word, float rate) {
  return unit_float(word) >= rate;
}

MICROTOME_HOST_DEVICE constexpr bool dropout_keeps(std::uint64_t seed, std::uint64_t stream, std::uint64_t step,
                                                   std::uint64_t element, float rate) {
  return dropout_keeps(random_word(seed, stream, dropout_index(step, element)), rate);
}

template <class T>
MICROTOME_HOST_DEVICE constexpr T dropout_scale(float rate) {
  return T(1) / (T(1) - T(rate));
}

}  // namespace microtome
