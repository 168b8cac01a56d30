// How results are held against the reference: elements as doubles, and how wrong they may be.
#pragma once

#include "engine/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace microtome {

constexpr int significand_bits(DType type) {
  return type == DType::bf16 ? 8 : type == DType::f64 ? 53 : 24;
}

/// To nearest even.
inline double rounded(double value, int bits) {
  if (bits == 24) return static_cast<float>(value);
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(value, bits - exponent)), exponent - bits);
}

inline double load(const std::uint8_t* from, DType type) {
  switch (type) {
    case DType::u8: return *from;
    case DType::bf16: {
      std::uint16_t half = 0;
      std::memcpy(&half, from, sizeof half);
      return std::bit_cast<float>(std::uint32_t{half} << 16);
    }
    case DType::f32: {
      float value = 0;
      std::memcpy(&value, from, sizeof value);
      return value;
    }
    case DType::f64: {
      double value = 0;
      std::memcpy(&value, from, sizeof value);
      return value;
    }
  }
  return 0;
}

inline void store(std::uint8_t* to, DType type, double value) {
  const float narrow = static_cast<float>(value);
  if (type == DType::u8) *to = static_cast<std::uint8_t>(value);
  if (type == DType::f64) std::memcpy(to, &value, sizeof value);
  if (type == DType::f32) std::memcpy(to, &narrow, sizeof narrow);
  if (type == DType::bf16) {
    const auto half = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(rounded(value, 8))) >> 16);
    std::memcpy(to, &half, sizeof half);
  }
}

/// Where sums are not exact: twice the plain loop's error. A plain loop over few elements may be right by luck, so what it must
/// expect counts as well: of the largest result the rounding to `bits`, that of factors made on the way to `factor_bits`, and a
/// random walk of one f32 rounding an addition [Higham2019].
inline double error_bound(double largest, double plain_error, int bits, int factor_bits, double additions) {
  const double expected =
      largest * (std::ldexp(1, -bits) + std::ldexp(1, -factor_bits) + std::ldexp(std::sqrt(additions), -24));
  return 2 * std::max(plain_error, expected);
}

}  // namespace microtome
