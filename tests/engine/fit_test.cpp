#include "engine/fit.h"

#include "engine/check.h"
#include "engine/random.h"
#include "kernels/backend.h"
#include "kernels/reference/reference.h"
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/flatten.h"
#include "layers/pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

namespace microtome {
namespace {

Graph tiny() {
  Graph graph;
  graph.output(graph.input(6) | conv(4, 3) | batch_norm() | relu() | max_pool(2) | dropout(0.2f) | flatten() | logit());
  return graph;
}

/// Noise whose red channel is brighter in class 1: easy, but not at once.
Images images(int count, std::uint64_t seed) {
  Images set{{count, 6, 6, 3}, {}, {}, {}};
  for (int i = 0; i < count; ++i) {
    set.labels.push_back(static_cast<std::uint8_t>(i % 2));
    for (int j = 0; j < 6 * 6 * 3; ++j) {
      const int noise = static_cast<int>(random_word(seed, 9, i * 108ull + j) % 200);
      set.pixels.push_back(static_cast<std::uint8_t>(j % 3 == 0 ? noise + 40 * (i % 2) : noise));
    }
  }
  return set;
}

Dataset data() {
  return {"noise", images(37, 1), images(11, 2), images(13, 3), {}};
}

struct Recorder : FitObserver {
  std::vector<EpochRecord> epochs;
  std::vector<Snapshot> snapshots;
  std::vector<BatchMetrics> losses;
  int stop_at_batch = -1, save_at_batch = -1, batch = 0;

