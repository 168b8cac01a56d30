#include "engine/fit.h"

#include "engine/check.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace microtome {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Adds the time that it lives to `seconds`.
class Timed {
 public:
  explicit Timed(double& seconds) : seconds_(seconds) {}
  ~Timed() { seconds_ += seconds_since(start_); }
  Timed(const Timed&) = delete;

 private:
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

/// What a frozen base makes of a split's images, on the device.
struct Features {
  Shape shape;  // IMAGES 1 1 C
  Buffer values;
};

/// An epoch's batches, and the smaller one at its end.
std::vector<Model::Request> requests(Mode mode, int images, const FitOptions& options, Part part) {
  const int batch = std::min(options.batch_size, images), rest = images % batch;
  std::vector<Model::Request> all{{mode, batch, batch, part}};
  if (rest > 0 && mode != Mode::calibrate) all.push_back({mode, rest, batch, part});
  return all;
}

/// One pass over resident images in batches: what gather and loss need, and where an epoch's results go. With features, one
/// over these, through the head alone.
class Feed {
 public:
  Feed(Model& model, Mode mode, const Images& images, const FitOptions& options, const Features* features = nullptr,
       Part part = Part::whole)
      : model_(model),
        mode_(mode),
        part_(features ? Part::head : part),
        count_(images.shape.n),
        batch_(std::min(options.batch_size, images.shape.n)),
        seed_(options.seed),
        records_(options.record) {
    Backend& backend = model.backend();
    if (features) {
      images_ = {{features->shape, backend.activation_type()}, features->values.data()};
    } else {
      pixels_ = backend.resident(images.pixels.data(), images.pixels.size());
      images_ = {{images.shape, DType::u8}, pixels_.data()};
    }
    labels_ = backend.allocate(static_cast<std::size_t>(count_));
    if (images.labels.empty()) {
      backend.zero(labels_.data(), labels_.size_bytes());  // prediction: any label will do
    } else {
      backend.write(labels_.data(), images.labels.data(), labels_.size_bytes());
    }
    metrics_ = backend.allocate(static_cast<std::size_t>(batches()) * sizeof(BatchMetrics));
    scores_ = backend.allocate(static_cast<std::size_t>(count_) * sizeof(float));
    own_state_ = backend.allocate(sizeof(StepState));
    label_view_ = {{{1, 1, 1, count_}, DType::u8}, labels_.data()};
    advance_ = backend.advance();
    const std::vector<Model::Request> wanted = requests(mode, count_, options, part_);
    model.plan(wanted);
    for (const Model::Request& request : wanted) {
      const Program& program = model.program(mode, request.batch, part_);
      const bool shuffle = mode == Mode::calibrate || (mode == Mode::train && options.shuffle);
      Gather kind{.images = count_, .batch_size = batch_, .shuffle = shuffle, .bgr = options.pixels.bgr};
      if (mode == Mode::train) kind.augment = options.augment;
      const Normalize& rows = program.normalization();
      for (int c = 0; c < 3; ++c) {
        const Preprocessing& pixels = options.pixels;
        kind.mean[c] = static_cast<float>(pixels.mean[c] + double{rows.mean[c]} * pixels.divisor[c]);
        kind.divisor[c] = static_cast<float>(double{pixels.divisor[c]} * rows.divisor[c]);
      }
      gathers_.push_back(backend.gather(kind, images_, program.input()));
    }
  }

  int batches() const { return (count_ + batch_ - 1) / batch_; }
  int images() const { return count_; }

  /// Makes the steps ready to run; after the last plan() of the model, since that may move the arena.
  void prepare() {
    for (std::size_t i = 0; i < gathers_.size(); ++i) steps_.push_back(recorded([this, i] { step(program(i), *gathers_[i]); }));
  }

  void run(int batch) { steps_[which(batch)](); }

  int full_batches() const { return count_ / batch_; }

  /// Starts again from the first batch.
  void rewind() {
    const StepState start{.seed = seed_};
    model_.backend().write(own_state_.data(), &start, sizeof start);
  }

  std::vector<BatchMetrics> metrics(int done) const {
    std::vector<BatchMetrics> metrics(static_cast<std::size_t>(done));
    if (done > 0) model_.backend().read(metrics.data(), metrics_.data(), metrics.size() * sizeof(BatchMetrics));
    return metrics;
  }

