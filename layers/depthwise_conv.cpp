#include "layers/depthwise_conv.h"

namespace microtome {

Stage depthwise_conv(Extent kernel, DepthwiseConvOptions o) {
  return [=](Node x) {
    Graph& graph = *x.graph;
    const int channels = x.shape().c;
    const double taps = kernel.h * kernel.w;
    graph.row("depthwise_conv2d", o.name);
    // Keras takes its fans from the shape R S C 1 as if that were a full kernel with one output channel.
    const int weights = graph.parameter("kernel", {channels, kernel.h, kernel.w, 1}, {kernel.h, kernel.w, channels, 1},
                                        {o.init.rule, o.init.value, taps * channels, taps});
    return graph.op(Conv{.window = resolve(x.shape(), kernel, o.stride, o.padding), .groups = channels}, {x}, {weights});
  };
}

}  // namespace microtome
