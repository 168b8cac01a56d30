#pragma once

#include "engine/kinds/traits.h"

namespace microtome {

template <>
struct Traits<Multiply> : CommonTraits<Multiply> {
  using Made = std::unique_ptr<MultiplyOp>;

  static Shape infer(const Multiply&, Shapes x, Shapes) {
    require(x[1] == Shape{1, 1, 1, x[0].c}, "multiply: a gate of ", to_string(x[1]), " for ", to_string(x[0]));
    return x[0];
  }

  static DeferredNorm* deferral(Multiply& multiply, std::size_t input) { return input == 0 ? &multiply.deferred : nullptr; }

  static constexpr GradientMemory gradient_memory = GradientMemory::in_place;

  static Cost cost(const Multiply& multiply, Pass pass, const Traffic& t) {
    const double gate = t.x(1), coefficients = t.coefficients(multiply.deferred), norm = t.deferred(multiply.deferred);
    switch (pass) {
      case Pass::forward: return {0, t.x() + coefficients + gate + t.y()};
      case Pass::backward_data: return {0, t.dy() + gate + norm + t.dx()};
      case Pass::backward_filter: return {0, t.x() + coefficients + t.dy() + t.dx(1)};
      case Pass::backward: return {0, (multiply.deferred ? norm : t.x()) + t.dy() + gate + t.dx() + t.dx(1)};
      default: return {};
    }
  }

  static Made make(Backend& backend, const Multiply& multiply, const Layouts& of) {
    return backend.multiply(multiply, of.x(), of.x(1), of.y());
  }

  static void forward(const Multiply&, const Made& made, const OpView& v, Calls& calls) {
    calls.forward([op = made.get(), x = v.x(), norm = v.norm(), gate = v.x(1), y = v.y] { op->forward(*x, norm, *gate, *y); });
  }

  /// The gate's gradient first: x's may be dy's own memory.
  static void backward(const Multiply&, const Made& made, const OpView& v, Calls& calls) {
    calls.backward(Pass::backward, [op = made.get(), x = v.x(), norm = v.norm(), gate = v.x(1), dy = v.dy, dx = v.dx(),
                                    dgate = v.dx(1), write = v.write(), write_gate = v.write(1)] {
      if (dgate) op->backward_gate(*x, norm, *dy, *dgate, write_gate);
      if (dx) op->backward_data(*dy, *gate, norm, *dx, write);
    });
  }
};

}  // namespace microtome
