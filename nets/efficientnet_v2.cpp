// EfficientNetV2-B0, -B1 and -B2 [Tan2021, Table 4, the "B" variants of its code], as Keras publishes them: images of 0 .. 255
// are normalised inside, batch-norm keeps 0.9, stochastic depth grows from 0 with the block's number over the unscaled 21
// blocks.
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/depthwise_conv.h"
#include "layers/dropout.h"
#include "layers/normalization.h"
#include "layers/pool.h"
#include "layers/squeeze_excite.h"
#include "nets/nets.h"

#include <fmt/core.h>

#include <cmath>

namespace microtome {
namespace {

constexpr Initializer init{Initializer::Rule::variance_scaling_fan_out, 2};

Stage bn(const std::string& name) {
  return batch_norm({.momentum = 0.9f, .name = name});
}

Stage conv_bn(int filters, Extent kernel, Extent stride, const std::string& name) {
  return [=](Node x) {
    return x | conv(filters, kernel, {.stride = stride, .padding = same, .bias = false, .init = init, .name = name + "conv"}) |
           bn(name + "bn");
  };
}

Stage conv_bn_swish(int filters, Extent kernel, Extent stride, const std::string& name) {
  return [=](Node x) { return x | conv_bn(filters, kernel, stride, name) | swish(name + "activation"); };
}

struct Block {
  int filters, expansion, stride;
  float drop;
  std::string name;
};

Node fused_mbconv(Node x, const Block& b) {  // [Tan2021, Fig. 2, right], without squeeze-excite
  if (b.expansion == 1) return x | conv_bn_swish(b.filters, 3, b.stride, b.name + "project_");
  return x | conv_bn_swish(b.expansion * x.shape().c, 3, b.stride, b.name + "expand_") |
         conv_bn(b.filters, 1, 1, b.name + "project_");
}

Node mbconv(Node x, const Block& b) {  // [Tan2021, Fig. 2, left]
  return x | conv_bn_swish(b.expansion * x.shape().c, 1, 1, b.name + "expand_") |
         depthwise_conv(3, {.stride = b.stride, .padding = same, .init = init, .name = b.name + "dwconv2"}) |
         bn(b.name + "bn") | swish(b.name + "activation") |
         squeeze_excite(x.shape().c / 4, {.init = init, .prefix = b.name + "se_"}) |
         conv_bn(b.filters, 1, 1, b.name + "project_");
}

using Kind = Node (*)(Node, const Block&);

Node residual(Node x, Kind kind, const Block& b) {
  Node y = kind(x, b);
  if (b.stride != 1 || b.filters != x.shape().c) return y;
  if (b.drop > 0) y = y | dropout(b.drop, {.per_image = true, .name = b.name + "drop"});
  return add(y, x, b.name + "add");
}

Node efficientnet_v2(Node image, double width, double depth) {
  struct Row {
    Kind kind;
    int stride, expansion, channels, layers;
  };
  constexpr Row table[]{
      {fused_mbconv, 1, 1, 16, 1}, {fused_mbconv, 2, 4, 32, 2}, {fused_mbconv, 2, 4, 48, 2},
      {mbconv, 2, 4, 96, 3},       {mbconv, 1, 6, 112, 5},      {mbconv, 2, 6, 192, 8},
  };
  constexpr float drop_at_the_end = 0.2f, blocks_unscaled = 1 + 2 + 2 + 3 + 5 + 8;
  const auto scaled = [&](int channels) { return static_cast<int>(channels * width + 4) / 8 * 8; };

  Node x = image | rescaling(255) | normalization({0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}) |
           conv_bn_swish(scaled(32), 3, 2, "stem_");
  int stage = 0, blocks = 0;
  for (const Row& row : table) {
    ++stage;
    const int layers = static_cast<int>(std::ceil(depth * row.layers));
    for (int i = 0; i < layers; ++i, ++blocks) {
      const std::string name = fmt::format("block{}{}_", stage, static_cast<char>('a' + i));
      const float drop = drop_at_the_end * blocks / blocks_unscaled;
      x = residual(x, row.kind, {scaled(row.channels), row.expansion, i == 0 ? row.stride : 1, drop, name});
    }
  }
  return x | conv_bn_swish(scaled(1280), 1, 1, "top_");
}

}  // namespace

Node efficientnet_v2_b0(Node image) {
  return efficientnet_v2(image, 1.0, 1.0);
}
Node efficientnet_v2_b1(Node image) {
  return efficientnet_v2(image, 1.0, 1.1);
}
Node efficientnet_v2_b2(Node image) {
  return efficientnet_v2(image, 1.1, 1.2);
}

Node efficientnet_v2_top(Node x) {
  return x | global_average_pool("avg_pool") | dropout(0.2f, {.name = "top_dropout"}) | classifier(1000, "predictions");
}

}  // namespace microtome
