#pragma once

#include "engine/kinds/traits.h"

namespace microtome {

template <>
struct Traits<Pool> : CommonTraits<Pool> {
  using Made = std::unique_ptr<PoolOp>;

  static Shape infer(const Pool& pool, Shapes x, Shapes) { return pool.window.output(x[0], x[0].c); }

  /// A maximum leaves cells beyond the edge out, which is right where zeros never win against what is inside.
  static Window* padded_window(Pool& pool, bool never_negative) {
    return pool.kind == Pool::Kind::max && never_negative ? &pool.window : nullptr;
  }

  /// Set only by move_relu_behind_max_pool: what stands behind a pooling in a graph runs by itself.
  static Activation* activation(Pool& pool) { return &pool.activation; }
  static DeferredNorm* deferral(Pool& pool, std::size_t input) { return input == 0 ? &pool.deferred : nullptr; }

  /// Backward reads no input but a deferred one.
  static Cost cost(const Pool& pool, Pass pass, const Traffic& t) {
    if (pass == Pass::forward) return {0, t.x() + t.coefficients(pool.deferred) + t.y()};
    return pass == Pass::backward ? Cost{0, t.dy() + t.deferred(pool.deferred) + t.dx()} : Cost{};
  }

  static Made make(Backend& backend, const Pool& pool, const Layouts& of) { return backend.pool(pool, of.x(), of.y()); }

  static void forward(const Pool&, const Made& made, const OpView& v, Calls& calls) {
    calls.forward([op = made.get(), x = v.x(), norm = v.norm(), y = v.y] { op->forward(*x, norm, *y); });
  }

  static void backward(const Pool&, const Made& made, const OpView& v, Calls& calls) {
    calls.backward(Pass::backward, [op = made.get(), dy = v.dy, norm = v.norm(), dx = v.dx(), write = v.write()] {
      op->backward(*dy, norm, *dx, write);
    });
  }
};

}  // namespace microtome
