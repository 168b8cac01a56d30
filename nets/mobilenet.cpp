// MobileNet [Howard2017, Table 1], alpha = 1, as Keras publishes it: ReLU6, and where a depthwise convolution strides, zeros
// below and right alone, whatever the image's parity.
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/depthwise_conv.h"
#include "layers/dropout.h"
#include "layers/pool.h"
#include "layers/reshape.h"
#include "layers/zero_pad.h"
#include "nets/nets.h"

#include <fmt/core.h>

namespace microtome {
namespace {

Stage bn_relu6(const std::string& name) {
  return [=](Node x) { return x | batch_norm({.name = name + "_bn"}) | relu6(name + "_relu"); };
}

Stage conv_dw(Extent stride, int block) {
  const std::string name = fmt::format("conv_dw_{}", block);
  return [=](Node x) {
    if (stride == 1) return x | depthwise_conv(3, {.padding = same, .name = name}) | bn_relu6(name);
    return x | zero_pad(zeros(0, 1), fmt::format("conv_pad_{}", block)) | depthwise_conv(3, {.stride = stride, .name = name}) |
           bn_relu6(name);
  };
}

Stage conv_pw(int filters, int block) {
  const std::string name = fmt::format("conv_pw_{}", block);
  return [=](Node x) { return x | conv(filters, 1, {.bias = false, .name = name}) | bn_relu6(name); };
}

}  // namespace

Node mobilenet(Node image) {
  struct Block {
    int stride, filters;
  };
  constexpr Block blocks[]{{1, 64},  {2, 128}, {1, 128}, {2, 256}, {1, 256},  {2, 512}, {1, 512},
                           {1, 512}, {1, 512}, {1, 512}, {1, 512}, {2, 1024}, {1, 1024}};

  Node x = image | conv(32, 3, {.stride = 2, .padding = same, .bias = false, .name = "conv1"}) | bn_relu6("conv1");
  int block = 0;
  for (const auto [stride, filters] : blocks) {
    ++block;
    x = x | conv_dw(stride, block) | conv_pw(filters, block);
  }
  return x;
}

Node mobilenet_top(Node x) {
  return x | global_average_pool() | dropout(1e-3f, {.name = "dropout"}) | conv(1000, 1, {.name = "conv_preds"}) |
         reshape({1, 1, 1, 1000}, "reshape_2") | softmax("predictions");
}

}  // namespace microtome
