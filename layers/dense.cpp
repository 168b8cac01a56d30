#include "layers/dense.h"

#include "layers/activation.h"

namespace microtome {

Stage dense(int units, DenseOptions o) {
  return [=](Node x) {
    Graph& graph = *x.graph;
    const int channels = x.shape().c;
    graph.row("dense", o.name);
    std::vector<int> weights{graph.parameter("kernel", {1, 1, channels, units}, {channels, units},
                                             {Initializer::Rule::glorot_uniform, 1, double(channels), double(units)})};
    if (o.bias) weights.push_back(graph.parameter("bias", {1, 1, 1, units}, {units}, constant(0)));
    return activation_of_row(graph.op(Dense{.bias = o.bias}, {x}, weights), o.activation);
  };
}

Stage classifier(int classes, std::string name) {
  return [=](Node x) {
    const Node z = x | dense(classes, {.name = name});
    z.graph->activation_of_row("softmax");
    return z;
  };
}

Stage logit(std::string name) {
  return [=](Node x) {
    const Node z = x | dense(1, {.name = name});
    z.graph->activation_of_row(keras_name(Activation::sigmoid));
    return z;
  };
}

}  // namespace microtome
