// y = f(x) and dx = f'(x) dy for the functions of `Activation`. Where y decides f', the backward pass reads y, so that it can
// run in place of x; swish, which is not monotonic, reads x. At a kink the derivative is 0, as in TensorFlow.
#pragma once

#include "engine/ops.h"
#include "kernels/formulas/host_device.h"

#include <cmath>
#include <type_traits>

namespace microtome {

template <class T>
MICROTOME_HOST_DEVICE T sigmoid(T x) {
  using std::exp;
  return T(1) / (T(1) + exp(-x));
}

/// NaN passes through every function: an overflow must reach the loss, which reports it.
template <class T>
MICROTOME_HOST_DEVICE T activate(Activation function, T x) {
  switch (function) {
    case Activation::none: return x;
    case Activation::relu: return x < T(0) ? T(0) : x;
    case Activation::relu6: return x < T(0) ? T(0) : x > T(6) ? T(6) : x;
    case Activation::swish: return x * sigmoid(x);
    case Activation::sigmoid: return sigmoid(x);
  }
  return x;
}

/// What `activation_derivative` wants: x (true) or y (false). `none` wants neither.
MICROTOME_HOST_DEVICE constexpr bool derivative_reads_x(Activation function) {
  return derivative_of(function) == DerivativeOf::x;
}
MICROTOME_HOST_DEVICE constexpr bool derivative_reads_y(Activation function) {
  return derivative_of(function) == DerivativeOf::y;
}

/// f' from x or from y = f(x), as `derivative_of` says.
template <class T>
MICROTOME_HOST_DEVICE T activation_derivative(Activation function, T x_or_y) {
  switch (function) {
    case Activation::none: return T(1);
    case Activation::relu: return x_or_y > T(0) ? T(1) : T(0);
    case Activation::relu6: return x_or_y > T(0) && x_or_y < T(6) ? T(1) : T(0);
    case Activation::swish: {
      const T s = sigmoid(x_or_y);
      return s * (T(1) + x_or_y * (T(1) - s));
    }
    case Activation::sigmoid: return x_or_y * (T(1) - x_or_y);
  }
  return T(1);
}

/// f(std::integral_constant<Activation, function>()), so that the switch in a formula is decided once, outside the loop.
/// constexpr: nvcc takes it for device code too.
template <class F>
constexpr decltype(auto) with_activation(Activation function, const F& f) {
  switch (function) {
    case Activation::none: return f(std::integral_constant<Activation, Activation::none>{});
    case Activation::relu: return f(std::integral_constant<Activation, Activation::relu>{});
    case Activation::relu6: return f(std::integral_constant<Activation, Activation::relu6>{});
    case Activation::swish: return f(std::integral_constant<Activation, Activation::swish>{});
    case Activation::sigmoid: return f(std::integral_constant<Activation, Activation::sigmoid>{});
  }
  return f(std::integral_constant<Activation, Activation::none>{});
}

}  // namespace microtome
