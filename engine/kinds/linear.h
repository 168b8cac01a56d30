// What convolutions and dense layers have in common.
#pragma once

#include "engine/kinds/traits.h"

namespace microtome {

template <class Kind>
struct LinearTraits : CommonTraits<Kind> {
  static constexpr bool is_linear = true;
  static constexpr bool undoes_activation = true;

  static Activation* activation(Kind& kind) { return &kind.activation; }
  /// In training the planner undoes it, and has only y to do it from.
  static bool fuses(Activation function, Mode mode) {
    return mode != Mode::train || derivative_of(function) != DerivativeOf::x;
  }
};

struct LinearCost {
  double flop = 0, weights = 0;  // of one pass; elements
  bool bias = false;
  DeferredNorm deferred = {};
  bool statistics = false;

  Cost of(Pass pass, const Traffic& t) const {
    const double w = weights * size_bytes(t.inputs[0].dtype), dw = weights * size_bytes(t.parameter_type);
    const int outputs = t.output.shape.c;
    const double b = bias ? t.vectors(1, outputs) : 0;
    const double norm = t.deferred(deferred);
    switch (pass) {
      case Pass::forward:
        return {flop, t.x() + t.coefficients(deferred) + w + b + t.y() + (statistics ? t.vectors(3, outputs) : 0)};
      case Pass::backward_data: return {flop, t.dy() + w + norm + t.dx()};
      case Pass::backward_filter: return {flop, t.x() + t.coefficients(deferred) + t.dy() + dw + b};
      case Pass::backward: return {2 * flop, (deferred ? norm : t.x()) + t.dy() + w + t.dx() + dw + b};
      default: return {};
    }
  }
};

}  // namespace microtome
