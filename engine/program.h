// A part of a graph for one batch size and mode: planned, laid out in an arena, written down as calls.
#pragma once

#include "engine/arena.h"
#include "engine/cost.h"
#include "engine/model.h"
#include "engine/parameters.h"
#include "engine/profile.h"

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

class PlannedProgram final : public Program {
 public:
  /// One op's work in a pass. Of what it reads and writes, what lies in the arena counts.
  struct Call {
    int op;
    Pass pass;
    Cost cost;
    std::function<void()> run;
    std::vector<const Tensor*> reads, writes;
    int lane = 0;
    std::vector<int> awaits = {};  // calls of the pass, in other lanes
    bool signals = false;          // some call awaits it
  };

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

  const std::vector<PlannedOp>& ops() const { return ops_; }

  /// In the order in which they are queued; each lane's run in this order, and none before those it awaits.
  const std::vector<Call>& forward_pass() const { return forward_; }
  const std::vector<Call>& backward_pass() const { return backward_; }

  ProgramMemory memory() const override;
  std::vector<ScopedCost> costs() const override;
  std::vector<PlannedKernel> kernels() const override;
  std::size_t arena_bytes() const { return arena_.bytes(); }
  /// Beside the arena: the most that a pass of an op may need, in all lanes at once; what ops keep from pass to pass.
  std::size_t scratch_bytes() const;
  std::size_t kept_bytes() const;
  std::size_t arena_bytes(int batch) const { return arena_.bytes(batch, request_.batch); }
  const Model::Request& request() const { return request_; }

  /// Gives every tensor its address; again when the arena has moved.
  void bind(void* arena) const { arena_.bind(arena); }

  /// Whether weights of its own derive from the model's, and their computation from all of them in the graph's order.
  bool has_folded_norms() const { return !folded_.empty(); }
  void fold_norms(std::span<const float> weights);

 private:
  /// The weights of a linear op that has swallowed a batch-norm.
  struct Folded {
    Buffer memory;
    Tensor w, b;
  };

  /// The vectors of a deferred batch-norm.
  struct NormVectors {
    Tensor coefficients, sums, correction;
    Write write = Write::overwrite;  // of the correction
  };

  /// The filters of a convolution whose parameter holds one in eight.
  struct DerivedFilters {
    std::unique_ptr<FilterTransformOp> op;
    Tensor all, dall;
  };

  void plan(const ModelOptions& options);
  void ask_for_deferral();
  void ask_for_statistics();
  void make_ops();
  std::unique_ptr<Op> make(const PlannedOp& op);
  void make_folded();
  void lay_out();
  void lay_out_filters();
  void lay_out_statistics();
  void lay_out_norms(const std::function<void(int value, int time)>& touch_value);
  std::vector<Call> forward_calls(int i);
  std::vector<Call> backward_calls(int i);
  void schedule(std::vector<Call>& pass) const;

  const Deferred* deferred(int op, std::size_t input) const;
  const Tensor* partial_statistics(int value) const;
  const DerivedFilters* derived(int op) const;

  int output() const { return request_.part == Part::base ? graph_.features() : graph_.output(); }
  Layout layout_of(int value) const;
  Cost cost_of(const PlannedOp& op, Pass pass, Write write = Write::overwrite) const;
  std::string describe(const PlannedOp& op) const;
  const std::string& row_of(const Call& call) const { return graph_.rows()[ops_[call.op].row].name; }
  Scope scope_of(const Call& call) const;
  void run(const Call& call) const;
  void run(const std::vector<Call>& pass) const;

  const Graph& graph_;
  Backend& backend_;
  Model::Request request_;
  const Parameters& parameters_;
  StepState* state_;
  Normalize normalization_;

  std::vector<PlannedOp> ops_;
  std::vector<Shape> shapes_;                        // of each value, for one image
  int image_channels_ = 0;                           // that the input has room for, where more than it has
  std::vector<Place> places_;                        // of each value
  std::vector<std::unique_ptr<Op>> made_;            // of each planned op; null where nothing runs
  std::map<int, std::unique_ptr<ActivateOp>> undo_;  // the fused activations' backward passes
  std::map<int, Folded> folded_;                     // of planned ops
  std::unique_ptr<LossOp> loss_;
  std::vector<int> homes_;  // whose memory a value's gradient has
  std::vector<bool> needs_;
  std::vector<std::vector<Write>> writes_;
  std::vector<Tensor> values_, gradients_;
  std::vector<int> value_pieces_, gradient_pieces_;           // of the arena
  std::map<int, DerivedFilters> filters_;                     // of planned ops
  std::map<int, Tensor> statistics_;                          // of planned ops that share them
  std::map<int, Tensor> partial_statistics_;                  // of values
  std::map<int, NormVectors> norms_;                          // of planned ops
  std::map<std::pair<int, std::size_t>, Deferred> deferred_;  // of planned ops' inputs
  struct Settlement {
    std::unique_ptr<SettleOp> op;
    Tensor correction;
  };
  std::map<int, Settlement> settlements_;  // of planned ops, before their backward pass
  Tensor labels_;
  ArenaPlan arena_;
  std::vector<int> op_lanes_;  // of planned ops
  std::vector<Call> forward_, backward_;
};

}  // namespace microtome
