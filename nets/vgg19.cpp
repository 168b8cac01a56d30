// VGG19 [Simonyan2014, Table 1, column E]: 16 convolutions and 3 dense layers, no batch-norm.
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/flatten.h"
#include "layers/pool.h"
#include "nets/nets.h"

#include <fmt/core.h>

namespace microtome {

Node vgg19(Node x) {
  struct Block {
    int convolutions, filters;
  };
  constexpr Block column_e[]{{2, 64}, {2, 128}, {4, 256}, {4, 512}, {4, 512}};

  int block = 0;
  for (const auto [convolutions, filters] : column_e) {
    ++block;
    for (int i = 1; i <= convolutions; ++i) {
      const std::string name = fmt::format("block{}_conv{}", block, i);
      x = x | conv(filters, 3, {.padding = same, .activation = Activation::relu, .name = name});
    }
    x = x | max_pool(2, {.name = fmt::format("block{}_pool", block)});
  }
  return x;
}

Node vgg19_top(Node x) {
  return x | flatten("flatten") | dense(4096, {.activation = Activation::relu, .name = "fc1"}) |
         dense(4096, {.activation = Activation::relu, .name = "fc2"}) | classifier(1000, "predictions");
}

}  // namespace microtome
