// BatchNormalization of Keras: statistics over all but the channels [Ioffe2015].
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

struct BatchNormOptions {
  float epsilon = 1e-3f;
  float momentum = 0.99f;  // the share that the moving statistics keep
  bool scale = true;       // gamma
  std::string name;
};

Stage batch_norm(BatchNormOptions options = {});

}  // namespace microtome
