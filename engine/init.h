// Initialisers, as Keras defines them (reference: keras.initializers). A value depends on the seed, the parameter's index and
// the element alone: not on the order of calls, nor on how many elements are asked for.
#pragma once

#include <cstdint>
#include <span>

namespace microtome {

/// constant: `value`. glorot_uniform: U(-l, l), l = sqrt(6 / (fan_in + fan_out)) [Glorot2010]. he_normal and
/// variance_scaling_fan_out: a normal with variance scale / fan after it was truncated at two sigma, that is
/// sigma = sqrt(scale / fan) / 0.87962566103423978, drawn again while |x| > 2 sigma; he_normal [He2015] has scale 2 and
/// fan = fan_in whatever `value` says, variance_scaling_fan_out scale = value and fan = fan_out.
struct Initializer {
  enum class Rule { constant, glorot_uniform, he_normal, variance_scaling_fan_out };
  Rule rule = Rule::constant;
  double value = 0;  // the constant, or the scale
  double fan_in = 1, fan_out = 1;
};

constexpr Initializer constant(double value) {
  return {Initializer::Rule::constant, value};
}

/// Fills one parameter; `index` tells parameters of a network apart. Fans must be positive, a scale too.
void initialize(const Initializer& init, std::uint64_t seed, int index, std::span<float> values);

}  // namespace microtome
