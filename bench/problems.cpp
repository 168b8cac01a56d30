#include "bench/problems.h"

#include "engine/check.h"
#include "engine/kinds/visit.h"
#include "engine/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <unordered_map>

namespace microtome::bench {

namespace {

constexpr int usual_size = 96;

/// A training plan as the planner asks a backend for it, which declines nothing.
Plan plan_of(const Graph& graph, bool deferred) {
  PlanOptions options{.lower = {.mode = Mode::train}, .image_channels = std::numeric_limits<int>::max()};
  if (deferred) options.takes = [](const Plan&, const PlannedOp&) { return true; };
  return make_plan(graph, options);
}

/// The op's name and its kind without what changes no work.
struct Named {
  std::string op;
  Problem::Kind kind;
};

Named named(Conv conv, const Shape& x) {
  conv.p4m = P4m::none;  // its filters are made by an op of their own
  return {conv.groups == x.c && x.c > 1 ? "depthwise_conv" : "conv", conv};
}
Named named(const Dense& dense, const Shape&) {
  return {"dense", dense};
}
Named named(BatchNorm norm, const Shape&) {
  norm.epsilon = BatchNorm().epsilon, norm.momentum = BatchNorm().momentum, norm.bessel = false;
  return {"batch_norm", norm};
}
Named named(const Activate& activate, const Shape&) {
  return {activate.function == Activation::none ? "copy" : "activation", activate};
}
Named named(const Pool& pool, const Shape&) {
  return {pool.kind == Pool::Kind::max ? "max_pool" : "average_pool", pool};
}
Named named(Dropout dropout, const Shape&) {
  dropout.stream = 0, dropout.rate = Dropout().rate;
  return {dropout.per_image ? "stochastic_depth" : "dropout", dropout};
}
Named named(const Add& add, const Shape&) {
  return {"add", add};
}
Named named(const Multiply& multiply, const Shape&) {
  return {"multiply", multiply};
}

/// None for what does not run.
std::optional<Named> named(const PlannedOp& op, const Shape& x) {
  return visit_kind(op.kind, [&](const auto& kind, auto traits) -> std::optional<Named> {
    if constexpr (traits.runs)
      return named(kind, x);
    else
      return std::nullopt;
  });
}

/// Whether the planner asks for this only where a backend defers.
bool is_for_deferral(const PlannedOp& op) {
  bool is = is_deferred(op) || leaves_statistics(op) || takes_statistics(op);
  for (std::size_t k = 0; k < op.inputs.size(); ++k) is = is || deferred_norm(op, k);
  return is;
}

class Collector {
 public:
  void add(const std::string& net, int size) {
    const Graph graph = find_network(net).build(size);
    where_ = {net, size};
    for (const bool deferred : {false, true}) add_plan(graph, plan_of(graph, deferred), deferred);
    const Shape image = graph.ops().front().output, logit{1, 1, 1, 1};
    const int count = static_cast<int>(graph.parameter_count(true));
    put({.op = "gather", .kind = TakeBatch{}, .inputs = {image}, .output = image, .reads_image = true}, "input");
    put({.op = "loss", .kind = TakeLoss{}, .inputs = {logit}, .output = logit}, "loss");
    put({.op = "adam", .kind = Update{}, .inputs = {{1, 1, 1, count}}, .output = {1, 1, 1, count}}, "update");
  }

  std::vector<Problem> take() {
    std::map<std::string, int> seen;
    for (Problem& problem : all_)
      if (const int n = ++seen[problem.op + problem.label + (problem.deferred ? "/deferred" : "")]; n > 1)
        problem.label += fmt::format("#{}", n);
    return std::move(all_);
  }

