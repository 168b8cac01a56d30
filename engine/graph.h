// A network as recorded: rows as in the paper's table, the ops and parameters of each row, shapes inferred on the way.
// A stage is any callable Node -> Node; `x | stage` applies it.
#pragma once

#include "engine/init.h"
#include "engine/kind_list.h"
#include "engine/ops.h"

#include <concepts>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace microtome {

class Graph;

/// What flows between stages: the output of one op, for one image (shape.n is 1).
struct Node {
  Graph* graph = nullptr;
  int op = -1;  // index into Graph::ops()

  Shape shape() const;  // a copy: the graph's own moves as it grows
};

using Stage = std::function<Node(Node)>;

template <std::invocable<Node> F>
Node operator|(Node x, F&& stage) {
  return stage(x);
}

/// A weight of a row. `shape` is how we store it; `keras_shape` and its order are those of Keras' variables and files.
struct Parameter {
  int row = 0;
  std::string name;              // "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"
  Shape shape;                   // stored: a convolution's kernel as K R S C, all else as in Keras
  std::vector<int> keras_shape;  // a convolution's kernel as {R, S, C, K}, a dense one as {C, K}, a vector as {C}
  Initializer init;
  bool trainable = true;
  bool statistic = false;  // a moving average: never trained, and last in Keras' files
};

/// One row of the paper's table; one layer of Keras'.
struct Row {
  std::string name;             // as in the published weight files: "conv3_block2_2_conv"
  std::string kind;             // Keras' class in snake case: "conv2d", "batch_normalization", "max_pooling2d"
  std::vector<int> parameters;  // indices into Graph::parameters(), trainable ones first, as in Keras' files
  int output = -1;              // its last op
  std::string activation;       // "relu" where it is part of the row, as in Keras' Conv2D(activation="relu")
};

/// The filters that a convolution runs with, from the shape of its parameter: of a group convolution eight times as many.
Shape derived_filters(const Conv& conv, Shape parameter);

/// One op of a row. A variant of all kinds but those that belong to a step and not to a network (gather, loss, optimiser).
struct GraphOp {
  using Kind = GraphKind;
  Kind kind;
  std::vector<int> inputs;      // indices of ops
  std::vector<int> parameters;  // Conv, Dense: w and b if any. BatchNorm: gamma if any, beta, moving mean, moving variance
  Shape output;                 // n is 1
  int row = 0;
};

class Graph {
 public:
  /// Records the input row; every network starts here. `image`: H W C of one image.
  Node input(Extent image, int channels = 3);

  /// Opens a row; ops and parameters recorded next belong to it. An empty name becomes Keras' automatic one: the kind, then
  /// kind_1, kind_2, …
  void row(std::string_view kind, std::string_view name = {});
  int parameter(std::string_view name, const Shape& shape, std::vector<int> keras_shape, Initializer init);
  /// A moving average: a parameter that nothing trains.
  int statistic(std::string_view name, const Shape& shape, double initial);
  void activation_of_row(std::string_view name) { rows_.back().activation = name; }

  /// Records an op of the open row and infers its shape; an impossible one fails here, at the guilty row.
  Node op(GraphOp::Kind kind, const std::vector<Node>& inputs, std::vector<int> parameters = {});

  /// Where the published base ends and the study's head begins: 1 1 C of each image.
  void features(Node x) { features_ = x.op; }
  /// The network's logits; called once, last.
  void output(Node logits) { output_ = logits.op; }

  /// No parameter of the rows up to the features is trained from here on, or none of any row. A frozen batch-norm runs on its
  /// moving statistics, as Keras' does; dropout in a frozen base still drops.
  void freeze_base();
  void freeze();

  const std::vector<Row>& rows() const { return rows_; }
  const std::vector<GraphOp>& ops() const { return ops_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  int features() const { return features_; }  // -1 where nothing is published: b2, b6
  int output() const { return output_; }

  /// Sum over parameters; the trainable ones alone.
  std::int64_t parameter_count(bool trainable_only = false) const;
  /// Multiply-accumulates of convolutions and dense layers for one image; of one row.
  std::int64_t macs() const;
  std::int64_t macs(int row) const;

 private:
  std::vector<Row> rows_;
  std::vector<GraphOp> ops_;
  std::vector<Parameter> parameters_;
  std::unordered_map<std::string, int> uses_of_kind_;
  int features_ = -1, output_ = -1;
};

/// Rows in the order of Keras' model.layers, which is that of its weight files: by distance from the output, the farthest
/// first, and among equals as a walk from the output back through the inputs meets them.
std::vector<int> keras_order(const Graph& graph);

/// Whether the features differ from pass to pass: dropout or stochastic depth comes before them.
bool random_before_features(const Graph& graph);

/// "kernel" of row "conv2d_1" and so on, for messages and files.
std::string full_name(const Graph& graph, const Parameter& parameter);

}  // namespace microtome
