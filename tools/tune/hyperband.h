// Hyperband as KerasTuner 1.0 runs it, one trial after another [Li2018; Bonnet2021]: brackets of successive halving, from the
// one with the most trials to the one with the fewest; what goes on to the next round is a new trial that begins with its
// parent's best weights. What comes next follows from the trials so far, so that whoever keeps these can stop at any moment.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// One dimension of the space that is searched.
struct Dimension {
  enum class Kind { logarithmic, stepped, choice };
  std::string name;  // "lr", "batch-size", "dense-units"
  Kind kind = Kind::choice;
  double low = 0, high = 0, step = 0;
  std::vector<double> choices;
  bool whole = false;            // draws on a logarithmic scale are rounded
  bool first_is_lowest = false;  // of the first trial: KerasTuner learns of what a trial declares late only after drawing it
};

/// "lr=1e-5..1e-2:log, batch-size=32..256:32, dense-units=128|256|512|1024", or the study's own: "paper" (lr and batch size:
/// InceptionV3, VGG19), "paper-dense" (and dense units: B2, B6). Throws Error(ExitCode::usage).
std::vector<Dimension> parse_space(std::string_view text);

/// Leaves of a dimension what is at most so large. Throws Error(ExitCode::usage) where nothing is. True where it took away
/// something.
bool limit(Dimension& dimension, double highest);

using Hyperparameters = std::map<std::string, double>;

struct HyperbandOptions {
  int max_epochs = 10, factor = 3, iterations = 1;  // factor > 1
  std::uint64_t seed = 0;
};

/// A round of an iteration, in the order in which they are run.
struct HalvingRound {
  int bracket = 0, round = 0;
  int trials = 0;
  int initial_epoch = 0, epochs = 0;  // trained from … to
  bool operator==(const HalvingRound&) const = default;
};
std::vector<HalvingRound> halving_rounds(int max_epochs, int factor);

struct Trial {
  int id = 0;         // from 1
  int iteration = 0;  // from 0
  int bracket = 0, round = 0;
  int parent = 0;  // 0: none
  int initial_epoch = 0, epochs = 0;
  Hyperparameters values;
  std::optional<double> score;  // its best validation accuracy; none where it failed
};

/// The trial after these, all of which have ended; nothing at the end of the last iteration, or where twenty draws in a row
/// gave values that there were.
std::optional<Trial> next_trial(const HyperbandOptions& options, std::span<const Dimension> space,
                                std::span<const Trial> ended);

}  // namespace microtome
