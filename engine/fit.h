// The epoch loop: train, validate, keep the best epoch, resume bit for bit. Inside an epoch the host only queues steps; it
// waits for the device at an epoch's end, to save, and to stop.
#pragma once

#include "engine/dataset.h"
#include "engine/model.h"
#include "engine/preprocessing.h"

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

/// Population statistics are means over as many batches, spread over the training set, or over all where it has fewer.
inline constexpr int population_batches = 128;

struct FitOptions {
  int epochs = 15;      // [Bonnet2021]
  int first_epoch = 0;  // epochs that the weights have behind them: the run ends when there are `epochs` with these
  int batch_size = 32;  // [Bonnet2021]
  float learning_rate = 1e-3f;
  std::uint64_t seed = 0;
  bool shuffle = true;
  /// Validate, and keep as best, with population statistics [Ioffe2015, alg. 2]: batch-norm's mean and unbiased variance
  /// averaged over batches of training images with the weights as they are, dropout off. Keras' moving averages, which go on as
  /// ever in the run itself, trail the weights by some 100 steps; where an epoch has fewer, they describe a network long gone.
  bool population_statistics = false;
  Preprocessing pixels;
  Augment augment;  // of the images that the network learns from, never of those it is judged by
  /// Run a frozen base once over the training and validation images, keep its features, and train the head on them. Not for a
  /// base that drops something at random, nor with augmentation.
  bool keep_features = false;
  bool record = true;  // steps, once, and replay them; off: every step is queued op by op
};

struct EpochRecord {
  int epoch = 0;  // from 1
  double train_loss = 0, train_accuracy = 0, valid_loss = 0, valid_accuracy = 0;
  double seconds = 0;            // training alone; the sum over sittings where the epoch was resumed
  double images_per_second = 0;  // training alone
  bool best = false;             // strictly better validation accuracy than every epoch before
};

/// Where the seconds between two epochs' ends went, by the host's clock; what a resumed epoch took before is not in it.
struct EpochLedger {
  int epoch = 0;          // from 1
  double training = 0;    // steps, until the device is done with them
  double statistics = 0;  // the population's, for validation
  double validation = 0;
  double saving = 0;  // checkpoints, the best weights, and all else that the observer does at an epoch's end
  double total = 0;   // with what is in none of these
};

/// Numbers of a run, one a parameter: held, or read from the device part by part when they are wanted, which spares a copy.
class Values {
 public:
  using Take = std::function<void(std::span<const float>)>;

  Values() = default;
  Values(std::vector<float> held) : size_(held.size()), held_(std::move(held)) {}
  Values(std::initializer_list<float> held) : Values(std::vector<float>(held)) {}
  Values(std::size_t size, std::function<void(const Take&)> read) : size_(size), read_(std::move(read)) {}

  std::size_t size() const { return size_; }
  void for_each_part(const Take& take) const { read_ ? read_(take) : take(held_); }
  std::vector<float> get() const;

 private:
  std::size_t size_ = 0;
  std::vector<float> held_;
  std::function<void(const Take&)> read_;
};

/// Everything needed to go on as if never stopped, bit for bit where parameters are f32 (on `reference`, to f32's rounding).
struct Snapshot {
  StepState state;
  Values weights, first_moments, second_moments;  // Model's; while an observer stores them, the model's own
  /// Those that the last validation used, where it took the population's: values of the parameters that are statistics, one
  /// after another. The weights hold the moving averages, with which the run goes on.
  std::vector<float> statistics;
  std::vector<BatchMetrics> batches;  // done in the present epoch
  double seconds = 0;                 // spent in the present epoch
  std::vector<EpochRecord> history;
  std::vector<float> best_weights;  // as validated; empty before the first epoch's end
};

struct Evaluation {
  double loss = 0, accuracy = 0;
  std::vector<float> scores;  // sigmoid(z), f32, in file order
};

/// Values of the parameters that are statistics, one after another, of `weights` as Model::weights(); and these in the places
/// of those among `weights`.
std::vector<float> statistics_of(const Graph& graph, std::span<const float> weights);
void put_statistics(const Graph& graph, std::span<const float> statistics, std::span<float> weights);

/// What a program may want to hear and say during a run. Defaults do nothing.
class FitObserver {
 public:
  virtual ~FitObserver() = default;
  /// Before the first epoch, where features are kept: images whose features are known.
  virtual void features(int done, int of) { (void)done, (void)of; }
  virtual void batch_end(int epoch, int batch, int batches) { (void)epoch, (void)batch, (void)batches; }
  /// Loss of every step of the epoch, in order; at an epoch's end.
  virtual void steps(const std::vector<BatchMetrics>& batches, std::uint64_t first_step) { (void)batches, (void)first_step; }
  virtual void epoch_end(const EpochRecord& record) { (void)record; }
  /// The model is, for now, the best of all epochs, as validated.
  virtual void best(const Model& model) { (void)model; }
  /// Called after every epoch, and when stopping; the observer stores it durably.
  virtual void checkpoint(const Snapshot& snapshot) { (void)snapshot; }
  /// After the epoch's checkpoint.
  virtual void ledger(const EpochLedger& ledger) { (void)ledger; }
  /// Asked after every batch: true finishes the step, checkpoints and returns.
  virtual bool stop_requested() { return false; }
  /// Asked after every batch: true checkpoints and goes on.
  virtual bool checkpoint_requested() { return false; }
};

struct FitResult {
  std::vector<EpochRecord> history;
  int best_epoch = 0;  // from 1; 0 where no epoch was completed
  std::vector<float> best_weights;
  bool stopped = false;         // by stop_requested
  double features_seconds = 0;  // to compute those that are kept
};

/// Trains, validating after each epoch on `data.valid`. Throws Error(ExitCode::not_finite) naming the first row that is not
/// finite, Error(ExitCode::memory) before the first step, Error(ExitCode::data) for an empty split or one with one class.
/// The model must not be planned yet, and its weights be set; with `resume` they are taken from there.
FitResult fit(Model& model, const Dataset& data, const FitOptions& options, FitObserver& observer,
              std::optional<Snapshot> resume = {});

/// What fit() throws before it plans anything: Error(ExitCode::data), Error(ExitCode::usage).
void require_trainable(const Dataset& data, const FitOptions& options);

/// The programs that fit() plans, for Model::prepare().
std::vector<Model::Request> requests(const Graph& graph, const Dataset& data, const FitOptions& options);

/// What a run has on its device beside parameters and what a step needs, in bytes.
struct BesideSteps {
  std::size_t images = 0;    // of training and validation, and their labels
  std::size_t features = 0;  // that are kept
  std::size_t saving = 0;    // copies of the weights: the best epoch's, and the file that they are written to

  /// Images lie in the host's memory already.
  std::size_t to_come(bool is_host) const { return features + saving + (is_host ? 0 : images); }
};
BesideSteps beside_steps(const Model& model, const Dataset& data, const FitOptions& options);

/// Loss, accuracy and scores of images in file order, batches of `batch_size` (Keras' default: 32).
/// The model is fresh, or has been through fit() with the same options (its evaluation program is used again).
Evaluation evaluate(Model& model, const Images& images, const FitOptions& options,
                    const std::function<void(int done, int of)>& progress = {});

}  // namespace microtome
