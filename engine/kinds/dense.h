#pragma once

#include "engine/kinds/linear.h"

namespace microtome {

template <>
struct Traits<Dense> : LinearTraits<Dense> {
  using Made = std::unique_ptr<DenseOp>;

  static Shape infer(const Dense&, Shapes x, Shapes parameters) {
    const Shape& w = parameters[0];
    require(x[0].h == 1 && x[0].w == 1 && w.w == x[0].c, "dense: weights ", to_string(w), " do not fit input ",
            to_string(x[0]));
    return {1, 1, 1, w.c};
  }

  static std::int64_t macs(const Dense&, const Shape&, Shapes parameters) { return parameters[0].count(); }

  static constexpr bool outputs_last = true;
  static bool* bias_for_norm(Dense& dense) { return &dense.bias; }

  static Cost cost(const Dense& dense, Pass pass, const Traffic& t) {
    const double weights = double{1} * t.inputs[0].shape.c * t.output.shape.c;
    return LinearCost{2 * weights * t.output.shape.n, weights, dense.bias}.of(pass, t);
  }

  static Made make(Backend& backend, const Dense& dense, const Layouts& of) { return backend.dense(dense, of.x(), of.y()); }

  static void forward(const Dense&, const Made& made, const OpView& v, Calls& calls) {
    calls.forward([op = made.get(), x = v.x(), w = v.w, b = v.b, y = v.y] { op->forward(*x, *w, b, *y); });
  }

  static void backward(const Dense&, const Made& made, const OpView& v, Calls& calls) {
    DenseOp* op = made.get();
    const Tensor *x = v.x(), *dy = v.dy, *w = v.w, *dx = v.dx(), *dw = v.dw, *db = v.db;
    if (dw) calls.backward_filter([=] { op->backward_filter(*x, *dy, *dw, db, Write::overwrite); });
    if (dx) calls.backward(Pass::backward_data, [=, write = v.write()] { op->backward_data(*dy, *w, *dx, write); });
  }
};

}  // namespace microtome
