// A DenseNet over p4m after [Veeling2018], to which the study points: what it says of an image is the same in all eight
// symmetries. One layer a block, growth and first maps of 8 (64 channels each); between blocks the mean is taken before the 1x1
// convolution, not after it: the same function at a quarter of the work. The head is the study's, over all pixels and
// symmetries.
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/concat.h"
#include "layers/dense.h"
#include "layers/p4m.h"
#include "layers/pool.h"
#include "nets/nets.h"

#include <fmt/core.h>

namespace microtome {
namespace {

constexpr int growth = 8, blocks = 5;

Stage bn_relu(const std::string& name) {
  return [=](Node x) { return x | batch_norm({.name = name + "bn"}) | relu(name + "relu"); };
}

Stage dense_layer(const std::string& name) {
  return [=](Node x) {
    const Node grown = x | bn_relu(name + "_") | p4m_conv(growth, 3, {.padding = same, .name = name + "_conv"});
    return concat({x, grown}, name + "_concat");
  };
}

Stage transition(const std::string& name) {
  return [=](Node x) {
    return x | bn_relu(name + "_") | p4m_average_pool(name + "_pool") | p4m_conv(x.shape().c, 1, {.name = name + "_conv"});
  };
}

}  // namespace

Node p4m_densenet(Node image, int dense_units) {
  Node x = image | p4m_lift(growth, 3, {.padding = same, .name = "lift"});
  for (int block = 1; block <= blocks; ++block) {
    if (block > 1) x = x | transition(fmt::format("pool{}", block - 1));
    x = x | dense_layer(fmt::format("block{}", block));
  }
  return x | bn_relu("") | global_average_pool() | dense(dense_units, {.activation = Activation::relu}) | logit();
}

}  // namespace microtome
