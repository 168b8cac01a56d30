// DenseNet-121, -169 and -201 [Huang2017, Table 1]: DenseNet-BC with growth rate 32 and compression 0.5, without dropout.
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/concat.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/pool.h"
#include "layers/zero_pad.h"
#include "nets/nets.h"

#include <fmt/core.h>

#include <array>

namespace microtome {
namespace {

constexpr int growth = 32;

Stage bn_relu(const std::string& name) {
  return [=](Node x) { return x | batch_norm({.epsilon = 1.001e-5f, .name = name + "bn"}) | relu(name + "relu"); };
}

Stage dense_layer(const std::string& name) {
  return [=](Node x) {
    const Node grown = x | bn_relu(name + "_0_") | conv(4 * growth, 1, {.bias = false, .name = name + "_1_conv"}) |
                       bn_relu(name + "_1_") | conv(growth, 3, {.padding = same, .bias = false, .name = name + "_2_conv"});
    return concat({x, grown}, name + "_concat");
  };
}

Stage transition(const std::string& name) {
  return [=](Node x) {
    return x | bn_relu(name + "_") | conv(x.shape().c / 2, 1, {.bias = false, .name = name + "_conv"}) |
           average_pool(2, {.name = name + "_pool"});
  };
}

Node densenet(Node image, const std::array<int, 4>& layers) {
  Node x = image | zero_pad(zeros(3)) | conv(64, 7, {.stride = 2, .bias = false, .name = "conv1_conv"}) | bn_relu("conv1_") |
           zero_pad(zeros(1)) | max_pool(3, {.stride = 2, .name = "pool1"});
  for (int block = 2; block <= 5; ++block) {
    if (block > 2) x = x | transition(fmt::format("pool{}", block - 1));
    for (int i = 1; i <= layers[block - 2]; ++i) x = x | dense_layer(fmt::format("conv{}_block{}", block, i));
  }
  return x | bn_relu("");
}

}  // namespace

Node densenet121(Node image) {
  return densenet(image, {6, 12, 24, 16});
}
Node densenet169(Node image) {
  return densenet(image, {6, 12, 32, 32});
}
Node densenet201(Node image) {
  return densenet(image, {6, 12, 48, 32});
}

Node densenet_top(Node x) {
  return x | global_average_pool("avg_pool") | classifier(1000, "predictions");
}

}  // namespace microtome
