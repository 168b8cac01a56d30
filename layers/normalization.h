// Rescaling and Normalization of Keras, with fixed figures: y = (x - mean) / divisor per channel.
#pragma once

#include "engine/graph.h"

#include <array>
#include <string>

namespace microtome {

/// y = x / divisor.
Stage rescaling(float divisor, std::string name = {});

Stage normalization(std::array<float, 3> mean, std::array<float, 3> deviation, std::string name = {});

}  // namespace microtome
