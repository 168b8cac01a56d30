// From a graph to a plan: which ops are fused, what is a slice of what, who accumulates, what lives when, and where in the
// arena. Each pass is a named function with a test; none knows a backend. A value is the output of a graph's op and bears that
// op's index; values that passes add come after.
#pragma once

#include "engine/graph.h"
#include "engine/mode.h"

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace microtome {

/// Of a network with a published base: all of it; from the image to the features; from the features to the logits.
enum class Part { whole, base, head };

/// A frozen batch-norm that a linear op before it has swallowed: w' = w s, b' = (b - mean) s + beta, s = gamma / sqrt(variance
/// + epsilon).
struct FoldedNorm {
  BatchNorm kind;
  std::vector<int> parameters;  // as GraphOp::parameters
};

/// One op to be made and run. After fusing, `output` may be the value of another graph op than the kind's own.
struct PlannedOp {
  GraphOp::Kind kind;
  std::vector<int> inputs;      // values
  int output = 0;               // value
  std::vector<int> parameters;  // as GraphOp::parameters
  int row = 0;
  std::optional<FoldedNorm> norm = {};  // Conv and Dense, which then have a bias
};

struct LowerOptions {
  Mode mode = Mode::train;
  bool dropout = true;
  bool bessel = true;  // of the moving variance, where the layer asks for it
  Part part = Part::whole;
};

/// The ops of a part of a graph in order, with what the mode decides: batch statistics not in evaluation, and only where a
/// parameter of the row is trainable; dropout that does nothing becomes a Reshape to the same shape, an alias, and so does
/// Normalize. The head's Input is the features.
std::vector<PlannedOp> lower(const Graph& graph, const LowerOptions& options);

/// Zero padding goes into the windows that read it: a convolution's, or a maximum's over what a relu has left. Any other reader
/// is refused.
void fold_padding(const Graph& graph, std::vector<PlannedOp>& ops);

/// conv | dense with filters of its own, then a batch-norm that alone reads it, both frozen -> one op.
void fold_batch_norms(const Graph& graph, std::vector<PlannedOp>& ops);

/// max_pool(relu(x)) -> max_pool with a fused relu on x: the same values and gradients, for a relu over fewer elements.
void move_relu_behind_max_pool(std::vector<PlannedOp>& ops);

/// conv | dense | batch_norm | add, then an activation that alone reads it -> one op. In training all but batch-norm take only
/// activations whose derivative follows from their output.
void fuse_activations(std::vector<PlannedOp>& ops, Mode mode);

/// Undoes a fusion that a backend declined: `op` loses its activation and gets the fresh value as output; returns the
/// activation's own op, to run right after it.
PlannedOp split_activation(PlannedOp& op, int fresh_value);

/// What of a kind's options a backend may decline; none where there is nothing to split.
Activation fused_activation(const GraphOp::Kind& kind);

/// Copies (Activate with Activation::none) what cannot lie in a slice of a concat's output: the network's input, what lies in
/// another concat, what somebody reads under another shape, and what is read after the concat, whose gradient comes first.
/// Appends the copies' shapes to `shapes`, those of the values.
void copy_into_concats(std::vector<PlannedOp>& ops, std::vector<Shape>& shapes);

/// Where a value lies: from channel `channel` of value `root`'s memory.
struct Alias {
  int root = 0;
  int channel = 0;
  bool operator==(const Alias&) const = default;
};

/// Whether values of so many channels share memory.
bool overlap(const Alias& a, int channels_a, const Alias& b, int channels_b);

/// For each value: the output of a Reshape or a deferred batch-norm lies where its input does, a Concat's inputs in slices of
/// its output, all else by itself.
std::vector<Alias> alias_values(std::span<const PlannedOp> ops, std::span<const Shape> shapes);

/// Batch-norms over one memory, in its shape and from its first channel on, share batch statistics: each computes those of the
/// channels that none before it has read [Huang2017: a block's layers all read its first features].
void share_statistics(std::vector<PlannedOp>& ops, std::span<const Alias> aliases, std::span<const Shape> shapes);

/// Whether nobody but convolutions of one group reads the image, or what lies where it does; they learn that its memory has
/// room for more channels, which hold zeros.
bool give_image_room(std::vector<PlannedOp>& ops, std::span<const Alias> aliases);

/// Batch-norms that readers could apply on the way are deferred: their output then lies where their input does, and each
/// reader's kind says so. Not deferred: what somebody other than a convolution, pooling, dropout, addition or multiplication
/// reads, or reads after its input has become part of a concat; and `kept`, values that are read from outside.
void defer_batch_norms(std::vector<PlannedOp>& ops, std::span<const Alias> aliases, std::span<const Shape> shapes,
                       std::span<const int> kept);

/// Undoes it for op number `op`, or for the batch-norms that it was to apply.
void apply_batch_norms(std::vector<PlannedOp>& ops, int op);

/// Whether an op has a deferred input, and which.
DeferredNorm deferred_norm(const PlannedOp& op, std::size_t input);

/// A batch-norm of batch statistics that are not shared takes them from the convolution whose whole output it reads.
void leave_statistics(std::vector<PlannedOp>& ops, std::span<const Alias> aliases, std::span<const Shape> shapes);

bool leaves_statistics(const PlannedOp& op);
bool takes_statistics(const PlannedOp& op);

/// Undoes it for the batch-norms that read what convolution number `producer` makes.
void keep_no_statistics(std::vector<PlannedOp>& ops, int producer);

/// What the passes above make of a graph.
struct Plan {
  std::vector<PlannedOp> ops;
  std::vector<Shape> shapes;   // of each value, for one image
  std::vector<Alias> aliases;  // of each value
  int image_channels = 0;      // that the input has room for, where more than it has
};

struct PlanOptions {
  LowerOptions lower;
  int image_channels = 0;  // that the backend wants room for
  /// Whether the backend makes an op as it is planned so far: asked of ops that take part in deferring a batch-norm, or leave
  /// statistics for one. Null: nothing is deferred, and none are left.
  std::function<bool(const Plan&, const PlannedOp&)> takes;
};

/// The passes above in their order.
Plan make_plan(const Graph& graph, const PlanOptions& options);

/// The value that is read from outside: the logits, or of a base the features.
int output_of(const Graph& graph, Part part);

/// Which values have a trainable parameter before them, and so a gradient worth computing.
std::vector<bool> needs_gradient(const Graph& graph, std::span<const PlannedOp> ops, std::size_t values);

/// For each value the root whose gradient memory holds its gradient: its place's own, or that of a gradient which nobody needs
/// any more when this one is first written. Ops that work element by element overwrite the gradient that they read, and an
/// addition passes its own on to both sides.
std::vector<int> share_gradients(std::span<const PlannedOp> ops, std::span<const Alias> aliases, std::span<const Shape> shapes,
                                 int output);

/// For each op, for each input: how its gradient is written when ops and their inputs run backwards. The first overwrites.
std::vector<std::vector<Write>> gradient_writes(std::span<const PlannedOp> ops, std::span<const Alias> aliases,
                                                std::span<const Shape> shapes);

/// For each op, if it is a deferred batch-norm: how its corrections to its input's gradient are written, likewise.
std::vector<Write> correction_writes(std::span<const PlannedOp> ops, std::span<const Alias> aliases,
                                     std::span<const Shape> shapes);

/// Input, Reshape, Concat and what earlier passes do away with: nothing runs.
bool is_free(const PlannedOp& op);

bool is_deferred(const PlannedOp& op);

/// Its output is memory that something else writes: is_free, or a deferred batch-norm.
bool is_alias(const PlannedOp& op);

/// An op with a fused activation whose backward pass is run by itself, on the gradient in place, before the op's own.
bool undoes_activation(const PlannedOp& op);

}  // namespace microtome