  void set_metrics(const std::vector<BatchMetrics>& metrics) {
    if (!metrics.empty()) model_.backend().write(metrics_.data(), metrics.data(), metrics.size() * sizeof(BatchMetrics));
  }

  std::vector<float> scores() const {
    std::vector<float> scores(static_cast<std::size_t>(count_));
    model_.backend().read(scores.data(), scores_.data(), scores.size() * sizeof(float));
    return scores;
  }

  /// What the base makes of the batch that ran last.
  const Tensor& features(int batch) { return program(which(batch)).features(); }

  /// Gathers the batch that the state stands at and looks for the first value that is not finite.
  std::string first_not_finite(int batch) {
    Program& at = program(which(batch));
    gathers_[which(batch)]->forward(images_, label_view_, state(), at.input(), at.labels());
    return at.first_not_finite();
  }

 private:
  int rest() const { return count_ % batch_; }
  std::size_t which(int batch) const { return batch < count_ / batch_ ? 0 : 1; }
  Program& program(std::size_t i) { return model_.program(mode_, i == 0 ? batch_ : rest(), part_); }
  StepState* state() const { return mode_ == Mode::train ? model_.device_state() : static_cast<StepState*>(own_state_.data()); }

  std::function<void()> recorded(std::function<void()> step) const {
    if (!records_) return step;
    const std::shared_ptr<Recording> recording = model_.backend().record(std::move(step));
    return [recording] { recording->run(); };
  }

  void step(Program& program, GatherOp& gather) {
    {
      const Scoped scoped(model_.backend(), {.pass = Pass::input});
      gather.forward(images_, label_view_, state(), program.input(), program.labels());
    }
    program.forward();
    if (mode_ == Mode::calibrate || part_ == Part::base) return advance(false);
    program.loss(static_cast<BatchMetrics*>(metrics_.data()), static_cast<float*>(scores_.data()), state());
    if (mode_ == Mode::train) {
      program.backward();
      model_.update();
    }
    advance(mode_ == Mode::train);
  }

  void advance(bool optimise) {
    const Scoped scoped(model_.backend(), {.pass = Pass::advance});
    advance_->run(state(), optimise);
  }

