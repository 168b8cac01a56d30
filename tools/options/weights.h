// A file of weights that somebody trained: opened once, for what it says of itself comes before all that is built from it.
#pragma once

#include "data/checkpoint.h"
#include "data/weights.h"
#include "engine/check.h"
#include "nets/nets.h"
#include "tools/options/common.h"

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace microtome {

/// Keras' .h5 or .weights.h5, or a checkpoint.
class TrainedWeights {
 public:
  /// Errors as open_weights() and read_checkpoint().
  explicit TrainedWeights(std::filesystem::path file);

  const std::filesystem::path& file() const { return file_; }
  /// What the file says; of a checkpoint from before there was provenance, what its options say.
  const std::optional<Provenance>& provenance() const { return provenance_; }
  const Checkpoint* checkpoint() const { return std::get_if<Checkpoint>(&content_); }
  const WeightFile* keras() const { return std::get_if<WeightFile>(&content_); }

  /// In the order of Model::weights(), as the run validated them; says what was odd. Where `initial` says what becomes of the
  /// head, a Keras file of the base alone will do. Throws Error(ExitCode::weights) where they do not fit.
  std::vector<float> values(const Network& network, const Graph& graph, Extent image, Terminal& terminal,
                            std::span<const float> initial = {}) const;

  std::filesystem::path file_;
  std::variant<WeightFile, Checkpoint> content_;
  std::optional<Provenance> provenance_;
};

/// Whether the graph is the one that a provenance tells of; and what to throw where the file holds another.
bool says(const std::optional<Provenance>& provenance, const Network& network, const Graph& graph, Extent image);
[[noreturn]] void fail_contradiction(const Provenance& provenance, const Error& misfit);

void add_weights(Arguments& arguments, Settings& settings);  // required: what a network is judged with

/// Settings that the command line leaves open become those of the weights' training: network, dense units, preprocessing, how
/// the data were split, batch size. Says what overrides what, or what is assumed of a file that says nothing. Throws
/// Error(ExitCode::usage) where nobody says the network.
void take_over(const TrainedWeights& weights, const Arguments& arguments, Settings& settings, Terminal& terminal);

/// The network as the run validated it: in the same graph the same weights give the same bits.
Graph as_validated(const TrainedWeights& weights, const Settings& settings, const Network& network, Extent image);

/// Says where the images' size is not the weights'.
void compare_size(const TrainedWeights& weights, Extent image, Terminal& terminal);

/// Says how much of `images` the weights have learned from. `what`: "the test split".
Overlap say_overlap(const Provenance& provenance, const Images& images, std::string_view what, Terminal& terminal);

}  // namespace microtome
