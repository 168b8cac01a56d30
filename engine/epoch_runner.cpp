#include "engine/epoch_runner.h"

#include <algorithm>

namespace microtome {

std::vector<Model::Request> requests(Mode mode, int images, const FitOptions& options, Part part) {
  const int batch = std::min(options.batch_size, images), rest = images % batch;
  std::vector<Model::Request> all{{mode, batch, batch, part}};
  if (rest > 0 && mode != Mode::calibrate) all.push_back({mode, rest, batch, part});
  return all;
}

EpochRunner::EpochRunner(Model& model, Mode mode, const Images& images, const FitOptions& options, const Features* features,
                         Part part)
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

void EpochRunner::prepare() {
  for (std::size_t i = 0; i < gathers_.size(); ++i) steps_.push_back(recorded([this, i] { step(program(i), *gathers_[i]); }));
}

void EpochRunner::rewind() {
  const StepState start{.seed = seed_};
  model_.backend().write(own_state_.data(), &start, sizeof start);
}

std::vector<BatchMetrics> EpochRunner::metrics(int done) const {
  std::vector<BatchMetrics> metrics(static_cast<std::size_t>(done));
  if (done > 0) model_.backend().read(metrics.data(), metrics_.data(), metrics.size() * sizeof(BatchMetrics));
  return metrics;
}

void EpochRunner::set_metrics(const std::vector<BatchMetrics>& metrics) {
  if (!metrics.empty()) model_.backend().write(metrics_.data(), metrics.data(), metrics.size() * sizeof(BatchMetrics));
}

std::vector<float> EpochRunner::scores() const {
  std::vector<float> scores(static_cast<std::size_t>(count_));
  model_.backend().read(scores.data(), scores_.data(), scores.size() * sizeof(float));
  return scores;
}

std::string EpochRunner::first_not_finite(int batch) {
  Program& at = program(which(batch));
  gathers_[which(batch)]->forward(images_, label_view_, state(), at.input(), at.labels());
  return at.first_not_finite();
}

std::function<void()> EpochRunner::recorded(std::function<void()> step) const {
  if (!records_) return step;
  const std::shared_ptr<Recording> recording = model_.backend().record(std::move(step));
  return [recording] { recording->run(); };
}

void EpochRunner::step(Program& program, GatherOp& gather) {
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

void EpochRunner::advance(bool optimise) {
  const Scoped scoped(model_.backend(), {.pass = Pass::advance});
  advance_->run(state(), optimise);
}

}  // namespace microtome
