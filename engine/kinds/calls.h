// What an op of a program runs on, and the calls that its passes are written down as. Tensors get their addresses when the
// program is bound to an arena: calls keep pointers to tensors, never to their data.
#pragma once

#include "engine/cost.h"
#include "engine/ops.h"
#include "engine/profile.h"

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

namespace microtome {

/// One op's work in a pass. Of what it reads and writes, what lies in the arena counts; null stands for nothing.
struct Call {
  int op = 0;
  Pass pass = Pass::forward;
  Cost cost = {};
  std::function<void()> run;
  std::vector<const Tensor*> reads = {}, writes = {};
  int stream = 0;
  std::vector<int> waits_for = {};  // calls of the pass, in other streams
  bool awaited = false;             // some call waits for it
};

/// The filters of a convolution whose parameter holds one in eight.
struct DerivedFilters {
  FilterTransformOp* op = nullptr;
  const Tensor *parameter = nullptr, *all = nullptr, *dall = nullptr;
  const Tensor* gradient = nullptr;  // the parameter's; null where it is not trained
};

/// The vectors of a deferred batch-norm.
struct NormVectors {
  Tensor coefficients, sums, correction;
  Write write = Write::overwrite;  // of the correction
};

/// What an op of a program runs on. Null: there is none, or nobody wants it.
struct OpView {
  struct Input {
    const Tensor *x = nullptr, *dx = nullptr;
    const Deferred* norm = nullptr;  // to be applied on the way
    Write write = Write::overwrite;  // of dx
    bool passed_on = false;          // dx is dy's memory
  };
  struct Parameter {
    std::string_view name;  // the graph's: "gamma"
    const Tensor *value = nullptr, *gradient = nullptr;
  };

  int op = 0, stream = 0, filter_stream = 0;
  Op::Reads reads;  // of the op's backward pass
  DType parameter_type = DType::f32;
  std::vector<Input> inputs;
  std::vector<Parameter> parameters;
  const Tensor *y = nullptr, *dy = nullptr;
  const Tensor *w = nullptr, *b = nullptr;    // of a linear op: its own, derived from its own, or folded ones
  const Tensor *dw = nullptr, *db = nullptr;  // of what `w` and `b` are
  const DerivedFilters* filters = nullptr;
  const Tensor* statistics_left = nullptr;    // partial ones of y
  const Tensor* statistics_found = nullptr;   // partial ones of x
  const Tensor* statistics_shared = nullptr;  // of all that read x
  const NormVectors* vectors = nullptr;
  const StepState* state = nullptr;

  const Tensor* x(std::size_t i = 0) const { return inputs[i].x; }
  const Tensor* dx(std::size_t i = 0) const { return inputs[i].dx; }
  const Deferred* norm(std::size_t i = 0) const { return inputs[i].norm; }
  Write write(std::size_t i = 0) const { return inputs[i].write; }
  const Tensor* parameter(std::string_view name) const;
  const Tensor* gradient(std::string_view name) const;

 private:
  const Parameter* find(std::string_view name) const;
};

/// Takes down the calls of one op. `cost`: of one of its passes.
class Calls {
 public:
  Calls(const OpView& view, std::function<Cost(Pass, Write)> cost, std::vector<Call>& to)
      : view_(view), cost_(std::move(cost)), to_(to) {}

  /// Reads all inputs and what is applied to them on the way, writes y.
  Call& forward(std::function<void()> run);
  /// Reads dy, what the op says that it reads, and what undoes norms on the way; writes the gradients of the inputs.
  Call& backward(Pass pass, std::function<void()> run);
  /// Of a linear op's filters. Nobody waits for their gradient before the pass ends: it has a stream of its own.
  Call& backward_filter(std::function<void()> run);
  /// Reads and writes nothing yet.
  Call& add(Pass pass, const Cost& cost, std::function<void()> run);

  Cost cost(Pass pass, Write write = Write::overwrite) const { return cost_(pass, write); }

 private:
  const OpView& view_;
  std::function<Cost(Pass, Write)> cost_;
  std::vector<Call>& to_;
};

}  // namespace microtome
