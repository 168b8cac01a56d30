// From a graph and a batch size to a plan: which ops are fused, who accumulates, what lives when, and where in the arena.
// Each pass is a named function with a test; none knows a backend.
#pragma once

#include "engine/graph.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace microtome {

enum class Mode { train, evaluate };

}  // namespace microtome