  void batch_end(int, int, int) override { ++batch; }
  void steps(const std::vector<BatchMetrics>& batches, std::uint64_t) override {
    losses.insert(losses.end(), batches.begin(), batches.end());
  }
  void epoch_end(const EpochRecord& record) override { epochs.push_back(record); }
  void checkpoint(const Snapshot& snapshot) override {
    snapshots.push_back(snapshot);
    for (Values Snapshot::*values : {&Snapshot::weights, &Snapshot::first_moments, &Snapshot::second_moments})
      snapshots.back().*values = (snapshot.*values).get();  // the model goes on
  }
  bool stop_requested() override { return stop_at_batch >= 0 && batch >= stop_at_batch; }
  bool checkpoint_requested() override { return batch == save_at_batch; }
};

struct Outcome {
  Recorder recorder;
  FitResult result;
  std::vector<float> weights;
};

Outcome train(FitOptions options, const std::optional<Snapshot>& resume = {}, int stop_at_batch = -1, int save_at_batch = -1) {
  const auto backend = make_backend("cpu", Precision::f32);
  Model model(tiny(), *backend);
  model.initialize(options.seed);
  Outcome outcome;
  outcome.recorder.stop_at_batch = stop_at_batch;
  outcome.recorder.save_at_batch = save_at_batch;
  outcome.result = fit(model, data(), options, outcome.recorder, resume);
  outcome.weights = model.weights();
  return outcome;
}

const FitOptions options{
    .epochs = 4, .batch_size = 8, .learning_rate = 0.01f, .seed = 5};  // 37 images: 4 full batches and one of 5

TEST(FitTest, LearnsAndKeepsTheFirstOfTheBestEpochs) {
  const Outcome all = train(options);
  ASSERT_EQ(all.result.history.size(), 4u);
  EXPECT_LT(all.result.history.back().train_loss, all.result.history.front().train_loss);
  double best = -1;
  int best_epoch = 0;
  for (const EpochRecord& record : all.result.history) {
    EXPECT_EQ(record.best, record.valid_accuracy > best);
    if (record.valid_accuracy > best) best = record.valid_accuracy, best_epoch = record.epoch;
  }
  EXPECT_EQ(all.result.best_epoch, best_epoch);
  EXPECT_EQ(all.result.best_weights, all.recorder.snapshots[best_epoch - 1].weights.get());
}

TEST(FitTest, MetricsAreMeansOverImages) {
  const Outcome all = train(options);
  const auto& batches = all.recorder.losses;
  ASSERT_EQ(batches.size(), 20u);
  double loss = 0, correct = 0, count = 0;
  for (int b = 0; b < 5; ++b) {
    EXPECT_EQ(batches[b].count, b < 4 ? 8u : 5u);
    loss += batches[b].loss * batches[b].count, correct += batches[b].correct, count += batches[b].count;
  }
  EXPECT_DOUBLE_EQ(all.result.history[0].train_loss, loss / count);
  EXPECT_DOUBLE_EQ(all.result.history[0].train_accuracy, correct / count);
}

TEST(FitTest, GoesOnBitForBitFromEveryBatch) {
  FitOptions population = options;
  population.population_statistics = true;
  const Outcome whole = train(population);
  for (int stop = 1; stop <= 19; ++stop) {
    const Outcome first = train(population, {}, stop);
    ASSERT_TRUE(first.result.stopped) << stop;
    const Outcome second = train(population, first.recorder.snapshots.back());
    EXPECT_EQ(second.weights, whole.weights) << "stopped after batch " << stop;
    EXPECT_EQ(second.result.best_weights, whole.result.best_weights);
    ASSERT_EQ(second.result.history.size(), whole.result.history.size());
    for (std::size_t e = 0; e < whole.result.history.size(); ++e) {
      EXPECT_EQ(second.result.history[e].train_loss, whole.result.history[e].train_loss);
      EXPECT_EQ(second.result.history[e].valid_accuracy, whole.result.history[e].valid_accuracy);
    }
  }
}

TEST(FitTest, ACheckpointHasNoSideEffect) {
  EXPECT_EQ(train(options, {}, -1, 7).weights, train(options).weights);
}

/// The elements of `weights` that belong to parameters of this name.
std::vector<float> named(std::string_view name, const std::vector<float>& weights) {
  const Graph graph = tiny();
  std::vector<float> picked;
  auto at = weights.begin();
  for (const Parameter& parameter : graph.parameters()) {
    if (parameter.name == name) picked.insert(picked.end(), at, at + parameter.shape.count());
    at += parameter.shape.count();
  }
  return picked;
}

TEST(FitTest, PopulationStatisticsServeTheJudgedNetworkAndLeaveTheRunAlone) {
  FitOptions moving = options;
  moving.epochs = 1;
  FitOptions population = moving;
  population.population_statistics = true;
  const Outcome with = train(population), without = train(moving);
  EXPECT_EQ(with.weights, without.weights);
  EXPECT_EQ(named("kernel", with.result.best_weights), named("kernel", without.result.best_weights));
  EXPECT_NE(named("moving_variance", with.result.best_weights), named("moving_variance", without.result.best_weights));
}

TEST(FitTest, ASnapshotHoldsTheStatisticsOfItsLastValidation) {
  FitOptions population = options;
  population.epochs = 1, population.population_statistics = true;
  const Outcome with = train(population);
  const Snapshot& last = with.recorder.snapshots.back();
  const std::vector<float> moving = last.weights.get();
  std::vector<float> judged = moving;
  put_statistics(tiny(), last.statistics, judged);
  EXPECT_EQ(judged, with.result.best_weights) << "of one epoch, the best's are the last's";
  EXPECT_NE(judged, moving);

  const auto backend = make_backend("cpu", Precision::f32);
  Model model(tiny(), *backend);
  model.set_weights(judged);
  const Evaluation again = evaluate(model, data().valid, population);
  EXPECT_EQ(again.loss, with.result.history.back().valid_loss);
  EXPECT_EQ(again.accuracy, with.result.history.back().valid_accuracy);

  population.epochs = 2;
  const Outcome within = train(population, last, 1);
  EXPECT_EQ(within.recorder.snapshots.back().statistics, last.statistics) << "within the next epoch they are still the last's";
  FitOptions plain = population;
  plain.population_statistics = false;
  EXPECT_TRUE(train(plain).recorder.snapshots.back().statistics.empty()) << "the weights' own were used";
}

TEST(FitTest, StatisticsOfAnotherGraphAreRefused) {
  std::vector<float> weights(static_cast<std::size_t>(tiny().parameter_count()));
  EXPECT_THROW(put_statistics(tiny(), std::vector<float>(7), weights), Error);
  EXPECT_THROW(put_statistics(tiny(), std::vector<float>(9), weights), Error);
  EXPECT_NO_THROW(put_statistics(tiny(), std::vector<float>(8), weights));
}

TEST(FitTest, PopulationStatisticsAreMeansAndUnbiasedVariancesOverBatches) {
  // One convolution of 1x1 that passes the red channel, then batch-norm: statistics of the images themselves.
  const auto backend = make_backend("reference", Precision::f32);
  const Images set = images(37, 1);
  for (const int batch : {37, 1}) {
    SCOPED_TRACE(batch);
    Graph graph;
    graph.output(graph.input(6) | conv(1, 1, {.bias = false}) | batch_norm() | flatten() | logit());
    Model model(std::move(graph), *backend);
    std::vector<float> weights(static_cast<std::size_t>(model.graph().parameter_count()));
    weights[0] = 1;  // red
    weights[3] = 1;  // gamma
    model.set_weights(weights);
    FitOptions once = options;
    once.epochs = 1, once.batch_size = batch, once.learning_rate = 0, once.population_statistics = true;
    FitObserver silent;
    const std::vector<float> best = fit(model, data(), once, silent).best_weights;
    const int count = batch * 36, batches = 37 / batch;
    double means = 0, variances = 0;
    for (int first = 0; first < 37 * 36; first += count) {
      const auto red = [&](int i) { return set.pixels[3 * (first + i)] / 255.0; };
      double sum = 0, squares = 0;
      for (int i = 0; i < count; ++i) sum += red(i);
      for (int i = 0; i < count; ++i) squares += std::pow(red(i) - sum / count, 2);
      means += sum / count / batches, variances += squares / (count - 1) / batches;
    }
    EXPECT_FLOAT_EQ(best[5], static_cast<float>(means));
    EXPECT_FLOAT_EQ(best[6], static_cast<float>(variances));
  }
}

TEST(FitTest, SeedsDifferAndRepeat) {
  FitOptions other = options;
  other.seed = 6;
  EXPECT_EQ(train(options).weights, train(options).weights);
  EXPECT_NE(train(options).weights, train(other).weights);
}

TEST(FitTest, WithoutShufflingTheEpochTakesImagesInFileOrder) {
  const auto backend = make_backend("reference", Precision::f32);
  FitOptions ordered = options;
  ordered.shuffle = false;
  ordered.epochs = 1;
  ordered.batch_size = 37;
  ordered.learning_rate = 0;
  Model model(tiny(), *backend, {.dropout = false});
  model.initialize(1);
  Recorder recorder;
  fit(model, data(), ordered, recorder);
  const double whole = recorder.losses[0].loss;
  // The mean of a full batch does not depend on its order, so compare with a batch of the first eight.
  Dataset first = data();
  first.train.pixels.resize(8 * 108);
  first.train.labels.resize(8);
  first.train.shape.n = 8;
  ordered.batch_size = 8;
  Model one(tiny(), *backend, {.dropout = false}), many(tiny(), *backend, {.dropout = false});
  one.initialize(1);
  many.initialize(1);
  Recorder of_one, of_many;
  fit(one, first, ordered, of_one);
  fit(many, data(), ordered, of_many);
  EXPECT_EQ(of_many.losses[0].loss, of_one.losses[0].loss);
  EXPECT_NE(of_many.losses[0].loss, whole);
}

TEST(FitTest, EvaluationScoresImagesInFileOrderWhateverTheBatch) {
  const auto backend = make_backend("reference", Precision::f32);
  const Images test = images(13, 3);
  std::vector<Evaluation> evaluations;
  for (const int batch : {1, 5, 13, 32}) {
    Model model(tiny(), *backend);
    model.initialize(2);
    FitOptions o = options;
    o.batch_size = batch;
    evaluations.push_back(evaluate(model, test, o));
    ASSERT_EQ(evaluations.back().scores.size(), 13u);
    EXPECT_EQ(evaluations.back().scores, evaluations.front().scores);
    EXPECT_NEAR(evaluations.back().loss, evaluations.front().loss, 1e-15 * 13);
  }
  double loss = 0;
  for (int i = 0; i < 13; ++i) loss -= std::log(test.labels[i] ? evaluations[0].scores[i] : 1.0 - evaluations[0].scores[i]);
  EXPECT_NEAR(evaluations[0].loss, loss / 13, std::numeric_limits<float>::epsilon() * 13);
}

TEST(FitTest, ALossThatIsNotFiniteStopsTheRunAndNamesTheRow) {
  const auto backend = make_backend("reference", Precision::f32);
  Model model(tiny(), *backend);
  model.initialize(1);
  std::vector<float> weights = model.weights();
  weights.back() = std::numeric_limits<float>::infinity();  // the logit's bias
  model.set_weights(weights);
  Recorder recorder;
  try {
    fit(model, data(), options, recorder);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::not_finite);
    EXPECT_EQ(error.report().where, "epoch 1, batch 1; first not finite: dense/bias");
  }
  EXPECT_TRUE(recorder.snapshots.empty());
}

/// A device that a host would have to wait for: counts how often it does, and how often it only looks.
class FarBackend final : public Reference<double> {
 public:
  int waits = 0, looks = 0;

