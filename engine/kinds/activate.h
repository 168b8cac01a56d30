#pragma once

#include "engine/kinds/traits.h"

namespace microtome {

template <>
struct Traits<Activate> : CommonTraits<Activate> {
  using Made = std::unique_ptr<ActivateOp>;

  static Shape infer(const Activate&, Shapes x, Shapes) { return x[0]; }

  static constexpr GradientMemory gradient_memory = GradientMemory::in_place;

  static Cost cost(const Activate&, Pass pass, const Traffic& t) {
    if (pass == Pass::forward) return {0, t.x() + t.y()};
    return pass == Pass::backward ? Cost{0, t.x() + t.dy() + t.dx()} : Cost{};
  }

  static Made make(Backend& backend, const Activate& activate, const Layouts& of) {
    return backend.activate(activate, of.x(), of.y());
  }

  static void forward(const Activate&, const Made& made, const OpView& v, Calls& calls) {
    calls.forward([op = made.get(), x = v.x(), y = v.y] { op->forward(*x, *y); });
  }

  static void backward(const Activate&, const Made& made, const OpView& v, Calls& calls) {
    calls.backward(Pass::backward, [op = made.get(), x = v.reads.x ? v.x() : nullptr, y = v.reads.y ? v.y : nullptr, dy = v.dy,
                                    dx = v.dx(), write = v.write()] { op->backward(x, y, *dy, *dx, write); });
  }
};

}  // namespace microtome
