#include "engine/plan.h"

#include "engine/check.h"

#include <algorithm>
#include <numeric>

namespace microtome {
namespace {

int readers(std::span<const PlannedOp> ops, int value) {
  int count = 0;
  for (const PlannedOp& op : ops) count += static_cast<int>(std::count(op.inputs.begin(), op.inputs.end(), value));
  return count;
}

PlannedOp* producer(std::span<PlannedOp> ops, int value) {
  const auto found = std::find_if(ops.begin(), ops.end(), [value](const PlannedOp& op) { return op.output == value; });
  return found == ops.end() ? nullptr : &*found;
}

Activation* activation_option(GraphOp::Kind& kind) {
  if (auto* conv = std::get_if<Conv>(&kind)) return &conv->activation;
  if (auto* dense = std::get_if<Dense>(&kind)) return &dense->activation;
  if (auto* norm = std::get_if<BatchNorm>(&kind)) return &norm->activation;
  if (auto* pool = std::get_if<Pool>(&kind)) return &pool->activation;
  return nullptr;
}

bool follows_from_output(Activation function) { return function != Activation::swish; }

}  // namespace

std::vector<PlannedOp> lower(const Graph& graph, const LowerOptions& options) {
  const bool train = options.mode == Mode::train;
  std::vector<PlannedOp> ops;
  for (int i = 0; i < static_cast<int>(graph.ops().size()); ++i) {
    const GraphOp& source = graph.ops()[i];
    PlannedOp op{source.kind, source.inputs, i, source.parameters, source.row};
    if (auto* norm = std::get_if<BatchNorm>(&op.kind)) {
      const bool trainable = std::any_of(source.parameters.begin(), source.parameters.end(),
                                         [&](int p) { return graph.parameters()[p].trainable; });
      norm->batch_statistics = options.mode != Mode::evaluate && trainable;
      norm->bessel = norm->bessel && options.bessel;
      if (options.mode == Mode::calibrate) norm->momentum = 0, norm->bessel = true;
    }
    if (const auto* dropout = std::get_if<Dropout>(&op.kind); dropout && (!train || !options.dropout || dropout->rate == 0))
      op.kind = Reshape{source.output};
    ops.push_back(std::move(op));
  }
  return ops;
}

void move_relu_behind_max_pool(std::vector<PlannedOp>& ops) {
  for (PlannedOp& op : ops) {
    auto* pool = std::get_if<Pool>(&op.kind);
    if (!pool || pool->kind != Pool::Kind::max || pool->activation != Activation::none) continue;
    PlannedOp* before = producer(ops, op.inputs[0]);
    const auto* activate = before ? std::get_if<Activate>(&before->kind) : nullptr;
    if (!activate || activate->function != Activation::relu || readers(ops, before->output) != 1) continue;
    pool->activation = Activation::relu;
    const int removed = before->output;
    op.inputs = before->inputs;
    std::erase_if(ops, [removed](const PlannedOp& o) { return o.output == removed; });
    return move_relu_behind_max_pool(ops);  // `ops` has moved under the loop
  }
}

void fuse_activations(std::vector<PlannedOp>& ops, Mode mode) {
  std::vector<PlannedOp> fused;
  for (PlannedOp& op : ops) {
    const auto* activate = std::get_if<Activate>(&op.kind);
    PlannedOp* before = activate ? producer(fused, op.inputs[0]) : nullptr;
    Activation* option = before ? activation_option(before->kind) : nullptr;
    const bool pool = before && std::holds_alternative<Pool>(before->kind);
    const bool norm = before && std::holds_alternative<BatchNorm>(before->kind);
    const bool possible = option && !pool && *option == Activation::none && readers(ops, before->output) == 1 &&
                          (norm || mode != Mode::train || follows_from_output(activate->function));
    if (possible) {
      *option = activate->function;
      before->output = op.output;
    } else {
      fused.push_back(std::move(op));
    }
  }
  ops = std::move(fused);
}

Activation fused_activation(const GraphOp::Kind& kind) {
  GraphOp::Kind copy = kind;
  const Activation* option = activation_option(copy);
  return option ? *option : Activation::none;
}

PlannedOp split_activation(PlannedOp& op, int fresh_value) {
  Activation* option = activation_option(op.kind);
  require(option && *option != Activation::none, "a backend declined an op without options");
  PlannedOp activate{Activate{*option}, {fresh_value}, op.output, {}, op.row};
  *option = Activation::none;
  op.output = fresh_value;
  return activate;
}

std::vector<int> alias_roots(std::span<const PlannedOp> ops, int values) {
  std::vector<int> roots(values);
  std::iota(roots.begin(), roots.end(), 0);
  for (const PlannedOp& op : ops)
    if (std::holds_alternative<Reshape>(op.kind)) roots[op.output] = roots[op.inputs[0]];
  return roots;
}

std::vector<bool> needs_gradient(const Graph& graph, std::span<const PlannedOp> ops, int values) {
  std::vector<bool> needs(values);
  for (const PlannedOp& op : ops) {
    const bool trains = std::any_of(op.parameters.begin(), op.parameters.end(), [&](int p) { return graph.parameters()[p].trainable; });
    const bool passes = std::any_of(op.inputs.begin(), op.inputs.end(), [&](int v) { return needs[v]; });
    needs[op.output] = trains || passes;
  }
  return needs;
}

std::vector<std::vector<Write>> gradient_writes(std::span<const PlannedOp> ops, std::span<const int> roots) {
  std::vector<bool> written(roots.size());
  std::vector<std::vector<Write>> writes(ops.size());
  for (int i = static_cast<int>(ops.size()) - 1; i >= 0; --i) {
    if (std::holds_alternative<Reshape>(ops[i].kind)) continue;
    for (const int input : ops[i].inputs) {
      const int root = roots[input];
      writes[i].push_back(written[root] ? Write::accumulate : Write::overwrite);
      written[root] = true;
    }
  }
  return writes;
}

Arena assign_offsets(std::span<const Lifetime> lifetimes) {
  constexpr std::size_t alignment = 256;
  const auto aligned = [](std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; };
  std::vector<int> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  Arena arena{std::vector<std::size_t>(lifetimes.size()), 0};
  std::vector<int> placed;  // by offset
  for (const int i : order) {
    std::size_t offset = 0;
    for (const int other : placed) {
      const bool together = lifetimes[i].first <= lifetimes[other].last && lifetimes[other].first <= lifetimes[i].last;
      if (!together) continue;
      if (arena.offsets[other] >= offset + aligned(lifetimes[i].bytes)) break;
      offset = std::max(offset, arena.offsets[other] + aligned(lifetimes[other].bytes));
    }
    arena.offsets[i] = offset;
    arena.bytes = std::max(arena.bytes, offset + aligned(lifetimes[i].bytes));
    const auto position = std::upper_bound(placed.begin(), placed.end(), offset,
                                           [&](std::size_t o, int other) { return o < arena.offsets[other]; });
    placed.insert(position, i);
  }
  return arena;
}

}  // namespace microtome
