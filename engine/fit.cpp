#include "engine/fit.h"

#include "engine/check.h"
#include "engine/epoch_runner.h"

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

/// Runs the base over all images, in file order.
Features compute_features(Model& model, const Images& images, const FitOptions& options,
                          const std::function<void(int)>& progress) {
  Backend& backend = model.backend();
  Shape shape = model.graph().ops()[model.graph().features()].output;
  shape.n = images.shape.n;
  Features features{shape, backend.allocate(Layout{shape, backend.activation_type()}.packed_bytes())};
  EpochRunner runner(model, Mode::evaluate, images, options, nullptr, Part::base);
  runner.prepare();
  runner.rewind();
  auto* to = static_cast<std::byte*>(features.values.data());
  int done = 0;
  for (int batch = 0; batch < runner.batches(); ++batch) {
    runner.run(batch);
    const Tensor& from = runner.features(batch);
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

[[noreturn]] void fail_not_finite(EpochRunner& runner, const std::string& where, int batch) {
  const std::string row = runner.first_not_finite(batch);
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

Evaluation run_evaluation(EpochRunner& runner, const Images& images, const std::function<void(int, int)>& progress) {
  runner.rewind();
  for (int batch = 0; batch < runner.batches(); ++batch) {
    runner.run(batch);
    if (progress) progress(batch + 1, runner.batches());
  }
  const std::vector<BatchMetrics> batches = runner.metrics(runner.batches());
  const auto bad = std::find_if(batches.begin(), batches.end(), [](const BatchMetrics& b) { return !std::isfinite(b.loss); });
  if (bad != batches.end()) {
    const int batch = static_cast<int>(bad - batches.begin());
    runner.rewind();
    for (int b = 0; b < batch; ++b) runner.run(b);
    fail_not_finite(runner, fmt::format("evaluation of {} images", images.shape.n), batch);
  }
  const Means mean = means(batches);
  return {mean.loss, mean.accuracy, runner.scores()};
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
void calibrate(Model& model, EpochRunner& runner) {
  const int batches = std::min(runner.full_batches(), population_batches);
  std::vector<double> sums(model.statistics().size());
  runner.rewind();
  for (int batch = 0; batch < batches; ++batch) {
    runner.run(batch);
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

namespace {

/// A call of fit(): what its epochs share.
class FitRun {
 public:
  FitRun(Model& model, const Dataset& data, const FitOptions& options, FitObserver& observer)
      : model_(model), backend_(model.backend()), data_(data), options_(options), observer_(observer) {
    require_trainable(data, options);
    // All programs at once, and before hours may have gone into the features of the first.
    model.plan(requests(model.graph(), data, options), beside_steps(model, data, options).to_come(backend_.device().is_host));
    if (options.keep_features) keep_features();
    training_.emplace(model, Mode::train, data.train, options, train_features_ ? &*train_features_ : nullptr);
    validation_.emplace(model, Mode::evaluate, data.valid, options, valid_features_ ? &*valid_features_ : nullptr);
    if (calibrates(model.graph(), options)) calibration_.emplace(model, Mode::calibrate, data.train, options);
    training_->prepare();
    validation_->prepare();
    if (calibration_) calibration_->prepare();
    state_copy_ = backend_.read_async(model.device_state(), sizeof(StepState));
  }

  FitResult run(std::optional<Snapshot> resume) {
    begin(std::move(resume));
    for (int epoch = static_cast<int>(now_.state.epoch); epoch < options_.epochs; ++epoch) {
      const bool whole = run_epoch(epoch);
      if (!whole || (observer_.stop_requested() && epoch + 1 < options_.epochs)) return result(true);
    }
    return result(false);
  }

 private:
  void keep_features() {
    const auto start = Clock::now();
    require(!model_.drops() || !random_before_features(model_.graph()),
            "features that differ from pass to pass cannot be kept");
    require(!options_.augment.any(), "features of augmented images differ from pass to pass and cannot be kept");
    const int train = data_.train.shape.n, images = train + data_.valid.shape.n;
    train_features_ = compute_features(model_, data_.train, options_, [&](int done) { observer_.features(done, images); });
    valid_features_ =
        compute_features(model_, data_.valid, options_, [&](int done) { observer_.features(train + done, images); });
    features_seconds_ = seconds_since(start);
  }

  void begin(std::optional<Snapshot> resume) {
    if (resume) {
      now_ = std::move(*resume);
      model_.set_weights(now_.weights.get());
      model_.set_moments(now_.first_moments.get(), now_.second_moments.get());
      now_.weights = now_.first_moments = now_.second_moments = Values();
      training_->set_metrics(now_.batches);
    } else {
      now_.state.seed = options_.seed;
      now_.state.learning_rate = options_.learning_rate;
      now_.state.epoch = static_cast<std::uint64_t>(options_.first_epoch);
    }
    model_.set_state(now_.state);
  }

  /// False: stopped before its end.
  bool run_epoch(int epoch) {
    const auto start = Clock::now();
    ledger_ = {.epoch = epoch + 1};
    EpochRecord record{.epoch = epoch + 1};
    if (!train(record, start)) return false;
    validate(record);

    StepState state = model_.state();
    ++state.epoch;
    state.batch = 0;
    model_.set_state(state);
    {
      const Timed timed(ledger_.saving);
      observer_.epoch_end(record);
    }
    save(0, 0);
    ledger_.total = seconds_since(start);
    observer_.ledger(ledger_);
    return true;
  }

  /// The epoch's batches that are left. False: stopped between them.
  bool train(EpochRecord& record, Clock::time_point start) {
    const double earlier = now_.seconds;
    const int batches = training_->batches();
    auto looked = start;
    for (int batch = static_cast<int>(now_.state.batch); batch < batches; ++batch) {
      training_->run(batch);
      observer_.batch_end(record.epoch, batch + 1, batches);
      if (seconds_since(looked) > 1) {  // a run of hours shall not learn of its NaN at the epoch's end
        const auto* seen = static_cast<const StepState*>(state_copy_->latest());
        if (seen && !seen->finite) require_finite(record.epoch);
        looked = Clock::now();
      }
      const bool stop = observer_.stop_requested();
      if (batch + 1 < batches && (stop || observer_.checkpoint_requested())) {
        backend_.synchronize();
        require_finite(record.epoch);
        save(batch + 1, earlier + seconds_since(start));
        if (stop) return false;
      }
    }
    backend_.synchronize();
    require_finite(record.epoch);
    record.seconds = earlier + seconds_since(start);
    ledger_.training = record.seconds - earlier - ledger_.saving;
    record.images_per_second = training_->images() / record.seconds;
    const std::vector<BatchMetrics> metrics = training_->metrics(batches);
    observer_.steps(metrics, model_.state().step - metrics.size());
    const Means trained = means(metrics);
    record.train_loss = trained.loss;
    record.train_accuracy = trained.accuracy;
    return true;
  }

  void validate(EpochRecord& record) {
    const std::vector<float> moving = calibration_ ? model_.statistics() : std::vector<float>();
    if (calibration_) {
      const Timed timed(ledger_.statistics);
      calibrate(model_, *calibration_);
    }
    const Evaluation validated = [&] {
      const Timed timed(ledger_.validation);
      return run_evaluation(*validation_, data_.valid, {});
    }();
    record.valid_loss = validated.loss;
    record.valid_accuracy = validated.accuracy;
    record.best = !best() || record.valid_accuracy > best()->valid_accuracy;
    now_.history.push_back(record);
    if (record.best) {
      const Timed timed(ledger_.saving);
      std::vector<float>().swap(now_.best_weights);  // makes room for the observer, who stores the new ones
      observer_.best(model_);
      now_.best_weights = model_.weights();
    }
    if (calibration_) {
      now_.statistics = statistics_of(model_.graph(), model_.weights());
      model_.set_statistics(moving);
    }
  }

  const EpochRecord* best() const {
    const auto found = std::find_if(now_.history.rbegin(), now_.history.rend(), [](const EpochRecord& r) { return r.best; });
    return found == now_.history.rend() ? nullptr : &*found;
  }

  /// `seconds`: spent in the present epoch.
  void save(int batches_done, double seconds) {
    const Timed timed(ledger_.saving);
    now_.state = model_.state();
    const auto parameters = static_cast<std::size_t>(model_.graph().parameter_count());
    const auto live = [&](std::vector<float> (Model::*read)(int) const) {
      return Values(parameters, [&model = model_, read](const Values::Take& take) {
        for (int p = 0; p < static_cast<int>(model.graph().parameters().size()); ++p) take((model.*read)(p));
      });
    };
    now_.weights = live(&Model::weight);
    now_.first_moments = live(&Model::first_moment);
    now_.second_moments = live(&Model::second_moment);
    now_.batches = training_->metrics(batches_done);
    now_.seconds = seconds;
    observer_.checkpoint(now_);
  }

  void require_finite(int epoch) {
    const StepState state = model_.state();
    if (!state.finite) fail_not_finite(*training_, fmt::format("epoch {}", epoch), static_cast<int>(state.batch));
  }

  FitResult result(bool stopped) {
    const int best_epoch = best() ? best()->epoch : 0;
    return {std::move(now_.history), best_epoch, std::move(now_.best_weights), stopped, features_seconds_};
  }

  Model& model_;
  Backend& backend_;
  const Dataset& data_;
  const FitOptions& options_;
  FitObserver& observer_;
  std::optional<Features> train_features_, valid_features_;
  double features_seconds_ = 0;
  std::optional<EpochRunner> training_, validation_, calibration_;
  std::unique_ptr<AsyncRead> state_copy_;
  Snapshot now_;
  EpochLedger ledger_;
};

}  // namespace

FitResult fit(Model& model, const Dataset& data, const FitOptions& options, FitObserver& observer,
              std::optional<Snapshot> resume) {
  return FitRun(model, data, options, observer).run(std::move(resume));
}

Evaluation evaluate(Model& model, const Images& images, const FitOptions& options,
                    const std::function<void(int done, int of)>& progress) {
  require(images.shape.n > 0, "nothing to evaluate");
  EpochRunner runner(model, Mode::evaluate, images, options);
  runner.prepare();
  return run_evaluation(runner, images, progress);
}

}  // namespace microtome
