// Concatenate of Keras: images of one size side by side in the channels.
#pragma once

#include "engine/graph.h"

#include <string>
#include <vector>

namespace microtome {

Node concat(const std::vector<Node>& inputs, std::string name = {});

}  // namespace microtome
