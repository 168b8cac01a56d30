// Whole programs as something to run: planned as training plans them, and repeatable without end.
#pragma once

#include "bench/check.h"
#include "engine/model.h"

#include <memory>
#include <vector>

namespace microtome::bench {

/// A graph's program for one batch, with weights, images and labels from fixed seeds. The learning rate is zero: however many
/// steps have run, the next one does the same.
class ProgramRun {
 public:
  ProgramRun(const Graph& graph, Backend& backend, Mode mode, int images);

  void forward() { program_.forward(); }
  void backward() { program_.backward(); }
  /// Gathers the batch where the graph reads images; forward, loss, backward, Adam.
  void step();

  Cost forward_cost() const;
  Cost step_cost() const;

  std::size_t bytes() const { return model_.arena_bytes(); }
  std::vector<float> logits() const;
  std::vector<float> gradients() const { return model_.gradients(); }

 private:
  Model model_;
  Program& program_;
  Buffer pixels_, labels_, metrics_;
  Tensor pixel_view_, label_view_;
  std::unique_ptr<GatherOp> gather_;  // of images; a graph that reads something else has it from the beginning
};

/// The logits, and of training each parameter's gradient as a vector: as far from the reference's as the tests allow whole
/// networks in float32 or as plain loops in float are, or wrong.
CheckResult check(const Graph& graph, Backend& backend, Mode mode, int images);

}  // namespace microtome::bench
