// The bytes that a pass of an op cannot but move: what the costs of all kinds are made of (see engine/cost.h).
#pragma once

#include "engine/ops.h"

#include <cstddef>
#include <span>

namespace microtome {

struct Traffic {
  std::span<const Layout> inputs;
  const Layout& output;
  DType parameter_type;
  bool accumulate;  // the gradient of inputs[0] is read as well as written

  double x(std::size_t i = 0) const { return static_cast<double>(inputs[i].packed_bytes()); }
  double dx(std::size_t i = 0) const { return (accumulate && i == 0 ? 2 : 1) * x(i); }
  double y() const { return static_cast<double>(output.packed_bytes()); }
  /// In the activations' type, which a network's last y is not.
  double dy() const { return static_cast<double>(output.shape.count() * size_bytes(inputs[0].dtype)); }
  double vectors(int count, int channels) const { return static_cast<double>(count) * channels * size_bytes(parameter_type); }
  double coefficients(const DeferredNorm& norm, std::size_t i = 0) const { return norm ? vectors(3, inputs[i].shape.c) : 0; }
  /// What a gradient's pass over a deferred input reads and writes beside the gradient.
  double deferred(const DeferredNorm& norm, std::size_t i = 0) const {
    return norm ? x(i) + vectors(3 + 2, inputs[i].shape.c) : 0;
  }
};

}  // namespace microtome
