// A float to whose type the formulas may be applied in a loop that becomes one of vectors: its exp is a polynomial, where the
// library's is a call. exp(x) = 2^n exp(r), n the integer nearest to x / ln 2 and |r| <= ln 2 / 2, where the minimax polynomial
// of degree 6 with p(0) = p'(0) = 1 serves.
#pragma once

#include "kernels/formulas/activation.h"

#include <bit>
#include <cstdint>

namespace microtome {

struct Lane {
  float value;

  Lane(float v) : value(v) {}
  friend Lane operator+(Lane a, Lane b) { return a.value + b.value; }
  friend Lane operator-(Lane a, Lane b) { return a.value - b.value; }
  friend Lane operator*(Lane a, Lane b) { return a.value * b.value; }
  friend Lane operator/(Lane a, Lane b) { return a.value / b.value; }
  friend Lane operator-(Lane a) { return -a.value; }
  friend bool operator<(Lane a, Lane b) { return a.value < b.value; }
  friend bool operator>(Lane a, Lane b) { return a.value > b.value; }
};

inline Lane exp(Lane lane) {
  // Beyond these the result is infinite, or as good as 0; not a number stays what it is.
  const float x = lane.value > 89.0f ? 89.0f : lane.value < -87.0f ? -87.0f : lane.value;
  constexpr float shift = 0x1.8p23f;  // added, it leaves the nearest integer in the last bits
  const float shifted = x * 0x1.715476p0f + shift, n = shifted - shift;
  const float r = x - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f;  // ln 2 in two parts, the first with room for n
  const float curve = (((0x1.6a245ap-10f * r + 0x1.1239d4p-7f) * r + 0x1.5558f2p-5f) * r + 0x1.555492p-3f) * r + 0x1.fffffcp-2f;
  const float power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 127) << 23);
  return ((curve * r + 1.0f) * r + 1.0f) * power;
}

/// Better matches for a float than the formulas' own templates: who includes this file computes with lanes.
inline float activate(Activation function, float x) {
  return activate(function, Lane(x)).value;
}
inline float activation_derivative(Activation function, float x_or_y) {
  return activation_derivative(function, Lane(x_or_y)).value;
}

}  // namespace microtome
