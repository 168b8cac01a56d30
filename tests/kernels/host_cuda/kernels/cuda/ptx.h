// Test only, in the place of kernels/cuda/ptx.h: its instructions on the host, element by element from the PTX ISA's tables.
#pragma once

#include "kernels/host_cuda/machine.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <source_location>

namespace microtome::cuda {

struct Fragment {
  std::uint32_t at[4];
};

namespace ptx {

inline constexpr int lanes = host_cuda::lanes_a_warp;

/// Element i of the bf16 that a lane's registers hold, two each, the first in the lower half.
inline float element(const std::uint32_t* registers, int i) {
  return std::bit_cast<float>(registers[i / 2] >> (i % 2 * 16) << 16);
}

struct Load {
  const void* row;
  Fragment got;
};

/// [PTX ISA, ldmatrix]: of matrix i, whose rows lanes 8 i … 8 i + 7 address, lane l gets row l / 4, elements 2 (l % 4) and the
/// next; with .trans element (r, c) stands where (c, r) did.
template <bool transposed>
void load(void* const* of_lanes) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    std::array<std::array<std::uint16_t, 8>, 8> elements;
    for (int r = 0; r < 8; ++r)
      std::memcpy(elements[r].data(), static_cast<const Load*>(of_lanes[8 * matrix + r])->row, sizeof elements[r]);
    for (int lane = 0; lane < lanes; ++lane) {
      const int r = lane / 4, c = lane % 4 * 2;
      const std::uint32_t low = transposed ? elements[c][r] : elements[r][c];
      const std::uint32_t high = transposed ? elements[c + 1][r] : elements[r][c + 1];
      static_cast<Load*>(of_lanes[lane])->got.at[matrix] = low | high << 16;
    }
  }
}

struct Product {
  float* sums;
  std::uint32_t a[4], b[2];
};

/// [PTX ISA, Matrix Fragments for mma.m16n8k16, .bf16]: with group = lane / 4 and place = lane % 4,
///   a_i: row group for 0 <= i < 2 or 4 <= i < 6, else group + 8; column 2 place + (i & 1), and 8 more for i >= 4
///   b_i: row 2 place + (i & 1), and 8 more for i >= 2; column group
///   c_i: row group for i < 2, else group + 8; column 2 place + (i & 1)
inline void multiply(void* const* of_lanes) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < lanes; ++lane) {
    const auto* mine = static_cast<const Product*>(of_lanes[lane]);
    const int group = lane / 4, place = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      a[row][2 * place + (i & 1) + (i >= 4 ? 8 : 0)] = element(mine->a, i);
    }
    for (int i = 0; i < 4; ++i) b[2 * place + (i & 1) + (i >= 2 ? 8 : 0)][group] = element(mine->b, i);
  }
  for (int lane = 0; lane < lanes; ++lane) {
    auto* mine = static_cast<Product*>(of_lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? lane / 4 : lane / 4 + 8, column = lane % 4 * 2 + (i & 1);
      for (int k = 0; k < 16; ++k) mine->sums[i] += a[row][k] * b[k][column];
    }
  }
}

}  // namespace ptx

inline Fragment load_quarters(const void* row, std::source_location at = std::source_location::current()) {
  ptx::Load mine{row, {}};
  host_cuda::with_warp(&mine, at.line(), ptx::load<false>);
  return mine.got;
}

inline Fragment load_quarters_transposed(const void* row, std::source_location at = std::source_location::current()) {
  ptx::Load mine{row, {}};
  host_cuda::with_warp(&mine, at.line(), ptx::load<true>);
  return mine.got;
}

inline void multiply_add(float (&sums)[4], const Fragment& a, std::uint32_t b_low, std::uint32_t b_high,
                         std::source_location at = std::source_location::current()) {
  ptx::Product mine{sums, {a.at[0], a.at[1], a.at[2], a.at[3]}, {b_low, b_high}};
  host_cuda::with_warp(&mine, at.line(), ptx::multiply);
}

}  // namespace microtome::cuda
