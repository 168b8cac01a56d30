#pragma once

#include "engine/kinds/traits.h"

namespace microtome {

template <>
struct Traits<Dropout> : CommonTraits<Dropout> {
  using Made = std::unique_ptr<DropoutOp>;

  static Shape infer(const Dropout& dropout, Shapes x, Shapes) {
    require(dropout.rate >= 0 && dropout.rate < 1, "dropout: rate ", dropout.rate, " is outside [0, 1)");
    return x[0];
  }

  static bool is_random(const Dropout& dropout) { return dropout.rate > 0; }
  static bool is_identity(const Dropout& dropout, const Lowering& l) {
    return l.mode != Mode::train || !l.dropout || dropout.rate == 0;
  }

  static DeferredNorm* deferral(Dropout& dropout, std::size_t input) { return input == 0 ? &dropout.deferred : nullptr; }

  static constexpr GradientMemory gradient_memory = GradientMemory::in_place;

  /// Backward reads no input but a deferred one.
  static Cost cost(const Dropout& dropout, Pass pass, const Traffic& t) {
    if (pass == Pass::forward) return {0, t.x() + t.coefficients(dropout.deferred) + t.y()};
    return pass == Pass::backward ? Cost{0, t.dy() + t.deferred(dropout.deferred) + t.dx()} : Cost{};
  }

  static Made make(Backend& backend, const Dropout& dropout, const Layouts& of) {
    return backend.dropout(dropout, of.x(), of.y());
  }

  static void forward(const Dropout&, const Made& made, const OpView& v, Calls& calls) {
    calls.forward(
        [op = made.get(), x = v.x(), norm = v.norm(), state = v.state, y = v.y] { op->forward(*x, norm, state, *y); });
  }

  static void backward(const Dropout&, const Made& made, const OpView& v, Calls& calls) {
    calls.backward(Pass::backward, [op = made.get(), dy = v.dy, norm = v.norm(), state = v.state, dx = v.dx(),
                                    write = v.write()] { op->backward(*dy, norm, state, *dx, write); });
  }
};

}  // namespace microtome
