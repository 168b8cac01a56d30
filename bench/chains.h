// Batch-norm, convolution, batch-norm: every distinct such chain of the networks, with its activations, fused and not.
#pragma once

#include "bench/cases.h"
#include "bench/declining.h"
#include "engine/graph.h"

#include <map>
#include <string>
#include <vector>

namespace microtome::bench {

/// x -> batch-norm, `before` -> convolution, padded within -> batch-norm, `behind`.
struct Chain {
  Shape x;  // of an image
  Window window;
  int channels = 0;  // of the convolution's output
  bool depthwise = false, bias = false;
  Activation before = Activation::none, behind = Activation::none;
  bool scale_before = true, scale_behind = true;

  std::string label = {};                // of the first convolution that has it: "resnet50:conv3_block2_2_conv"
  std::map<std::string, int> uses = {};  // convolutions, by network

  bool same_work(const Chain& other) const;
};

/// Of the networks at each of these sizes that they can be built at.
std::vector<Chain> chains(const std::vector<int>& sizes);

/// As a network of its own: in front a 1 x 1 convolution of few channels, which makes x and may leave statistics of it; behind
/// global average pooling, the lightest of readers, and a logit.
Graph graph_of(const Chain& chain);

/// Whether with this kind of fusion the backend does something else than with more of it.
bool differs(const Chain& chain, Fusion fusion, int images, Backend& backend);

/// chain_forward and chain_step (forward, loss, backward, Adam) of each, with each kind of fusion:
/// "chain_forward/resnet50:conv3_block2_2_conv/fused/cuda/bf16/n64".
std::vector<Case> chain_cases(const std::vector<int>& sizes, const Setting& setting, Backend& backend);

}  // namespace microtome::bench
