// Reshape of Keras: the same elements under another shape; costs nothing.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

/// shape.n is ignored.
Stage reshape(Shape shape, std::string name = {});

}  // namespace microtome
