// A part of a graph for one batch size and mode: planned, laid out in an arena, written down as calls.
#pragma once

#include "engine/model.h"
#include "engine/parameters.h"

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace microtome {

class PlannedProgram final : public Program {
 public:
  PlannedProgram(const Graph& graph, Backend& backend, const ModelOptions& options, const Model::Request& request,
                 const Parameters& parameters, StepState* state);

  Mode mode() const override { return request_.mode; }
  int batch() const override { return request_.batch; }
  const Tensor& input() const override { return values_[ops_.front().output]; }
  const Tensor& labels() const override { return labels_; }
  const Tensor& logits() const override { return values_[graph_.output()]; }
  const Tensor& features() const override { return values_[graph_.features()]; }
  const Normalize& normalization() const override { return normalization_; }

  void forward() override;
  void loss(BatchMetrics* metrics, float* scores, StepState* state) override;
  void backward() override;
  std::string first_not_finite() override;

  std::size_t arena_bytes() const { return arena_.bytes; }

  /// Gives every tensor its address; again when the arena has moved.
  void bind(void* arena);

  /// Whether weights of its own derive from the model's, and their computation from all of them in the graph's order.
  bool has_folded_norms() const { return !folded_.empty(); }
  void fold_norms(std::span<const float> weights);

 private:
  struct Call {
    int op;
    std::function<void()> run;
  };

  /// The weights of a linear op that has swallowed a batch-norm.
  struct Folded {
    Buffer memory;
    Tensor w, b;
  };

  void plan(const ModelOptions& options);
  void make_ops();
  std::unique_ptr<Op> make(const PlannedOp& op);
  void make_folded();
  void lay_out();
  std::function<void()> forward_call(int i);
  std::function<void()> backward_call(int i);

  int output() const { return request_.part == Part::base ? graph_.features() : graph_.output(); }
  Layout layout_of(int value) const;
  std::string describe(const PlannedOp& op) const;
  std::string row_of(const Call& call) const { return graph_.rows()[ops_[call.op].row].name; }
  void run(const Call& call) const;

  const Graph& graph_;
  Backend& backend_;
  Model::Request request_;
  const Parameters& parameters_;
  StepState* state_;
  Normalize normalization_;

  std::vector<PlannedOp> ops_;
  std::vector<Shape> shapes_;                       // of each value, for one image
  std::vector<Place> places_;                       // of each value
  std::vector<std::unique_ptr<Op>> made_;           // of each planned op; null where nothing runs
  std::map<int, std::unique_ptr<ActivateOp>> undo_;  // the fused activations' backward passes
  std::map<int, Folded> folded_;                    // of planned ops
  std::unique_ptr<LossOp> loss_;
  std::vector<int> homes_;  // whose memory a value's gradient has
  std::vector<bool> needs_;
  std::vector<std::vector<Write>> writes_;
  std::vector<Tensor> values_, gradients_, statistics_;  // statistics_: of each planned op that shares them
  Tensor labels_;
  std::vector<int> value_slot_, gradient_slot_, statistics_slot_;  // of roots; of homes; of roots
  int labels_slot_ = 0;
  Arena arena_;
  std::vector<Call> forward_, backward_;
};

}  // namespace microtome
