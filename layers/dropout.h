// Dropout of Keras: inverted, the identity outside training [Srivastava2014].
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

struct DropoutOptions {
  bool per_image = false;  // whole images, not elements: stochastic depth [Huang2016]; Keras' noise_shape (None, 1, 1, 1)
  std::string name;
};

Stage dropout(float rate, DropoutOptions options = {});

}  // namespace microtome
