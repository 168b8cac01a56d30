// ZeroPadding2D of Keras: cells around the image, so many whatever its size.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

/// zero_pad(zeros(3)), zero_pad(zeros(0, 1)).
Stage zero_pad(Padding padding, std::string name = {});

}  // namespace microtome
