// The networks as a whole: a forward pass as in validation, a training step.
#pragma once

#include "bench/cases.h"

#include <vector>

namespace microtome::bench {

/// network_forward and network_step (gather, forward, loss, backward, Adam) of each network at each of these sizes that it can
/// be built at: "network_step/resnet50/cuda/bf16/n64".
std::vector<Case> network_cases(const std::vector<int>& sizes, const Setting& setting, Backend& backend);

}  // namespace microtome::bench
