// What the work of a step costs at least, whoever does it: the other side of a roofline's fraction.
#pragma once

#include "engine/graph.h"
#include "engine/profile.h"

#include <cstdint>
#include <span>

namespace microtome {

/// What an op cannot but do: 2 FLOP a multiply-accumulate (element-wise arithmetic not counted), and each tensor that the pass
/// reads or writes once. Not counted: workspaces, what an op keeps inside (masks, arg max), and of partial sums and statistics
/// the rows beyond the first.
struct Cost {
  double flop = 0, bytes = 0;

  Cost& operator+=(const Cost& other) {
    flop += other.flop, bytes += other.bytes;
    return *this;
  }
  Cost operator*(double times) const { return {flop * times, bytes * times}; }
  bool operator==(const Cost&) const = default;
};

/// Of a planned op; nothing where the kind has no such pass. Weights are read in the type of inputs[0], their gradients written
/// in `parameter_type`. `accumulate`: the gradient of inputs[0] is read as well as written.
///   convolution, dense  `backward` is both gradients in one pass over dy. A fused activation is undone by a pass of its own:
///                       Activate's backward.
///   batch-norm          with batch statistics the pass over x for these comes before the one that uses them: forward reads x
///                       twice, backward x and dy twice. Channels whose statistics are known, or were left by x's producer, are
///                       read once; a deferred batch-norm reads x for its statistics alone, and backward vectors alone.
///   addition            `backward` is that of one side, where it is not passed on in dy's memory.
///   multiplication      `backward_data` is x's gradient, `backward_filter` the gate's, `backward` both.
///   norm_correction     of the op's output: the gradient in place.
/// What applies a deferred batch-norm reads its coefficients, and in a gradient's pass also x.
Cost cost(const GraphOp::Kind& kind, Pass pass, std::span<const Layout> inputs, const Layout& output, DType parameter_type,
          bool accumulate = false);

/// A batch of images of type `images`, and its labels. x: as the network reads it, with the room its strides leave.
Cost cost(const Gather&, DType images, const Layout& x, DType parameter_type);

/// Of a FilterTransformOp, either way: the parameter and the filters that derive from it, of this layout or their gradients'.
Cost cost_of_filters(const Layout& all);

/// Pass::forward or Pass::backward.
Cost cost(const Loss&, Pass pass, const Layout& z);

/// `low_precision`: the type of the copy of the weights, if that is not `parameter_type`.
Cost cost(const Optimizer&, std::int64_t count, DType parameter_type, DType low_precision);

}  // namespace microtome
