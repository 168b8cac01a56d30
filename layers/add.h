// Add of Keras: a residual reads `shortcut + (x | ...)`.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

Node add(Node a, Node b, std::string name = {});
Node operator+(Node a, Node b);

}  // namespace microtome
