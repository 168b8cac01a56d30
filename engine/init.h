// Initialisers, as Keras defines them (reference: keras.initializers). Values depend on seed and element alone.
#pragma once

#include <cstdint>
#include <span>

namespace microtome {

/// constant: `value`. glorot_uniform: U(-l, l), l = sqrt(6 / (fan_in + fan_out)) [Glorot2010]. he_normal and
/// variance_scaling draw a normal truncated at two sigma with variance scale / fan, sigma corrected by 0.87962566103423978;
/// fan is fan_in for he_normal (scale 2, [He2015]), fan_out for variance_scaling_fan_out.
struct Initializer {
  enum class Rule { constant, glorot_uniform, he_normal, variance_scaling_fan_out };
  Rule rule = Rule::constant;
  double value = 0;             // the constant, or the scale
  double fan_in = 1, fan_out = 1;
};

constexpr Initializer constant(double value) { return {Initializer::Rule::constant, value}; }

/// Fills one parameter; `index` tells parameters of a network apart.
void initialize(const Initializer& init, std::uint64_t seed, int index, std::span<float> values);

}  // namespace microtome
