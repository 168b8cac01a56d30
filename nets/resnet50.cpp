// ResNet50, version 1 [He2016, Table 1, 50-layer], as Keras publishes it: the stride is in a block's first 1x1 convolution, and
// every convolution has a bias.
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/pool.h"
#include "layers/zero_pad.h"
#include "nets/nets.h"

#include <fmt/core.h>

namespace microtome {
namespace {

Stage conv_bn(int filters, Extent kernel, const ConvOptions& o) {
  return [=](Node x) {
    ConvOptions named = o;
    named.name = o.name + "_conv";
    return x | conv(filters, kernel, named) | batch_norm({.epsilon = 1.001e-5f, .name = o.name + "_bn"});
  };
}

Stage conv_bn_relu(int filters, Extent kernel, const ConvOptions& o) {
  return [=](Node x) { return x | conv_bn(filters, kernel, o) | relu(o.name + "_relu"); };
}

enum class Shortcut { identity, projection };

Node bottleneck(Node x, int filters, Extent stride, Shortcut kind, const std::string& name) {  // [He2016, Fig. 5, right]
  const Node shortcut = kind == Shortcut::projection ? x | conv_bn(4 * filters, 1, {.stride = stride, .name = name + "_0"}) : x;
  const Node residual = x | conv_bn_relu(filters, 1, {.stride = stride, .name = name + "_1"}) |
                        conv_bn_relu(filters, 3, {.padding = same, .name = name + "_2"}) |
                        conv_bn(4 * filters, 1, {.name = name + "_3"});
  return add(shortcut, residual, name + "_add") | relu(name + "_out");
}

}  // namespace

Node resnet50(Node image) {
  struct Stack {
    int filters, blocks, stride;
  };
  constexpr Stack conv2_to_5[]{{64, 3, 1}, {128, 4, 2}, {256, 6, 2}, {512, 3, 2}};

  Node x = image | zero_pad(zeros(3), "conv1_pad") | conv_bn_relu(64, 7, {.stride = 2, .name = "conv1"}) |
           zero_pad(zeros(1), "pool1_pad") | max_pool(3, {.stride = 2, .name = "pool1_pool"});
  int stack = 1;
  for (const auto [filters, blocks, stride] : conv2_to_5) {
    ++stack;
    x = bottleneck(x, filters, stride, Shortcut::projection, fmt::format("conv{}_block1", stack));
    for (int i = 2; i <= blocks; ++i)
      x = bottleneck(x, filters, 1, Shortcut::identity, fmt::format("conv{}_block{}", stack, i));
  }
  return x;
}

Node resnet50_top(Node x) {
  return x | global_average_pool("avg_pool") | classifier(1000, "predictions");
}

}  // namespace microtome
