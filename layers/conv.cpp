#include "layers/conv.h"

#include "layers/activation.h"

namespace microtome {

Stage conv(int filters, Extent kernel, ConvOptions o) {
  return [=](Node x) {
    Graph& graph = *x.graph;
    const int channels = x.shape().c;
    const double taps = kernel.h * kernel.w;
    graph.row("conv2d", o.name);
    std::vector<int> weights{graph.parameter("kernel", {filters, kernel.h, kernel.w, channels},
                                             {kernel.h, kernel.w, channels, filters},
                                             {o.init.rule, o.init.value, taps * channels, taps * filters})};
    if (o.bias) weights.push_back(graph.parameter("bias", {1, 1, 1, filters}, {filters}, constant(0)));
    const Conv kind{.window = resolve(x.shape(), kernel, o.stride, o.padding), .bias = o.bias};
    return activation_of_row(graph.op(kind, {x}, weights), o.activation);
  };
}

}  // namespace microtome
