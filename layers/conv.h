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
  std::string name;
};

/// H W C -> P Q filters. Glorot-uniform kernel [Glorot2010], zero bias.
Stage conv(int filters, Extent kernel, ConvOptions options = {});

}  // namespace microtome