 private:
  /// Of a deferred plan what the plain one has not.
  void add_plan(const Graph& graph, const Plan& plan, bool only_deferred) {
    const std::vector<bool> needs = needs_gradient(graph, plan.ops, plan.shapes.size());
    std::set<int> settled;  // values
    for (const PlannedOp& op : plan.ops) {
      if (op.inputs.empty()) continue;
      const Shape& x = plan.shapes[op.inputs[0]];
      const std::optional<Named> what = named(op, x);
      if (!what || is_for_deferral(op) != only_deferred) continue;
      Problem problem{.op = what->op, .kind = what->kind, .output = plan.shapes[op.output], .deferred = only_deferred};
      for (const int input : op.inputs) problem.inputs.push_back(plan.shapes[input]);
      problem.reads_image = plan.aliases[op.inputs[0]].root == plan.aliases[plan.ops.front().output].root;
      problem.makes_logits = op.output == graph.output();
      problem.needs_gradient = needs[op.inputs[0]];
      const std::string& row = graph.rows()[op.row].name;
      put(std::move(problem), row);
      const auto* conv = std::get_if<Conv>(&op.kind);
      if (conv && conv->p4m != P4m::none) {
        const Shape& w = graph.parameters()[op.parameters[0]].shape;
        put({.op = "filter_transform", .kind = TransformFilters{conv->p4m}, .inputs = {w}, .output = derived_filters(*conv, w)},
            row);
      }
      if (is_deferred(op) && settled.insert(op.inputs[0]).second)
        put({.op = "norm_correction", .kind = NormCorrection{}, .inputs = {x}, .output = x, .deferred = true}, row);
    }
  }

  void put(Problem problem, const std::string& row) {
    std::vector<std::size_t>& alike = by_shape_[problem.op + to_string(problem.inputs[0]) + to_string(problem.output)];
    const auto found = std::find_if(alike.begin(), alike.end(), [&](std::size_t i) { return all_[i].same_work(problem); });
    if (found == alike.end()) {
      problem.label = label_of(where_) + ":" + row;
      problem.uses = {{where_, 1}};
      alike.push_back(all_.size());
      all_.push_back(std::move(problem));
    } else {
      Problem& first = all_[*found];
      ++first.uses[where_];
      first.needs_gradient = first.needs_gradient || problem.needs_gradient;
    }
  }

  Problem::Where where_;
  std::vector<Problem> all_;
  std::unordered_map<std::string, std::vector<std::size_t>> by_shape_;
};

}  // namespace

std::string label_of(const Problem::Where& where) {
  const auto& [net, size] = where;
  return size == usual_size ? net : fmt::format("{}@{}", net, size);
}

int Problem::total_uses() const {
  return std::accumulate(uses.begin(), uses.end(), 0, [](int sum, const auto& use) { return sum + use.second; });
}

bool Problem::same_work(const Problem& o) const {
  return op == o.op && kind == o.kind && inputs == o.inputs && output == o.output && reads_image == o.reads_image &&
         makes_logits == o.makes_logits && deferred == o.deferred;
}

Problems enumerate(const std::vector<int>& sizes) {
  Problems problems;
  Collector collector;
  for (const int size : sizes)
    for (const Network& network : networks()) {
      const std::string net(network.name);
      try {
        collector.add(net, size);
      } catch (const Error& error) {
        if (error.code() != ExitCode::usage) throw;
        problems.too_small.push_back({net, size});
      }
    }
  problems.all = collector.take();
  return problems;
}

bool is_update(const Problem& problem) {
  return std::holds_alternative<Update>(problem.kind);
}

namespace {

using Passes = std::vector<std::string>;

template <class Kind>
Passes passes(const Kind&, const Problem& problem) {
  Passes all{"forward"};
  if (Traits<Kind>::is_linear) {
    if (problem.op == "depthwise_conv") all.push_back("backward");
    if (problem.needs_gradient) all.push_back("backward_data");
    all.push_back("backward_filter");
  } else if (problem.needs_gradient) {
    all.push_back("backward");
  }
  return all;
}
Passes passes(const Multiply&, const Problem&) {
  return {"forward", "backward_data", "backward_gate"};
}
Passes passes(const TransformFilters&, const Problem&) {
  return {"forward", "backward"};
}
Passes passes(const NormCorrection&, const Problem&) {
  return {"run"};
}
Passes passes(const TakeBatch&, const Problem&) {
  return {"forward"};
}
Passes passes(const TakeLoss&, const Problem&) {
  return {"forward", "backward"};
}
Passes passes(const Update&, const Problem&) {
  return {"update"};
}

}  // namespace

std::vector<std::string> passes_of(const Problem& problem) {
  return std::visit([&](const auto& kind) { return passes(kind, problem); }, problem.kind);
}

}  // namespace microtome::bench