  void write(void* device, const void* host, std::size_t bytes) override { ++waits, Reference::write(device, host, bytes); }
  void read(void* host, const void* device, std::size_t bytes) override { ++waits, Reference::read(host, device, bytes); }
  void synchronize() override { ++waits; }
  std::unique_ptr<AsyncRead> read_async(const void* device, std::size_t bytes) override {
    struct Look final : AsyncRead {
      Look(FarBackend& b, const void* d, std::size_t count) : backend(b), device(d), copy(count) {}
      const void* latest() override {
        std::memcpy(copy.data(), device, copy.size());
        return ++backend.looks > 1 ? copy.data() : nullptr;
      }
      FarBackend& backend;
      const void* device;
      std::vector<std::byte> copy;
    };
    return std::make_unique<Look>(*this, device, bytes);
  }
};

/// Two steps of every epoch last longer than the epoch loop likes to go without news.
struct SlowRecorder final : Recorder {
  explicit SlowRecorder(const FarBackend& b) : backend(b) {}
  void batch_end(int epoch, int number, int of) override {
    Recorder::batch_end(epoch, number, of);
    if (number > 1) {
      EXPECT_EQ(backend.waits, waits) << "before batch " << number << " of epoch " << epoch;
    }
    waits = backend.waits;
    if (number == 1 || number == 2) std::this_thread::sleep_for(std::chrono::milliseconds(1010));
  }
  const FarBackend& backend;
  int waits = 0;
};

TEST(FitTest, WithinAnEpochTheHostNeverWaits) {
  FarBackend backend;
  Model model(tiny(), backend);
  model.initialize(1);
  FitOptions once = options;
  once.epochs = 1;
  SlowRecorder recorder(backend);
  fit(model, data(), once, recorder);
  EXPECT_EQ(recorder.batch, 5);
  EXPECT_EQ(backend.looks, 2);
  EXPECT_GT(backend.waits, recorder.waits) << "the epoch's end waits, or nothing is counted";
}

TEST(FitTest, ALossThatIsNotFiniteIsNoticedBeforeTheEpochEnds) {
  FarBackend backend;
  Model model(tiny(), backend);
  model.initialize(1);
  std::vector<float> weights = model.weights();
  weights.back() = std::numeric_limits<float>::infinity();
  model.set_weights(weights);
  SlowRecorder recorder(backend);
  EXPECT_THROW(fit(model, data(), options, recorder), Error);
  EXPECT_EQ(recorder.batch, 2);
}

TEST(FitTest, StepsRunOpByOpGiveTheSameBits) {
  FitOptions unrecorded = options;
  unrecorded.record = false;
  const Outcome recorded = train(options), op_by_op = train(unrecorded);
  EXPECT_EQ(op_by_op.weights, recorded.weights);
  EXPECT_EQ(op_by_op.result.best_weights, recorded.result.best_weights);
}

TEST(FitTest, RefusesABatchLargerThanTheDataAndSplitsWithOneClass) {
  const auto backend = make_backend("reference", Precision::f32);
  const auto code = [&](const Dataset& set, int batch) {
    Model model(tiny(), *backend);
    FitOptions o = options;
    o.batch_size = batch;
    FitObserver silent;
    try {
      fit(model, set, o, silent);
      return ExitCode::done;
    } catch (const Error& error) {
      return error.code();
    }
  };
  EXPECT_EQ(code(data(), 38), ExitCode::usage);
  Dataset one_class = data();
  std::fill(one_class.valid.labels.begin(), one_class.valid.labels.end(), std::uint8_t{1});
  EXPECT_EQ(code(one_class, 8), ExitCode::data);
  Dataset empty = data();
  empty.valid = {};
  empty.valid.shape.n = 0;
  EXPECT_EQ(code(empty, 8), ExitCode::data);
}

/// A frozen base of one convolution and batch-norm, pooled to features, and a head that drops some of them.
Graph with_base() {
  Graph graph;
  const Node features = graph.input(6) | conv(8, 3) | batch_norm() | relu() | global_average_pool();
  graph.features(features);
  graph.output(features | dense(4, {.activation = Activation::relu}) | dropout(0.2f) | logit());
  graph.freeze_base();
  return graph;
}

Outcome transfer(bool keep_features) {
  const auto backend = make_backend("reference", Precision::f32);
  Model model(with_base(), *backend);
  model.initialize(3);
  Outcome outcome;
  FitOptions kept = options;
  kept.keep_features = keep_features;
  outcome.result = fit(model, data(), kept, outcome.recorder);
  outcome.weights = model.weights();
  return outcome;
}

TEST(FitTest, KeptFeaturesTrainTheHeadAsRecomputedOnesDo) {
  const Outcome kept = transfer(true), recomputed = transfer(false);
  EXPECT_EQ(kept.weights, recomputed.weights);
  EXPECT_EQ(kept.result.best_weights, recomputed.result.best_weights);
  for (std::size_t e = 0; e < kept.result.history.size(); ++e)
    EXPECT_EQ(kept.result.history[e].valid_loss, recomputed.result.history[e].valid_loss);
}

TEST(FitTest, AFrozenBaseStaysAsItWasAndItsHeadLearns) {
  const auto backend = make_backend("reference", Precision::f32);
  Model fresh(with_base(), *backend);
  fresh.initialize(3);
  const std::vector<float> before = fresh.weights(), after = transfer(true).weights;
  std::size_t begin = 0;
  for (const Parameter& parameter : fresh.graph().parameters()) {
    const auto end = begin + static_cast<std::size_t>(parameter.shape.count());
    EXPECT_EQ(std::equal(before.begin() + begin, before.begin() + end, after.begin() + begin), !parameter.trainable)
        << full_name(fresh.graph(), parameter);
    begin = end;
  }
}

TEST(FitTest, FeaturesThatAreRandomCannotBeKept) {
  Graph graph;
  const Node features = graph.input(6) | conv(2, 3) | dropout(0.5f, {.per_image = true}) | global_average_pool();
  graph.features(features);
  graph.output(features | logit());
  graph.freeze_base();
  const auto backend = make_backend("reference", Precision::f32);
  Model model(std::move(graph), *backend);
  FitOptions kept = options;
  kept.keep_features = true;
  FitObserver silent;
  EXPECT_THROW(fit(model, data(), kept, silent), Error);
}

TEST(FitTest, ImagesAreAugmentedForTrainingAlone) {
  FitOptions augmented = options;
  augmented.augment = {.flip = true, .shift = 2};
  const Outcome plain = train(options), with = train(augmented);
  EXPECT_NE(with.weights, plain.weights);
  EXPECT_EQ(with.weights, train(augmented).weights);
  augmented.learning_rate = 0;
  FitOptions still = options;
  still.learning_rate = 0;
  const Outcome still_plain = train(still), still_with = train(augmented);
  EXPECT_EQ(named("kernel", still_with.weights), named("kernel", still_plain.weights));
  EXPECT_NE(still_with.result.history[0].train_loss, still_plain.result.history[0].train_loss);
  still.population_statistics = augmented.population_statistics = true;
  EXPECT_EQ(train(augmented).result.history[0].valid_loss, train(still).result.history[0].valid_loss);
}

TEST(FitTest, FeaturesOfAugmentedImagesCannotBeKept) {
  const auto backend = make_backend("reference", Precision::f32);
  Model model(with_base(), *backend);
  FitOptions kept = options;
  kept.keep_features = true;
  kept.augment.flip = true;
  FitObserver silent;
  EXPECT_THROW(fit(model, data(), kept, silent), Error);
}

TEST(FitTest, ARunThatBeginsAtALaterEpochDrawsWhatThatEpochDraws) {
  const auto backend = make_backend("cpu", Precision::f32);
  Recorder whole, later;
  Model model(tiny(), *backend, {.dropout = false});
  model.initialize(0);
  fit(model, data(), {.epochs = 3, .batch_size = 8}, whole);
  Model half_way(tiny(), *backend, {.dropout = false});
  half_way.set_weights(whole.snapshots[1].weights.get());
  const FitResult result = fit(half_way, data(), {.epochs = 3, .first_epoch = 2, .batch_size = 8}, later);
  ASSERT_EQ(result.history.size(), 1u);
  EXPECT_EQ(result.history[0].epoch, 3);
  EXPECT_EQ(result.best_epoch, 3);
  const std::size_t steps = later.losses.size();
  ASSERT_EQ(whole.losses.size(), 3 * steps);
  EXPECT_EQ(later.losses[0].loss, whole.losses[2 * steps].loss);
  EXPECT_NE(later.losses[1].loss, whole.losses[2 * steps + 1].loss) << "Adam's moments begin anew";
}

}  // namespace
}  // namespace microtome
