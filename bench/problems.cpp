#include "bench/problems.h"

#include "engine/check.h"
#include "engine/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <unordered_map>

namespace microtome::bench {

namespace {

constexpr int usual_size = 96;

template <class... Fs>
struct Overload : Fs... {
  using Fs::operator()...;
};

/// A training plan as the planner asks a backend for it, which declines nothing.
struct Plan {
  std::vector<PlannedOp> ops;
  std::vector<Shape> shapes;
  std::vector<Place> places;
  std::vector<bool> needs;
};

Plan plan_of(const Graph& graph) {
  Plan plan;
  for (const GraphOp& op : graph.ops()) plan.shapes.push_back(op.output);
  plan.ops = lower(graph, {.mode = Mode::train});
  fold_padding(graph, plan.ops);
  fold_batch_norms(graph, plan.ops);
  move_relu_behind_max_pool(plan.ops);
  fuse_activations(plan.ops, Mode::train);
  copy_into_concats(plan.ops, plan.shapes);
  plan.places = place_values(plan.ops, plan.shapes);
  share_statistics(plan.ops, plan.places, plan.shapes);
  give_image_room(plan.ops, plan.places);
  plan.needs = needs_gradient(graph, plan.ops, plan.shapes.size());
  return plan;
}

Plan deferred(const Graph& graph, Plan plan) {
  const int kept[] = {graph.output(), graph.features()};
  defer_batch_norms(plan.ops, plan.places, plan.shapes, kept);
  plan.places = place_values(plan.ops, plan.shapes);
  leave_statistics(plan.ops, plan.places, plan.shapes);
  return plan;
}

/// The op's name and its kind without what changes no work; none for what does not run.
struct Named {
  std::string op;
  Problem::Kind kind;
};

std::optional<Named> named(const PlannedOp& op, const Shape& x) {
  using Result = std::optional<Named>;
  return std::visit(Overload{[&](Conv conv) -> Result {
                               conv.p4m = P4m::none;  // its filters are made by an op of their own
                               return Named{conv.groups == x.c && x.c > 1 ? "depthwise_conv" : "conv", conv};
                             },
                             [](const Dense& dense) -> Result {
                               return Named{"dense", dense};
                             },
                             [](BatchNorm norm) -> Result {
                               norm.epsilon = BatchNorm().epsilon, norm.momentum = BatchNorm().momentum, norm.bessel = false;
                               return Named{"batch_norm", norm};
                             },
                             [](const Activate& activate) -> Result {
                               return Named{activate.function == Activation::none ? "copy" : "activation", activate};
                             },
                             [](const Pool& pool) -> Result {
                               return Named{pool.kind == Pool::Kind::max ? "max_pool" : "average_pool", pool};
                             },
                             [](Dropout dropout) -> Result {
                               dropout.stream = 0, dropout.rate = Dropout().rate;
                               return Named{dropout.per_image ? "stochastic_depth" : "dropout", dropout};
                             },
                             [](const Add& add) -> Result {
                               return Named{"add", add};
                             },
                             [](const Multiply& multiply) -> Result {
                               return Named{"multiply", multiply};
                             },
                             [](const auto&) -> Result { return std::nullopt; }},
                    op.kind);
}

/// Whether the planner asks for this only where a backend defers.
bool is_for_deferral(const Problem::Kind& kind) {
  return std::visit(
      Overload{[](const Conv& k) { return k.deferred || k.statistics; },
               [](const BatchNorm& k) { return k.deferred || k.partial_statistics; },
               [](const Pool& k) { return k.deferred.has_value(); }, [](const Dropout& k) { return k.deferred.has_value(); },
               [](const Add& k) { return k.deferred[0] || k.deferred[1]; },
               [](const Multiply& k) { return k.deferred.has_value(); }, [](const Settle&) { return true; },
               [](const auto&) { return false; }},
      kind);
}

class Collector {
 public:
  void add(const std::string& net, int size) {
    const Graph graph = find_network(net).build(size);
    const Plan plan = plan_of(graph);
    where_ = {net, size};
    add_plan(graph, plan, false);
    add_plan(graph, deferred(graph, plan), true);
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
    std::set<int> settled;  // values
    for (const PlannedOp& op : plan.ops) {
      if (op.inputs.empty()) continue;
      const Shape& x = plan.shapes[op.inputs[0]];
      const std::optional<Named> what = named(op, x);
      if (!what || is_for_deferral(what->kind) != only_deferred) continue;
      Problem problem{.op = what->op, .kind = what->kind, .output = plan.shapes[op.output], .deferred = only_deferred};
      for (const int input : op.inputs) problem.inputs.push_back(plan.shapes[input]);
      problem.reads_image = plan.places[op.inputs[0]].root == plan.places[plan.ops.front().output].root;
      problem.makes_logits = op.output == graph.output();
      problem.needs_gradient = plan.needs[op.inputs[0]];
      const std::string& row = graph.rows()[op.row].name;
      put(std::move(problem), row);
      const auto* conv = std::get_if<Conv>(&op.kind);
      if (conv && conv->p4m != P4m::none) {
        const Shape& w = graph.parameters()[op.parameters[0]].shape;
        put({.op = "filter_transform", .kind = TransformFilters{conv->p4m}, .inputs = {w}, .output = derived_filters(*conv, w)},
            row);
      }
      if (is_deferred(op) && settled.insert(op.inputs[0]).second)
        put({.op = "settle", .kind = Settle{}, .inputs = {x}, .output = x, .deferred = true}, row);
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

std::vector<std::string> passes_of(const Problem& problem) {
  const std::string& op = problem.op;
  if (op == "gather") return {"forward"};
  if (op == "adam") return {"update"};
  if (op == "settle") return {"run"};
  if (op == "multiply") return {"forward", "backward_data", "backward_gate"};
  std::vector<std::string> passes{"forward"};
  if (op == "depthwise_conv") passes.push_back("backward");
  if (op == "conv" || op == "depthwise_conv" || op == "dense") {
    if (problem.needs_gradient) passes.push_back("backward_data");
    passes.push_back("backward_filter");
  } else if (problem.needs_gradient) {
    passes.push_back("backward");
  }
  return passes;
}

}  // namespace microtome::bench
