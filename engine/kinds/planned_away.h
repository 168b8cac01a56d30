// Kinds that no backend makes: the network's input, and what the planner turns into places of tensors, windows of other ops or
// what is done to an image on its way in.
#pragma once

#include "engine/kinds/traits.h"

#include <stdexcept>

namespace microtome {

template <>
struct Traits<Input> : PlannedAwayTraits<Input> {
  static Shape infer(const Input&, Shapes, Shapes) { throw std::logic_error("an input's shape is given"); }
};

template <>
struct Traits<Normalize> : PlannedAwayTraits<Normalize> {
  static Shape infer(const Normalize&, Shapes x, Shapes) {
    require(x[0].c == 3, "normalize: an image of ", x[0].c, " channels");
    return x[0];
  }
  static bool is_identity(const Normalize&, const Lowering&) { return true; }
};

template <>
struct Traits<ZeroPad> : PlannedAwayTraits<ZeroPad> {
  static Shape infer(const ZeroPad& pad, Shapes x, Shapes) {
    return {1, x[0].h + pad.before.h + pad.after.h, x[0].w + pad.before.w + pad.after.w, x[0].c};
  }
};

template <>
struct Traits<Concat> : PlannedAwayTraits<Concat> {
  static Shape infer(const Concat&, Shapes x, Shapes) {
    Shape y = x[0];
    for (const Shape& other : x.subspan(1)) {
      require(other.h == y.h && other.w == y.w, "concat: ", to_string(other), " beside ", to_string(x[0]));
      y.c += other.c;
    }
    return y;
  }
};

template <>
struct Traits<Reshape> : PlannedAwayTraits<Reshape> {
  static Shape infer(const Reshape& reshape, Shapes x, Shapes) {
    const Shape y{1, reshape.shape.h, reshape.shape.w, reshape.shape.c};
    require(y.count() == x[0].count(), "reshape: ", to_string(x[0]), " has another count than ", to_string(y));
    return y;
  }
};

}  // namespace microtome
