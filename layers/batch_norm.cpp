#include "layers/batch_norm.h"

namespace microtome {

Stage batch_norm(BatchNormOptions o) {
  return [=](Node x) {
    Graph& graph = *x.graph;
    const Shape vector{1, 1, 1, x.shape().c};
    graph.row("batch_normalization", o.name);
    std::vector<int> parameters;
    if (o.scale) parameters.push_back(graph.parameter("gamma", vector, {vector.c}, constant(1)));
    parameters.push_back(graph.parameter("beta", vector, {vector.c}, constant(0)));
    parameters.push_back(graph.statistic("moving_mean", vector, 0));
    parameters.push_back(graph.statistic("moving_variance", vector, 1));
    // TensorFlow 2 has a fused kernel, and with it Bessel's correction of the moving variance, for images only, be they 1x1.
    const bool image = !std::holds_alternative<Dense>(graph.ops()[x.op].kind);
    return graph.op(BatchNorm{.scale = o.scale, .epsilon = o.epsilon, .momentum = o.momentum, .bessel = image}, {x},
                    parameters);
  };
}

}  // namespace microtome
