// What a network is trained from, how and on what: options that `train` and `profile` share, and what they open.
#pragma once

#include "data/provenance.h"
#include "engine/fit.h"
#include "engine/model.h"
#include "tools/cli/json.h"
#include "tools/options/common.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace microtome {

struct TrainingSettings : Settings {
  int first_epoch = 0;
  double learning_rate = 1e-3;
  std::string weights_folder, mode = "full", features = "keep", moving_variance = "tf2", statistics = "auto", graph = "step",
                              augment = "none";
  std::uint64_t seed = 0;
  bool shuffle = true, dropout = true;
};

void add_start(Arguments& arguments, TrainingSettings& settings);  // what learns, and from which weights
void add_weights_folder(Arguments& arguments, TrainingSettings& settings);
void add_statistics(Arguments& arguments, TrainingSettings& settings);
void add_steps(Arguments& arguments, TrainingSettings& settings);  // how it learns
void add_optimizer(Arguments& arguments, TrainingSettings& settings);
void add_graph(Arguments& arguments, TrainingSettings& settings);

/// Options that exclude each other, and published weights that are missing, are told before the data are read.
void require_consistent(const TrainingSettings& settings, const Network& network);

std::filesystem::path weights_file(const TrainingSettings& settings);

/// Moving averages of momentum 0.99 look back some hundred steps. Where an epoch is not many times that, they describe networks
/// long gone, and at first the initial 0 and 1.
bool averages_trail(std::int64_t train_images, int batch_size);

/// What a run trains, and on what.
struct Job {
  Dataset data;
  Model model;
  FitOptions options;                 // of one epoch
  std::optional<Provenance> initial;  // of --weights, once they are in the model

  Job(const TrainingSettings& settings, const Network& network, Backend& backend, Splits splits, Terminal& terminal);
  Job(const TrainingSettings& settings, const Network& network, Backend& backend, Dataset data, Terminal& terminal);

  /// Initial weights, from the seed or from --weights.
  void initialize(const TrainingSettings& settings, const Network& network, Terminal& terminal);

  /// Of what the job trains, but for the commit.
  Provenance provenance(const TrainingSettings& settings) const;
};

/// Whether the data set's images, in their splits, are those of a result's `split_digests`. Reads them all.
bool has_images_of(const TrainingSettings& settings, const Json& split_digests, Terminal& terminal);

}  // namespace microtome
