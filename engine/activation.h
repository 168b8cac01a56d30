// The functions that stand behind an op, and what the planner has to know of each. Every property is a switch over all of them:
// a function that one of them does not name is refused by the compiler (-Werror=switch), as is one without a formula
// (kernels/formulas/activation.h).
#pragma once

namespace microtome {

/// none; max(x, 0); min(max(x, 0), 6); x / (1 + exp(-x)); 1 / (1 + exp(-x)).
enum class Activation { none, relu, relu6, swish, sigmoid };

/// What f'(x) is computed from: x, or y = f(x) where that decides it, so that nobody has to keep x.
enum class DerivativeOf { nothing, x, y };

constexpr DerivativeOf derivative_of(Activation function) {
  switch (function) {
    case Activation::none: return DerivativeOf::nothing;
    case Activation::relu:
    case Activation::relu6:
    case Activation::sigmoid: return DerivativeOf::y;
    case Activation::swish: return DerivativeOf::x;  // not monotonic: two x have one y
  }
  return DerivativeOf::x;
}

/// Whether zeros beside its values change no maximum.
constexpr bool is_never_negative(Activation function) {
  switch (function) {
    case Activation::relu:
    case Activation::relu6:
    case Activation::sigmoid: return true;
    case Activation::none:
    case Activation::swish: return false;
  }
  return false;
}

/// Whether integers become integers, with derivatives 0 and 1.
constexpr bool is_piecewise_linear(Activation function) {
  switch (function) {
    case Activation::none:
    case Activation::relu:
    case Activation::relu6: return true;
    case Activation::swish:
    case Activation::sigmoid: return false;
  }
  return false;
}

}  // namespace microtome
