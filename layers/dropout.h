// Dropout of Keras: inverted, the identity outside training [Srivastava2014].
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

Stage dropout(float rate, std::string name = {});

}  // namespace microtome
