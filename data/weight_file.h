// Keras' weight files as they are, before any network is thought of. Legacy .h5: attributes layer_names and weight_names order
// the datasets; the root or its group model_weights holds them. Keras 3's .weights.h5: layers/<class>[_n]/vars/<i>, where n
// counts layers of a class.
#pragma once

#include "data/provenance.h"

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace microtome {

struct WeightFile {
  enum class Layout { legacy, keras3 };
  struct Tensor {
    std::string name;        // "conv1_conv/kernel:0", or its number in Keras 3's layout
    std::vector<int> shape;  // Keras' order
    std::vector<float> values;
  };
  struct Layer {
    std::string name;   // the layer's own where the file says it, else its group's
    bool named = true;  // it is the layer's own
    std::string kind;   // Keras 3's layout: the class in snake case; else empty
    std::vector<Tensor> weights;
  };

  std::filesystem::path path;
  Layout layout = Layout::legacy;
  std::vector<Layer> layers;       // those with weights; legacy: in the model's order; Keras 3's: by class, then by number
  std::vector<std::string> notes;  // what was odd but harmless
  std::optional<Provenance> provenance;  // of files that we wrote
};

/// SHA-256 of all names of layers, shapes (Keras' order) and values, in hexadecimal; the same in both layouts. A layer's
/// tensors come in its own order, layers in any.
class TensorsDigest {
 public:
  void add(const std::string& layer, std::span<const int> shape, std::span<const float> values);
  std::string result() const;

 private:
  std::map<std::string, std::string> layers_;  // shapes and digests of its tensors
};
std::string tensors_digest(const WeightFile& file);

/// Throws Error(ExitCode::weights) where the file is missing, damaged or no weight file; where it holds their digest, a single
/// changed bit of the tensors counts as damage.
WeightFile open_weights(const std::filesystem::path& file);

}  // namespace microtome
