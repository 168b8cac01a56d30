// What there is to measure, without measuring it.
#pragma once

#include "bench/problems.h"
#include "engine/backend.h"

#include <functional>
#include <string>
#include <vector>

namespace microtome::bench {

/// Distinct problems and the rows that they stand for, by op and by network.
std::string table(const Problems& problems);
std::string json(const Problems& problems);

/// Of algorithms.
struct Choice {
  std::string name;  // "conv/resnet50:conv1_conv/n64"
  std::string what;  // that a convolution gets for each pass
};

/// Of those whose names are wanted.
std::vector<Choice> choices(const Problems& problems, const std::vector<int>& batches,
                            const std::function<bool(const std::string&)>& wanted, Backend& backend);
std::string table(const std::vector<Choice>& choices);
std::string json(const std::vector<Choice>& choices);

}  // namespace microtome::bench
