// The rules by which a network's depth is counted; the study's Table 1 mixes the first two.
#pragma once

#include "nets/nets.h"

namespace microtome {

struct LayerCounts {
  int keras_layers = 0;   // len(model.layers)
  int weight_layers = 0;  // layers that have weights
  int longest_path = 0;   // convolutions and dense layers on the longest way from image to output: the 50 in ResNet50's name
};
LayerCounts count_layers(const Network& network, const Graph& graph);

}  // namespace microtome
