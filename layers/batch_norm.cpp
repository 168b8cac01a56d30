#include "layers/batch_norm.h"

namespace microtome {

Stage batch_norm(BatchNormOptions o) {
  return [=](Node x) {
    Graph& graph = *x.graph;
    const Shape vector{1, 1, 1, x.shape().c};
    graph.row("batch_normalization", o.name);
    std::vector<int> parameters;
    const auto add = [&](std::string_view name, double value, bool trainable) {
      parameters.push_back(graph.parameter(name, vector, {vector.c}, constant(value), trainable));
    };
    if (o.scale) add("gamma", 1, true);
    add("beta", 0, true);
    add("moving_mean", 0, false);
    add("moving_variance", 1, false);
    // TensorFlow 2 has a fused kernel, and with it Bessel's correction of the moving variance, for images only, be they 1x1.
    const bool image = !std::holds_alternative<Dense>(graph.ops()[x.op].kind);
    return graph.op(BatchNorm{.scale = o.scale, .epsilon = o.epsilon, .momentum = o.momentum, .bessel = image}, {x}, parameters);
  };
}

}  // namespace microtome
