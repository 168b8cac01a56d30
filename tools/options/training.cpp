#include "tools/options/training.h"

#include "data/published.h"
#include "engine/check.h"
#include "tools/options/augment.h"
#include "tools/options/weights.h"

#include <fmt/format.h>

#include <utility>

namespace microtome {
namespace {

using Kept = Option::Kept;

/// As it is to be trained: in transfer mode with its base frozen.
Graph build(const TrainingSettings& s, const Network& network, Extent image) {
  Graph graph = network.build(image, Head::study, s.dense_units);
  if (s.mode == "transfer") graph.freeze_base();
  return graph;
}

/// Says what becomes of a frozen base's features; whether they are kept.
bool keep_features(const TrainingSettings& s, const Graph& graph, Terminal& terminal) {
  if (s.mode != "transfer") return false;
  if (s.weights.empty()) terminal.say("note: --mode transfer without --weights: the frozen base stays at its random start");
  if (s.features == "recompute") return false;
  const bool varies = s.dropout && random_before_features(graph);
  if (varies)
    terminal.say("features are computed in every step, since stochastic depth makes them vary (--dropout off keeps them)");
  return !varies;
}

/// Given weights bring statistics of their own, which are to move as Keras moves them; unless they come from earlier epochs of
/// the same run.
bool averages_would_trail(const TrainingSettings& s, const Dataset& data) {
  const bool ours = s.weights.empty() || s.first_epoch > 0;
  return ours && averages_trail(data.train.shape.n, s.batch_size);
}

FitOptions training_options(const TrainingSettings& s, const Network& network, const Graph& graph, const Dataset& data,
                            Terminal& terminal) {
  FitOptions options = fit_options(s, network);
  options.first_epoch = s.first_epoch;
  options.learning_rate = static_cast<float>(s.learning_rate);
  options.seed = s.seed;
  options.shuffle = s.shuffle;
  options.augment = parse_augment(s.augment);
  options.record = s.graph == "step";
  options.keep_features = keep_features(s, graph, terminal);
  options.population_statistics =
      s.mode == "full" && (s.statistics == "population" || (s.statistics == "auto" && averages_would_trail(s, data)));
  if (options.population_statistics && s.statistics == "auto") {
    terminal.say(
        "batch-norm: population statistics in validation and test, for Keras' moving averages trail the weights by 100 "
        "steps and an epoch has {} (--statistics moving takes them all the same)",
        data.train.shape.n / s.batch_size);
  }
  return options;
}

}  // namespace

void add_start(Arguments& arguments, TrainingSettings& s) {
  arguments.add(
      {.name = "mode", .help = "full: every layer learns; transfer: the published base stays frozen", .kept = Kept::fixed},
      s.mode, {"full", "transfer"});
  arguments.add(
      {.name = "features",
       .help = "of a frozen base. keep: computed once, where nothing random precedes the head; recompute: in every step",
       .kept = Kept::fixed},
      s.features, {"keep", "recompute"});
  arguments.add(
      {.name = "weights",
       .placeholder = "FILE",
       .help = "initial weights: Keras' .h5 or .weights.h5, or a checkpoint, of the network or of its base; imagenet: the "
               "published ones",
       .kept = Kept::fixed},
      s.weights);
  add_weights_folder(arguments, s);
  add_statistics(arguments, s);
}

void add_weights_folder(Arguments& arguments, TrainingSettings& s) {
  arguments.add({.name = "weights-folder",
                 .placeholder = "DIR",
                 .help = "where the published files lie; without it, where Keras keeps them: " + keras_folder().string(),
                 .kept = Kept::free},
                s.weights_folder);
}

void add_statistics(Arguments& arguments, TrainingSettings& s) {
  arguments.add(
      {.name = "moving-variance", .help = "of batch-norm, as TensorFlow 2 or as Keras 3 updates it", .kept = Kept::fixed},
      s.moving_variance, {"tf2", "keras3"});
  arguments.add(
      {.name = "statistics",
       .help = "batch-norm's in validation and test. moving: Keras' moving averages; population: averaged over training "
               "images after each epoch; auto: population for networks from scratch whose epochs have fewer than 1000 steps",
       .kept = Kept::fixed},
      s.statistics, {"auto", "moving", "population"});
}

void add_steps(Arguments& arguments, TrainingSettings& s) {
  arguments.add({.name = "augment",
                 .placeholder = "LIST",
                 .help = "training images, drawn anew in each epoch: " + augment_words() +
                         ", commas between. d4: all eight flips and quarter turns; else up to so much either way, bilinear, "
                         "edges reflected",
                 .kept = Kept::fixed},
                s.augment);
  arguments.add({.name = "seed", .help = "of initial weights, order of images, augmentation and dropout", .kept = Kept::fixed},
                s.seed);
  add_optimizer(arguments, s);
}

void add_optimizer(Arguments& arguments, TrainingSettings& s) {
  arguments.add({.name = "batch-size", .letter = 'b', .help = "images a step", .unit = "images", .kept = Kept::fixed},
                s.batch_size, {1, 65536});
  arguments.add({.name = "lr", .help = "learning rate of Adam", .kept = Kept::fixed}, s.learning_rate, {.lowest = 0});
  arguments.add_switch({.name = "shuffle", .help = "off: images in file order in every epoch", .kept = Kept::fixed}, s.shuffle);
  arguments.add_switch({.name = "dropout", .help = "off: dropout and stochastic depth do nothing", .kept = Kept::fixed},
                       s.dropout);
}

void add_graph(Arguments& arguments, TrainingSettings& s) {
  arguments.add(
      {.name = "graph",
       .help = "step: a step is recorded once and replayed; off: its ops are queued one by one, to debug or profile. On "
               "the CPU both are the same",
       .kept = Kept::free},
      s.graph, {"step", "off"});
}

void require_consistent(const TrainingSettings& s, const Network& network) {
  if (s.mode == "transfer" && !network.top) {
    fail(ExitCode::usage, fmt::format("{} has no frozen base to transfer from", s.net),
         {.expected = "--mode full", .found = "--mode transfer", .next = "leave --mode out"});
  }
  if (parse_augment(s.augment).any() && s.mode == "transfer" && s.features == "keep") {
    fail(ExitCode::usage, "the features of augmented images cannot be kept: they differ from epoch to epoch",
         {.expected = "--features recompute, or --augment none",
          .found = fmt::format("--features keep --augment {}", s.augment),
          .next = "--features recompute, which runs the frozen base in every step"});
  }
  if (s.weights == "imagenet") weights_file(s);  // before the data are read: what is missing is told at once
}

std::filesystem::path weights_file(const TrainingSettings& s) {
  if (s.weights != "imagenet") return s.weights;
  return find_published(s.net, s.weights_folder.empty() ? keras_folder() : std::filesystem::path(s.weights_folder));
}

bool averages_trail(std::int64_t train_images, int batch_size) {
  constexpr int window = 100, many = 10;
  return train_images / batch_size < many * window;
}

Job::Job(const TrainingSettings& s, const Network& network, Backend& backend, Splits splits, Terminal& terminal)
    : Job(s, network, backend, open_data(s, splits, terminal), terminal) {}

Job::Job(const TrainingSettings& s, const Network& network, Backend& backend, Dataset images, Terminal& terminal)
    : data(std::move(images)),
      model(build(s, network, {data.train.shape.h, data.train.shape.w}), backend,
            {.dropout = s.dropout, .keras3_variance = s.moving_variance == "keras3"}),
      options(training_options(s, network, model.graph(), data, terminal)) {
  options.epochs = 1;
}

void Job::initialize(const TrainingSettings& s, const Network& network, Terminal& terminal) {
  model.initialize(s.seed);
  if (s.weights.empty()) return;
  const Extent image(data.train.shape.h, data.train.shape.w);
  const TrainedWeights weights(weights_file(s));
  model.set_weights(weights.values(network, model.graph(), image, terminal, model.weights()));
  initial = weights.provenance();
  if (!initial) return;
  terminal.say("initial weights: {}", describe(*initial));
  if (!initial->preprocess.empty() && initial->preprocess != s.preprocess)
    terminal.say("note: the initial weights were trained with {} preprocessing, and go on with {}", initial->preprocess,
                 s.preprocess);
}

Provenance Job::provenance(const TrainingSettings& s) const {
  Provenance p{.network = s.net,
               .image = {data.train.shape.h, data.train.shape.w},
               .dense_units = s.dense_units,
               .preprocess = s.preprocess,
               .pixels = options.pixels,
               .mode = s.mode,
               .statistics = options.population_statistics ? "population" : "moving",
               .moving_variance = s.moving_variance,
               .batch_size = s.batch_size,
               .initial = std::filesystem::path(s.weights).filename().string()};
  describe_data(data, split_options(s), p);
  if (initial) add_learned(*initial, p);
  return p;
}

bool has_images_of(const TrainingSettings& settings, const Json& split_digests, Terminal& terminal) {
  Provenance now;
  describe_data(open_data(settings, {.train = true, .valid = true, .test = true}, terminal), split_options(settings), now);
  return Json(microtome::split_digests(now)) == split_digests;
}

}  // namespace microtome
