// What there is to measure, without measuring it.
#pragma once

#include "bench/problems.h"
#include "engine/backend.h"

#include <string>
#include <vector>

namespace microtome::bench {

/// Distinct problems and the rows that they stand for, by op and by network.
std::string table(const Problems& problems);
std::string json(const Problems& problems);

/// The plan that each convolution would get whose name fits: "label/n64: forward cudnn engine 62, …".
std::string plans(const Problems& problems, const std::vector<int>& batches, Backend& backend);

}  // namespace microtome::bench