  Model& model_;
  Mode mode_;
  Part part_;
  int count_, batch_;
  std::uint64_t seed_;
  bool records_;
  Buffer pixels_, labels_, metrics_, scores_, own_state_;
  Tensor images_, label_view_;
  std::vector<std::unique_ptr<GatherOp>> gathers_;  // of full batches, and of the last one if smaller
  std::unique_ptr<AdvanceOp> advance_;
  std::vector<std::function<void()>> steps_;
};

/// Runs the base over all images, in file order.
Features compute_features(Model& model, const Images& images, const FitOptions& options,
                          const std::function<void(int)>& progress) {
  Backend& backend = model.backend();
  Shape shape = model.graph().ops()[model.graph().features()].output;
  shape.n = images.shape.n;
  Features features{shape, backend.allocate(Layout{shape, backend.activation_type()}.packed_bytes())};
  Feed feed(model, Mode::evaluate, images, options, nullptr, Part::base);
  feed.prepare();
  feed.rewind();
  auto* to = static_cast<std::byte*>(features.values.data());
  int done = 0;
  for (int batch = 0; batch < feed.batches(); ++batch) {
    feed.run(batch);
    const Tensor& from = feed.features(batch);
    backend.copy(to, from.data, from.packed_bytes());
    to += from.packed_bytes();
    progress(done += from.shape.n);
  }
  backend.synchronize();
  return features;
}

/// Means over images, not over batches: the last batch may be smaller.
struct Means {
  double loss = 0, accuracy = 0;
};

Means means(const std::vector<BatchMetrics>& batches) {
  double loss = 0, correct = 0, count = 0;
  for (const BatchMetrics& b : batches) {
    loss += b.loss * b.count;
    correct += b.correct;
    count += b.count;
  }
  return {loss / count, correct / count};
}

[[noreturn]] void fail_not_finite(Feed& feed, const std::string& where, int batch) {
  const std::string row = feed.first_not_finite(batch);
  fail(ExitCode::not_finite, "the loss is not a finite number",
       {.where = fmt::format("{}, batch {}; first not finite: {}", where, batch + 1, row.empty() ? "the loss alone" : row),
        .next = "try a smaller --lr, or --precision f32"});
}

void require_both_classes(const Images& images, std::string_view split) {
  if (images.shape.n == 0)
    fail(ExitCode::data, fmt::format("the {} split is empty", split), {.next = "give a data set with images in every split"});
  const auto positives = std::count(images.labels.begin(), images.labels.end(), std::uint8_t{1});
  if (positives == 0 || positives == images.shape.n)
    fail(ExitCode::data, fmt::format("the {} split has one class only", split),
         {.expected = "images of class 0 and of class 1",
          .found = fmt::format("{} of class {}", images.shape.n, positives == 0 ? 0 : 1)});
}

Evaluation run_evaluation(Feed& feed, const Images& images, const std::function<void(int, int)>& progress) {
  feed.rewind();
  for (int batch = 0; batch < feed.batches(); ++batch) {
    feed.run(batch);
    if (progress) progress(batch + 1, feed.batches());
  }
  const std::vector<BatchMetrics> batches = feed.metrics(feed.batches());
  const auto bad = std::find_if(batches.begin(), batches.end(), [](const BatchMetrics& b) { return !std::isfinite(b.loss); });
  if (bad != batches.end()) {
    const int batch = static_cast<int>(bad - batches.begin());
    feed.rewind();
    for (int b = 0; b < batch; ++b) feed.run(b);
    fail_not_finite(feed, fmt::format("evaluation of {} images", images.shape.n), batch);
  }
  const Means mean = means(batches);
  return {mean.loss, mean.accuracy, feed.scores()};
}

bool learns_with_batch_statistics(const Graph& graph) {
  return std::any_of(graph.ops().begin(), graph.ops().end(), [&](const GraphOp& op) {
    return std::holds_alternative<BatchNorm>(op.kind) &&
           std::any_of(op.parameters.begin(), op.parameters.end(), [&](int p) { return graph.parameters()[p].trainable; });
  });
}

bool calibrates(const Graph& graph, const FitOptions& options) {
  return options.population_statistics && learns_with_batch_statistics(graph);
}

/// Population statistics of the model as it is, into the model.
void calibrate(Model& model, Feed& feed) {
  const int batches = std::min(feed.full_batches(), population_batches);
  std::vector<double> sums(model.statistics().size());
  feed.rewind();
  for (int batch = 0; batch < batches; ++batch) {
    feed.run(batch);
    const std::vector<float> statistics = model.statistics();
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += statistics[i];
  }
  for (double& sum : sums) sum /= batches;
  model.set_statistics(std::vector<float>(sums.begin(), sums.end()));
}

}  // namespace

std::vector<float> Values::get() const {
  std::vector<float> values;
  values.reserve(size_);
  for_each_part([&values](std::span<const float> part) { values.insert(values.end(), part.begin(), part.end()); });
  return values;
}

namespace {

/// Calls visit(place of the first value, values) for the parameters that are statistics.
template <class Visitor>
void for_each_statistic(const Graph& graph, std::size_t weights, Visitor&& visit) {
  require(static_cast<std::int64_t>(weights) == graph.parameter_count(), "statistics: ", weights, " weights for ",
          graph.parameter_count(), " parameters");
  std::size_t offset = 0;
  for (const Parameter& parameter : graph.parameters()) {
    const auto count = static_cast<std::size_t>(parameter.shape.count());
    if (parameter.statistic) visit(offset, count);
    offset += count;
  }
}

}  // namespace

std::vector<float> statistics_of(const Graph& graph, std::span<const float> weights) {
  std::vector<float> statistics;
  for_each_statistic(graph, weights.size(), [&](std::size_t at, std::size_t count) {
    const auto values = weights.subspan(at, count);
    statistics.insert(statistics.end(), values.begin(), values.end());
  });
  return statistics;
}

void put_statistics(const Graph& graph, std::span<const float> statistics, std::span<float> weights) {
  for_each_statistic(graph, weights.size(), [&](std::size_t at, std::size_t count) {
    require(count <= statistics.size(), "statistics: fewer values than the graph has");
    std::ranges::copy(statistics.first(count), weights.subspan(at).begin());
    statistics = statistics.subspan(count);
  });
  require(statistics.empty(), "statistics: more values than the graph has");
}

