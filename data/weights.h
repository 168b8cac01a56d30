// Keras' weight files. Legacy .h5: attributes layer_names and weight_names order the datasets; the root or its group
// model_weights holds them. Keras 3's .weights.h5: layers/<class>[_n]/vars/<i>, where n counts layers of a class.
// Both are matched by position, as Keras does, with every shape checked; names are a cross-check where they mean something.
#pragma once

#include "engine/graph.h"

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace microtome {

struct WeightFile {
  enum class Layout { legacy, keras3 };
  struct Tensor {
    std::string name;        // "kernel:0", or its number in Keras 3's layout
    std::vector<int> shape;  // Keras' order
    std::vector<float> values;
  };
  struct Layer {
    std::string name;  // the layer's own where the file says it, else its group's
    std::string kind;  // Keras 3's layout: the class in snake case; else empty
    std::vector<Tensor> weights;
  };

  Layout layout = Layout::legacy;
  std::vector<Layer> layers;       // those with weights; legacy: in the model's order
  std::vector<std::string> notes;  // what was odd but harmless
};

/// Throws Error(ExitCode::weights) where the file is missing, damaged or no weight file.
WeightFile open_weights(const std::filesystem::path& file);

/// All parameters of `graph` in the order of Model::weights(). Throws Error(ExitCode::weights) for a file that does not fit,
/// naming the layer's index and name, and both shapes. `notes`: names that differ where shapes agree.
std::vector<float> read_weights(const std::filesystem::path& file, const Graph& graph,
                                std::vector<std::string>* notes = nullptr);

/// Keras 3's layout where the name ends in ".weights.h5", else the legacy one; `weights` as Model::weights(). The file appears
/// whole or not at all; throws Error(ExitCode::memory) where the disk is full or refuses.
void write_weights(const std::filesystem::path& file, const Graph& graph, std::span<const float> weights);

}  // namespace microtome
