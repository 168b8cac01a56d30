// Flatten of Keras: H W C -> 1 1 HWC, row-major; costs nothing.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

Stage flatten(std::string name = {});

}  // namespace microtome
