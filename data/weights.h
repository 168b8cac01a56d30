// A network's parameters from and to Keras' weight files, both layouts. They are matched by position in the order of Keras'
// model.layers, as Keras does, with every shape checked; names are a cross-check where they mean something.
#pragma once

#include "data/weight_file.h"
#include "engine/model.h"

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace microtome {

struct LoadedWeights {
  std::vector<float> values;       // in the order of Model::weights()
  bool whole = true;               // else the file holds the base alone, and the head keeps its initial values
  std::vector<std::string> notes;  // what was odd but harmless
};

/// Of ExitCode::weights: layers and shapes are the network's, and a value is none that it can have.
class UnsoundWeights : public Error {
 public:
  using Error::Error;
};

/// A file of the network, whole; or, where `initial` (as Model::weights()) says what becomes of the head, a file of its base
/// alone or under the 1000 classes of ImageNet. Throws Error(ExitCode::weights) for a file that does not fit, naming the
/// layer's index and name, and both shapes; UnsoundWeights for one that fits and holds NaN, say.
LoadedWeights fit_weights(const WeightFile& file, const Graph& graph, std::span<const float> initial = {});
LoadedWeights read_weights(const std::filesystem::path& file, const Graph& graph, std::span<const float> initial = {});

/// Keras 3's layout where the name ends in ".weights.h5", else the legacy one; `weights` as Model::weights(). `provenance`,
/// whose digest of the tensors is made here, becomes an attribute of the root, which Keras passes over. The file appears whole
/// or not at all; throws Error(ExitCode::memory) where the disk is full or refuses.
void write_weights(const std::filesystem::path& file, const Graph& graph, std::span<const float> weights,
                   const std::optional<Provenance>& provenance = {});
void write_weights(const std::filesystem::path& file, const Model& model, const std::optional<Provenance>& provenance = {});

/// As tensors_digest() of the file that they would make.
std::string tensors_digest(const Graph& graph, std::span<const float> weights);

}  // namespace microtome
