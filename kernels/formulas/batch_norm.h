// One channel of batch normalisation [Ioffe2015, alg. 1], M = N H W values a channel:
//   y = gamma (x - mean) / sqrt(variance + epsilon) + beta = scale x + shift
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

/// From sum x and sum x^2. Rounding can leave a small negative number where the variance is 0: then it is 0.
template <class T>
MICROTOME_HOST_DEVICE Moments<T> moments_from_sums(T sum, T sum_of_squares, T count) {
  const T mean = sum / count, variance = sum_of_squares / count - mean * mean;
  return {mean, variance < T(0) ? T(0) : variance};
}

template <class T>
MICROTOME_HOST_DEVICE T inverse_deviation(T variance, T epsilon) {
  using std::sqrt;
  return T(1) / sqrt(variance + epsilon);
}

template <class T>
struct ScaleShift {
  T scale, shift;
  MICROTOME_HOST_DEVICE T operator()(T x) const { return x * scale + shift; }
};

template <class T>
MICROTOME_HOST_DEVICE ScaleShift<T> batch_norm_transform(T gamma, T beta, const Moments<T>& moments, T epsilon) {
  const T scale = gamma * inverse_deviation(moments.variance, epsilon);
  return {scale, beta - moments.mean * scale};
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
