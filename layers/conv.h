// Conv2D of Keras: one row, cross-correlation, with an activation of the row if asked for.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

struct ConvOptions {
  Extent stride = 1;
  Padding padding = valid;
  bool bias = true;
  Activation activation = Activation::none;
  Initializer init{Initializer::Rule::glorot_uniform, 1};  // of the kernel [Glorot2010]; the layer fills in the fans
  std::string name;
};

/// H W C -> P Q filters. Zero bias.
Stage conv(int filters, Extent kernel, ConvOptions options = {});

}  // namespace microtome
