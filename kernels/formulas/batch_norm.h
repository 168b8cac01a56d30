// One channel of batch normalisation [Ioffe2015, alg. 1], M = N H W values a channel:
//   y = gamma (x - mean) / sqrt(variance + epsilon) + beta = scale (x - mean) + beta
//   dbeta = sum dy; dgamma = sum dy (x - mean) / sqrt(variance + epsilon)
//   dx = scale (dy - dbeta / M - (x - mean) / sqrt(variance + epsilon) dgamma / M), or scale dy where statistics are given
#pragma once

#include "kernels/formulas/host_device.h"

#include <cmath>

namespace microtome {

template <class T>
struct Moments {
  T mean, variance;  // biased
};

template <class T>
MICROTOME_HOST_DEVICE T inverse_deviation(T variance, T epsilon) {
  using std::sqrt;
  return T(1) / sqrt(variance + epsilon);
}

template <class T>
MICROTOME_HOST_DEVICE T moving_average(T moving, T batch, T momentum) {
  return moving * momentum + batch * (T(1) - momentum);
}

/// What the moving variance averages: the batch's, times M / max(M - 1, 1) with `bessel`.
template <class T>
MICROTOME_HOST_DEVICE T moving_variance_sample(T variance, T count, bool bessel) {
  return bessel ? variance * (count / (count > T(2) ? count - T(1) : T(1))) : variance;
}

/// With batch statistics; `normalised` is (x - mean) / sqrt(variance + epsilon).
template <class T>
MICROTOME_HOST_DEVICE T batch_norm_dx(T dy, T normalised, T scale, T dgamma, T dbeta, T count) {
  return scale * (dy - (dbeta + normalised * dgamma) / count);
}

}  // namespace microtome
