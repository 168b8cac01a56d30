// Multiply of Keras, for a gate that each image has a channel.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

/// x: H W C, gate: 1 1 C.
Node multiply(Node x, Node gate, std::string name = {});

}  // namespace microtome
