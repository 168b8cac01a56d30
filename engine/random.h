// Philox4x32-10 [Salmon2011]: random numbers as a function of (seed, stream, index), so that a value never depends on which
// thread drew it or in what order. `constexpr` throughout: the same code runs in initialisers, on the CPU and in GPU kernels.
#pragma once

#include <array>
#include <cstdint>

namespace microtome {

/// Four independent 32-bit words for counter (index, stream) under key `seed`.
constexpr std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint32_t key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  std::uint32_t c0 = static_cast<std::uint32_t>(index), c1 = static_cast<std::uint32_t>(index >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c3 = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// The one word of `philox` that belongs to element `index`: four neighbours share one evaluation's counter.
constexpr std::uint32_t random_word(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const std::array<std::uint32_t, 4> words = philox(seed, stream, index / 4);
  return words[index % 4];
}

/// Uniform in [0, 1), a multiple of 2^-24.
constexpr float unit_float(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

/// Uniform in (0, 1), the middle of one of 2^52 equal cells: exact in a double, so never 0 nor 1 and its logarithm is finite.
constexpr double unit_double(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = ((std::uint64_t{high} << 32) | low) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

/// Streams keep the uses of one seed apart. A dropout's stream is `dropout + index of its row`.
namespace stream {
inline constexpr std::uint64_t initial_weights = 1ull << 32;
inline constexpr std::uint64_t permutation = 2ull << 32;
inline constexpr std::uint64_t dropout = 3ull << 32;
inline constexpr std::uint64_t synthetic = 4ull << 32;
inline constexpr std::uint64_t split = 5ull << 32;
inline constexpr std::uint64_t augmentation = 6ull << 32;  // + epoch
inline constexpr std::uint64_t resampling = 7ull << 32;
inline constexpr std::uint64_t tuning = 8ull << 32;
}  // namespace stream

}  // namespace microtome