void require_trainable(const Dataset& data, const FitOptions& options) {
  require_both_classes(data.train, "training");
  require_both_classes(data.valid, "validation");
  if (options.batch_size > data.train.shape.n)
    fail(ExitCode::usage, "the batch is larger than the training set",
         {.expected = fmt::format("--batch-size at most {}", data.train.shape.n),
          .found = fmt::format("{}", options.batch_size)});
}

std::vector<Model::Request> requests(const Graph& graph, const Dataset& data, const FitOptions& options) {
  std::vector<Model::Request> all;
  const auto add = [&](Mode mode, const Images& images, Part part) {
    const std::vector<Model::Request> more = requests(mode, images.shape.n, options, part);
    all.insert(all.end(), more.begin(), more.end());
  };
  if (options.keep_features) add(Mode::evaluate, data.train, Part::base), add(Mode::evaluate, data.valid, Part::base);
  const Part part = options.keep_features ? Part::head : Part::whole;
  add(Mode::train, data.train, part);
  add(Mode::evaluate, data.valid, part);
  if (calibrates(graph, options)) add(Mode::calibrate, data.train, Part::whole);
  return all;
}

BesideSteps beside_steps(const Model& model, const Dataset& data, const FitOptions& options) {
  const Graph& graph = model.graph();
  Backend& backend = model.backend();
  BesideSteps beside;
  const auto add = [&beside](const Images& split) { beside.images += split.pixels.size() + split.labels.size(); };
  add(data.train), add(data.valid);
  if (calibrates(graph, options)) add(data.train);  // a view of its own
  if (options.keep_features) {
    Shape shape = graph.ops()[graph.features()].output;
    shape.n = data.train.shape.n + data.valid.shape.n;
    beside.features = Layout{shape, backend.activation_type()}.packed_bytes();
  }
  constexpr std::size_t copies = 2;
  if (backend.device().is_host) beside.saving = copies * sizeof(float) * static_cast<std::size_t>(graph.parameter_count());
  return beside;
}

