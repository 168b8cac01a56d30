// DepthwiseConv2D of Keras: a filter a channel, no bias [Howard2017, eq. 3].
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

struct DepthwiseConvOptions {
  Extent stride = 1;
  Padding padding = valid;
  Initializer init{Initializer::Rule::glorot_uniform, 1};  // the layer fills in the fans
  std::string name;
};

/// H W C -> P Q C.
Stage depthwise_conv(Extent kernel, DepthwiseConvOptions options = {});

}  // namespace microtome
