// Binary cross-entropy of one image, from its logit z and its label y in {0, 1}: max(z, 0) - z y + log1p(exp(-|z|)).
// Keras computes it from logits too, so nothing is clipped.
#pragma once

#include "kernels/formulas/activation.h"
#include "kernels/formulas/host_device.h"

#include <cmath>

namespace microtome {

template <class T>
MICROTOME_HOST_DEVICE T cross_entropy(T z, T y) {
  using std::abs, std::exp, std::log1p;
  return (z > T(0) ? z : T(0)) - z * y + log1p(exp(-abs(z)));
}

/// d(cross_entropy) / dz; the batch's mean divides it by N.
template <class T>
MICROTOME_HOST_DEVICE T cross_entropy_derivative(T z, T y) {
  return sigmoid(z) - y;
}

/// Keras' binary accuracy: the score in float32, strictly above one half, means class 1.
MICROTOME_HOST_DEVICE inline bool is_correct(float z, float y) {
  return (sigmoid(z) > 0.5f) == (y > 0.5f);
}

}  // namespace microtome
