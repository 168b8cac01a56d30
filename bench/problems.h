// What all networks ask of a backend, each distinct problem once: enumerated from the networks as the planner lowers
// them for training, never typed.
#pragma once

#include "engine/graph.h"
#include "nets/nets.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace microtome::bench {

/// What a step does beside the ops of a graph.
struct TransformFilters {
  P4m p4m = P4m::lift;
  bool operator==(const TransformFilters&) const = default;
};
struct NormCorrection {
  bool operator==(const NormCorrection&) const = default;
};
struct TakeBatch {
  bool operator==(const TakeBatch&) const = default;
};
struct TakeLoss {
  bool operator==(const TakeLoss&) const = default;
};
struct Update {
  bool operator==(const Update&) const = default;
};

/// One op on shapes of one image. Options that change numbers and not work (epsilon, momentum, rate, a seed's stream) are left
/// at their defaults, so that they tell no two problems apart.
struct Problem {
  using Kind = RunningKinds::VariantWith<TransformFilters, NormCorrection, TakeBatch, TakeLoss, Update>;

  std::string op;  // "conv", "depthwise_conv", "copy", …
  Kind kind;
  std::vector<Shape> inputs = {};  // of Update: 1 1 1 COUNT; of TransformFilters the parameter, whatever the batch
  Shape output;
  bool reads_image = false;    // whose pixels get room for more channels where a backend wants it
  bool makes_logits = false;   // of the parameters' type
  bool deferred = false;       // as the planner asks for it where a backend defers batch-norms, or leaves statistics for them
  bool needs_gradient = true;  // of inputs[0], in one network at least

  std::string label =
      {};  // of the first row that has it: "resnet50:conv3_block2_2_conv", at other sizes than 96 "resnet50@50:…"
  using Where = std::pair<std::string, int>;  // a network, an image's side
  std::map<Where, int> uses = {};             // rows

  int total_uses() const;
  bool same_work(const Problem& other) const;
};

struct Problems {
  std::vector<Problem> all;               // in the order in which the networks have them
  std::vector<Problem::Where> too_small;  // networks that cannot be built at a size
};

/// Whether it has no batch.
bool is_update(const Problem& problem);

/// "resnet50"; at another size than 96, "resnet50@50".
std::string label_of(const Problem::Where& where);

/// Of a training step of each network, frozen nothing, with the study's head.
Problems enumerate(const std::vector<int>& sizes);

/// The names of the passes that there are of an op: "forward", "backward_data", …
std::vector<std::string> passes_of(const Problem& problem);

}  // namespace microtome::bench
