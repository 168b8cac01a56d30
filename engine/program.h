// A part of a graph for one batch size and mode: planned, laid out in an arena, written down as calls.
#pragma once

#include "engine/arena.h"
#include "engine/cost.h"
#include "engine/kinds/made.h"
#include "engine/model.h"
#include "engine/parameters.h"
#include "engine/profile.h"

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

class PlannedProgram final : public Program {
 public:
  using Call = microtome::Call;

  PlannedProgram(const Graph& graph, Backend& backend, const ModelOptions& options, const Model::Request& request,
                 const Parameters& parameters, StepState* state);

  Mode mode() const override { return request_.mode; }
  int batch() const override { return request_.batch; }
  const Tensor& input() const override { return values_[plan_.ops.front().output]; }
  const Tensor& labels() const override { return labels_; }
  const Tensor& logits() const override { return values_[graph_.output()]; }
  const Tensor& features() const override { return values_[graph_.features()]; }
  const Normalize& normalization() const override { return normalization_; }

  void forward() override;
  void loss(BatchMetrics* metrics, float* scores, StepState* state) override;
  void backward() override;
  std::string first_not_finite() override;

  const std::vector<PlannedOp>& ops() const { return plan_.ops; }

  /// In the order in which they are queued; each stream's run in this order, and none before those it awaits.
  const std::vector<Call>& forward_pass() const { return forward_; }
  const std::vector<Call>& backward_pass() const { return backward_; }

  ProgramMemory memory() const override;
  std::vector<ScopedCost> step_costs() const override;
  std::vector<PlannedKernel> kernels() const override;
  std::size_t arena_bytes() const { return arena_.bytes(); }
  /// Beside the arena: the most that a pass of an op may need, in all streams at once; what ops keep from pass to pass.
  std::size_t scratch_bytes() const;
  std::size_t kept_bytes() const;
  std::size_t arena_bytes(int batch) const { return arena_.bytes(batch, request_.batch); }
  const Model::Request& request() const { return request_; }

  /// Gives every tensor its address; again when the arena has moved.
  void bind(void* arena) const { arena_.bind(arena); }

  /// Whether weights of its own derive from the model's, and their computation from all of them in the graph's order.
  bool has_folded_norms() const;
  void fold_norms(std::span<const float> weights);

 private:
  /// The weights of a linear op that has swallowed a batch-norm.
  struct Folded {
    Buffer memory;
    Tensor w, b;
  };

  /// What a step runs beside the graph's own ops, and the tensors that lie between ops.
  struct Filters {
    std::unique_ptr<FilterTransformOp> op;
    Tensor all, dall;
    DerivedFilters view;
  };
  struct NormCorrection {
    std::unique_ptr<NormCorrectionOp> op;
    Tensor correction;
  };

  /// All that belongs to one planned op. Tensors stay where they are once the ops are made: the arena and calls point at them.
  struct OpState {
    MadeOp made;
    std::unique_ptr<ActivateOp> undo;  // a fused activation's backward pass
    std::optional<Folded> folded;
    std::optional<Filters> filters;
    std::optional<Tensor> shared_statistics;
    std::optional<Tensor> left_statistics;  // partial ones of y
    std::optional<NormVectors> vectors;
    std::vector<std::optional<Deferred>> deferred;  // of each input
    std::optional<NormCorrection> norm_correction;  // before the backward pass
    std::vector<Write> writes;                      // of each input's gradient
    int stream = 0;
  };

  MadeOp make(const Plan& plan, const PlannedOp& op) const;
  void make_ops();
  void make_folded();
  void lay_out();
  void lay_out_values();
  void lay_out_labels();
  void lay_out_filters();
  void lay_out_statistics();
  void lay_out_norms();
  void lay_out_norm(int i, Write write);
  void lay_out_norm_corrections();
  void put_correction(Tensor& correction, int value, int time);
  void touch_value(int value, int time);
  void touch_gradient(int value, int time);
  void touch_tensors_of(int i);
  void write_down_calls();
  OpView view_of(int i) const;
  void find_weights(const PlannedOp& op, const OpState& state, OpView& view) const;
  const Tensor* gradient_of(int parameter) const;
  const Tensor* statistics_left_for(const PlannedOp& op) const;
  std::vector<Call> backward_calls(int i) const;
  void schedule(std::vector<Call>& pass) const;

  int count() const { return static_cast<int>(plan_.ops.size()); }
  int output() const { return output_of(graph_, request_.part); }
  bool trains() const { return request_.mode == Mode::train; }
  /// Op i runs forward at time i and backward at backward_time(i), the loss between.
  int backward_time(int i) const { return 2 * count() - i; }
  int end_time() const { return 2 * count() + 1; }
  bool runs_backward(int i) const { return trains() && needs_[plan_.ops[i].output]; }

  Layout layout_of(const Plan& plan, int value) const;
  Layout layout_of(int value) const { return layout_of(plan_, value); }
  std::string describe(const PlannedOp& op) const;
  const std::string& row_of(const Call& call) const { return graph_.rows()[plan_.ops[call.op].row].name; }
  Scope scope_of(const Call& call) const;
  void run(const Call& call) const;
  void run(const std::vector<Call>& pass) const;

  const Graph& graph_;
  Backend& backend_;
  Model::Request request_;
  const Parameters& parameters_;
  StepState* state_;
  Optimizer optimizer_;
  Normalize normalization_;

  Plan plan_;
  std::vector<OpState> states_;  // of planned ops
  std::unique_ptr<LossOp> loss_;
  std::vector<int> gradient_storage_;  // whose memory a value's gradient has
  std::vector<bool> needs_;            // which values have a gradient worth computing
  std::vector<Tensor> values_, gradients_;
  std::vector<int> value_pieces_, gradient_pieces_;  // of the arena
  std::map<int, int> correction_pieces_;             // of roots
  Tensor labels_;
  ArenaPlan arena_;
  std::vector<Call> forward_, backward_;
};

}  // namespace microtome
