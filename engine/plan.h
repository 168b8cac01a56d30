// From a graph to a plan: which ops are fused, who accumulates, what lives when, and where in the arena. Each pass is a named
// function with a test; none knows a backend. A value is the output of a graph's op and bears that op's index.
#pragma once

#include "engine/graph.h"

#include <cstddef>
#include <span>
#include <vector>

namespace microtome {

/// calibrate: a forward pass like evaluate's but for batch-norm, which takes its batch's statistics and leaves them, mean and
/// unbiased variance, in the place of the moving ones.
enum class Mode { train, evaluate, calibrate };

/// One op to be made and run. After fusing, `output` may be the value of another graph op than the kind's own.
struct PlannedOp {
  GraphOp::Kind kind;
  std::vector<int> inputs;      // values
  int output = 0;               // value
  std::vector<int> parameters;  // as GraphOp::parameters
  int row = 0;
};

struct LowerOptions {
  Mode mode = Mode::train;
  bool dropout = true;
  bool bessel = true;  // of the moving variance, where the layer asks for it
};

/// The ops of a graph in order, with what the mode decides: batch statistics not in evaluation, and only where a parameter of the
/// row is trainable; dropout that does nothing becomes a Reshape to the same shape, an alias.
std::vector<PlannedOp> lower(const Graph& graph, const LowerOptions& options);

/// max_pool(relu(x)) -> max_pool with a fused relu on x: the same values and gradients, for a relu over fewer elements.
void move_relu_behind_max_pool(std::vector<PlannedOp>& ops);

/// conv | dense | batch_norm, then an activation that alone reads it -> one op. In training a convolution or dense layer takes
/// only activations whose derivative follows from their output.
void fuse_activations(std::vector<PlannedOp>& ops, Mode mode);

/// Undoes a fusion that a backend declined: `op` loses its activation and gets the fresh value as output; returns the
/// activation's own op, to run right after it.
PlannedOp split_activation(PlannedOp& op, int fresh_value);

/// What of a kind's options a backend may decline; none where there is nothing to split.
Activation fused_activation(const GraphOp::Kind& kind);

/// For each value the value whose memory it shares: itself, or for a Reshape's output the root of its input.
std::vector<int> alias_roots(std::span<const PlannedOp> ops, int values);

/// Which values have a trainable parameter before them, and so a gradient worth computing.
std::vector<bool> needs_gradient(const Graph& graph, std::span<const PlannedOp> ops, int values);

/// For each op, for each input: how its gradient is written when ops run backwards. The first to write a root overwrites.
std::vector<std::vector<Write>> gradient_writes(std::span<const PlannedOp> ops, std::span<const int> roots);

/// When memory is in use, first and last moment included, and how much of it.
struct Lifetime {
  int first = 0, last = 0;
  std::size_t bytes = 0;
};

/// Offsets in one arena, multiples of 256 bytes, such that no two that live at once overlap: the largest first, each at the
/// lowest place that is free during its life.
struct Arena {
  std::vector<std::size_t> offsets;
  std::size_t bytes = 0;
};
Arena assign_offsets(std::span<const Lifetime> lifetimes);

}  // namespace microtome
