// x gate(x), gate = sigmoid(b2 + w2 swish(b1 + w1 mean over H W of x)) [Hu2018, eq. 2-4], swish in relu's place as in
// EfficientNet. Five rows: squeeze, reshape, reduce, expand, excite.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

struct SqueezeExciteOptions {
  Initializer init{Initializer::Rule::glorot_uniform, 1};  // of both kernels
  std::string prefix;                                      // of the rows' names: "block4a_se_"
};

/// `reduced`: channels between the two 1x1 convolutions.
Stage squeeze_excite(int reduced, SqueezeExciteOptions options);

}  // namespace microtome
