// The two products that convolutions and dense layers come down to, each on a tile of sums that stays in registers: `width`
// output channels in two vectors, by up to `most` positions (forward) or taps (filter gradient). A step loads two vectors, and
// one float for every two multiply-adds: both units are kept busy from L1.
#pragma once

#include "kernels/cpu/simd.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace microtome {

inline constexpr int width = 2 * lanes;                  // output channels at a time
inline constexpr int most = (registers - operands) / 2;  // positions, or taps: two sums each

/// Cuts `count` into the fewest parts of at most `most`, of nearly equal size: f(first, size).
template <class F>
void for_parts(int count, const F& f) {
  const int parts = (count + most - 1) / most;
  for (int i = 0; i < parts; ++i) {
    const int first = static_cast<int>(std::int64_t{count} * i / parts),
              last = static_cast<int>(std::int64_t{count} * (i + 1) / parts);
    f(first, last - first);
  }
}

/// y[q,k] = b[k] + sum over r,t of x[r][q x_step + t] w[r,t,k], or y += the sum.
struct ForwardTile {
  const float* x;         // of the first position
  std::ptrdiff_t x_step;  // floats from one position to the next
  std::ptrdiff_t x_row;
  const float* w;         // rows x taps x width
  std::ptrdiff_t w_step;  // floats from one tap to the next
  int rows, taps;
  float* y;
  std::ptrdiff_t y_step;
  const float* b;  // width, or null
  bool accumulate;
};

template <int positions>
void forward_tile(const ForwardTile& tile) {
  Floats sums[positions][2];
  const Floats b0 = tile.b ? load<Floats>(tile.b) : Floats{}, b1 = tile.b ? load<Floats>(tile.b + lanes) : Floats{};
#pragma GCC unroll 16
  for (int j = 0; j < positions; ++j) {
    const float* y = tile.y + j * tile.y_step;
    sums[j][0] = tile.accumulate ? load<Floats>(y) : b0;
    sums[j][1] = tile.accumulate ? load<Floats>(y + lanes) : b1;
  }
  const float* w = tile.w;
  const std::ptrdiff_t step = tile.x_step;
  for (int r = 0; r < tile.rows; ++r) {
    const float* row = tile.x + r * tile.x_row;
    const float* end = row + tile.taps;
    // Every third position has a pointer; the others are reached from it by what an address can hold, step and 2 step.
    for (const float* x = row; x != end; ++x, w += tile.w_step) {
      const Floats w0 = load<Floats>(w), w1 = load<Floats>(w + lanes);
      const float* at = x;
#pragma GCC unroll 16
      for (int j = 0; j < positions; ++j) {
        const float value = at[j % 3 * step];
        sums[j][0] += w0 * value;
        sums[j][1] += w1 * value;
        if (j % 3 == 2) at += 3 * step;
      }
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < positions; ++j) {
    float* y = tile.y + j * tile.y_step;
    store(y, sums[j][0]);
    store(y + lanes, sums[j][1]);
  }
}

/// sums[t,k] = sum over p,q of x[p][q x_step + t] dy[p,q,k], or sums += it.
struct FilterTile {
  const float* x;  // of the first position and tap
  std::ptrdiff_t x_step, x_row;
  const float* dy;  // of the first position and channel
  std::ptrdiff_t dy_step, dy_row;
  int rows, columns;
  float* sums;               // taps x width
  std::ptrdiff_t sums_step;  // floats from one tap to the next
  bool accumulate;
};

template <int taps>
void filter_tile(const FilterTile& tile) {
  Floats sums[taps][2];
#pragma GCC unroll 16
  for (int j = 0; j < taps; ++j) {
    const float* from = tile.sums + j * tile.sums_step;
    sums[j][0] = tile.accumulate ? load<Floats>(from) : Floats{};
    sums[j][1] = tile.accumulate ? load<Floats>(from + lanes) : Floats{};
  }
  int p = 0;
  do {  // at least one row and one column: sums need not survive a loop that does not run
    const float *x = tile.x + p * tile.x_row, *dy = tile.dy + p * tile.dy_row;
    int q = tile.columns;
    do {
      const Floats dy0 = load<Floats>(dy), dy1 = load<Floats>(dy + lanes);
#pragma GCC unroll 16
      for (int j = 0; j < taps; ++j) {
        sums[j][0] += dy0 * x[j];
        sums[j][1] += dy1 * x[j];
      }
      x += tile.x_step, dy += tile.dy_step;
    } while (--q > 0);
  } while (++p < tile.rows);
#pragma GCC unroll 16
  for (int j = 0; j < taps; ++j) {
    float* to = tile.sums + j * tile.sums_step;
    store(to, sums[j][0]);
    store(to + lanes, sums[j][1]);
  }
}

template <int... size>
constexpr auto forward_tiles(std::integer_sequence<int, size...>) {
  return std::array{&forward_tile<size + 1>...};
}
template <int... size>
constexpr auto filter_tiles(std::integer_sequence<int, size...>) {
  return std::array{&filter_tile<size + 1>...};
}
inline constexpr auto forward_tile_of = forward_tiles(std::make_integer_sequence<int, most>{});  // [positions - 1]
inline constexpr auto filter_tile_of = filter_tiles(std::make_integer_sequence<int, most>{});    // [taps - 1]

}  // namespace microtome
