// Cases: what is measured under one name.
#pragma once

#include "bench/check.h"
#include "bench/problems.h"
#include "engine/backend.h"
#include "engine/cost.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace microtome::bench {

/// Ready to be timed.
struct Prepared {
  std::vector<std::function<void()>> instances;  // the same work, each on memory of its own
  Cost cost;                                     // of one
  std::size_t bytes = 0;                         // of one's memory
  int images = 0;                                // that one takes through a whole network
  std::string implementation;
  CheckResult checked;                        // of no elements where nothing was checked
  std::vector<std::shared_ptr<void>> memory;  // of all of them
};

/// Of a warm case the one instance is run again and again. A cold one has so many that, run in turn, each finds none of its
/// memory in a cache.
struct Case {
  std::string name;                 // "conv_forward/resnet50:conv3_block2_2_conv/cuda/bf16/n64", "/deferred" and "/cold" behind
  std::map<std::string, int> uses;  // rows, by network: "resnet50", at other sizes than 96 "resnet50@50"
  bool cold = false;
  bool judged = false;  // a memory-bound op on tensors larger than any cache, which has no excuse to be slower than a copy
  std::function<bool(Backend&)> exists;
  std::function<Prepared(Backend&, bool checks)> prepare;
};

/// What cases are made for.
struct Setting {
  std::string precision;
  int factor_bits = 24;  // of products
  std::vector<int> batches;
  std::size_t large_bytes = 0;  // more than any cache holds
};

/// Every pass of every problem at every batch, warm and cold; and of each memory-bound op its largest problem on a batch whose
/// largest tensor has `large_bytes`.
std::vector<Case> op_cases(const Problems& problems, const Setting& setting, Backend& backend);

/// "cuda" of "cuda:0": as it stands in names.
std::string family(const std::string& device);

}  // namespace microtome::bench