FitResult fit(Model& model, const Dataset& data, const FitOptions& options, FitObserver& observer,
              std::optional<Snapshot> resume) {
  require_trainable(data, options);
  Backend& backend = model.backend();
  // All programs at once, and before hours may have gone into the features of the first.
  model.plan(requests(model.graph(), data, options), beside_steps(model, data, options).to_come(backend.device().is_host));
  std::optional<Features> train_features, valid_features;
  const auto features_start = Clock::now();
  if (options.keep_features) {
    require(!model.drops() || !random_before_features(model.graph()), "features that differ from pass to pass cannot be kept");
    require(!options.augment.any(), "features of augmented images differ from pass to pass and cannot be kept");
    const int images = data.train.shape.n + data.valid.shape.n;
    train_features = compute_features(model, data.train, options, [&](int done) { observer.features(done, images); });
    valid_features =
        compute_features(model, data.valid, options, [&](int done) { observer.features(data.train.shape.n + done, images); });
  }
  const double features_seconds = options.keep_features ? seconds_since(features_start) : 0;
  Feed training(model, Mode::train, data.train, options, train_features ? &*train_features : nullptr);
  Feed validation(model, Mode::evaluate, data.valid, options, valid_features ? &*valid_features : nullptr);
  std::optional<Feed> calibration;
  if (calibrates(model.graph(), options)) calibration.emplace(model, Mode::calibrate, data.train, options);
  training.prepare();
  validation.prepare();
  if (calibration) calibration->prepare();

  Snapshot now;
  if (resume) {
    now = std::move(*resume);
    model.set_weights(now.weights.get());
    model.set_moments(now.first_moments.get(), now.second_moments.get());
    now.weights = now.first_moments = now.second_moments = Values();
    training.set_metrics(now.batches);
  } else {
    now.state.seed = options.seed;
    now.state.learning_rate = options.learning_rate;
    now.state.epoch = static_cast<std::uint64_t>(options.first_epoch);
  }
  model.set_state(now.state);

  const auto best = [&now]() -> const EpochRecord* {
    const auto found = std::find_if(now.history.rbegin(), now.history.rend(), [](const EpochRecord& r) { return r.best; });
    return found == now.history.rend() ? nullptr : &*found;
  };
  EpochLedger ledger;
  const auto capture = [&](int batches_done, double seconds) {
    const Timed timed(ledger.saving);
    now.state = model.state();
    const auto parameters = static_cast<std::size_t>(model.graph().parameter_count());
    const auto live = [&](std::vector<float> (Model::*read)(int) const) {
      return Values(parameters, [&model, read](const Values::Take& take) {
        for (int p = 0; p < static_cast<int>(model.graph().parameters().size()); ++p) take((model.*read)(p));
      });
    };
    now.weights = live(&Model::weight);
    now.first_moments = live(&Model::first_moment);
    now.second_moments = live(&Model::second_moment);
    now.batches = training.metrics(batches_done);
    now.seconds = seconds;
    observer.checkpoint(now);
  };
  const auto result = [&](bool stopped) {
    const int best_epoch = best() ? best()->epoch : 0;
    return FitResult{std::move(now.history), best_epoch, std::move(now.best_weights), stopped, features_seconds};
  };
  const auto check_finite = [&](int epoch) {
    const StepState state = model.state();
    if (!state.finite) fail_not_finite(training, fmt::format("epoch {}", epoch + 1), static_cast<int>(state.batch));
  };

  const std::unique_ptr<Watch> watch = backend.watch(model.device_state(), sizeof(StepState));
  for (int epoch = static_cast<int>(now.state.epoch); epoch < options.epochs; ++epoch) {
    const auto start = Clock::now();
    ledger = {.epoch = epoch + 1};
    const double earlier = now.seconds;
    auto looked = start;
    for (int batch = static_cast<int>(now.state.batch); batch < training.batches(); ++batch) {
      training.run(batch);
      observer.batch_end(epoch + 1, batch + 1, training.batches());
      if (seconds_since(looked) > 1) {  // a run of hours shall not learn of its NaN at the epoch's end
        const auto* seen = static_cast<const StepState*>(watch->latest());
        if (seen && !seen->finite) check_finite(epoch);
        looked = Clock::now();
      }
      const bool stop = observer.stop_requested();
      if (batch + 1 < training.batches() && (stop || observer.checkpoint_requested())) {
        backend.synchronize();
        check_finite(epoch);
        capture(batch + 1, earlier + seconds_since(start));
        if (stop) return result(true);
      }
    }
    backend.synchronize();
    check_finite(epoch);
    EpochRecord record{.epoch = epoch + 1, .seconds = earlier + seconds_since(start)};
    ledger.training = record.seconds - earlier - ledger.saving;
    record.images_per_second = training.images() / record.seconds;
    StepState state = model.state();
    const std::vector<BatchMetrics> batches = training.metrics(training.batches());
    observer.steps(batches, state.step - batches.size());
    const Means trained = means(batches);
    record.train_loss = trained.loss;
    record.train_accuracy = trained.accuracy;

    const std::vector<float> moving = calibration ? model.statistics() : std::vector<float>();
    if (calibration) {
      const Timed timed(ledger.statistics);
      calibrate(model, *calibration);
    }
    const Evaluation validated = [&] {
      const Timed timed(ledger.validation);
      return run_evaluation(validation, data.valid, {});
    }();
    record.valid_loss = validated.loss;
    record.valid_accuracy = validated.accuracy;
    record.best = !best() || record.valid_accuracy > best()->valid_accuracy;
    now.history.push_back(record);
    if (record.best) {
      const Timed timed(ledger.saving);
      std::vector<float>().swap(now.best_weights);  // makes room for the observer, who stores the new ones
      observer.best(model);
      now.best_weights = model.weights();
    }
    if (calibration) {
      now.statistics = statistics_of(model.graph(), model.weights());
      model.set_statistics(moving);
    }

    ++state.epoch;
    state.batch = 0;
    model.set_state(state);
    {
      const Timed timed(ledger.saving);
      observer.epoch_end(record);
    }
    capture(0, 0);
    ledger.total = seconds_since(start);
    observer.ledger(ledger);
    if (observer.stop_requested() && epoch + 1 < options.epochs) return result(true);
  }
  return result(false);
}

Evaluation evaluate(Model& model, const Images& images, const FitOptions& options,
                    const std::function<void(int done, int of)>& progress) {
  require(images.shape.n > 0, "nothing to evaluate");
  Feed feed(model, Mode::evaluate, images, options);
  feed.prepare();
  return run_evaluation(feed, images, progress);
}

}  // namespace microtome
