// A pass over images on the device in batches: an epoch of training, an evaluation, a calibration.
#pragma once

#include "engine/fit.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace microtome {

/// What a frozen base makes of a split's images, on the device.
struct Features {
  Shape shape;  // IMAGES 1 1 C
  Buffer values;
};

/// An epoch's batches, and the smaller one at its end.
std::vector<Model::Request> requests(Mode mode, int images, const FitOptions& options, Part part);

/// One pass over resident images in batches: what gather and loss need, and where an epoch's results go. With features, one
/// over these, through the head alone.
class EpochRunner {
 public:
  EpochRunner(Model& model, Mode mode, const Images& images, const FitOptions& options, const Features* features = nullptr,
              Part part = Part::whole);

  int batches() const { return (count_ + batch_ - 1) / batch_; }
  int images() const { return count_; }

  /// Makes the steps ready to run; after the last plan() of the model, since that may move the arena.
  void prepare();

  void run(int batch) { steps_[which(batch)](); }

  int full_batches() const { return count_ / batch_; }

  /// Starts again from the first batch.
  void rewind();

  std::vector<BatchMetrics> metrics(int done) const;
  void set_metrics(const std::vector<BatchMetrics>& metrics);
  std::vector<float> scores() const;

  /// What the base makes of the batch that ran last.
  const Tensor& features(int batch) { return program(which(batch)).features(); }

  /// Gathers the batch that the state stands at and looks for the first value that is not finite.
  std::string first_not_finite(int batch);

 private:
  int rest() const { return count_ % batch_; }
  std::size_t which(int batch) const { return batch < count_ / batch_ ? 0 : 1; }
  Program& program(std::size_t i) { return model_.program(mode_, i == 0 ? batch_ : rest(), part_); }
  StepState* state() const { return mode_ == Mode::train ? model_.device_state() : static_cast<StepState*>(own_state_.data()); }

  std::function<void()> recorded(std::function<void()> step) const;
  void step(Program& program, GatherOp& gather);
  void advance(bool optimise);

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

}  // namespace microtome
