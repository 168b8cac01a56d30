#include "engine/graph.h"

#include "engine/check.h"
#include "engine/kinds/visit.h"

#include <algorithm>

namespace microtome {
namespace {

std::vector<Shape> parameter_shapes(const Graph& graph, const std::vector<int>& parameters) {
  std::vector<Shape> shapes;
  for (const int p : parameters) shapes.push_back(graph.parameters()[p].shape);
  return shapes;
}

std::int64_t macs_of(const GraphOp& op, const Graph& graph) {
  return visit_kind(op.kind, [&](const auto& kind, auto traits) {
    return traits.macs(kind, op.output, parameter_shapes(graph, op.parameters));
  });
}

}  // namespace

Shape derived_filters(const Conv& conv, Shape w) {
  if (conv.p4m != P4m::none) w.n *= p4m_symmetries;
  return w;
}

Shape Node::shape() const {
  return graph->ops()[op].output;
}

Node Graph::input(Extent image, int channels) {
  require(ops_.empty(), "a network has one input, recorded first");
  row("input_layer");
  ops_.push_back({Input{}, {}, {}, {1, image.h, image.w, channels}, 0});
  rows_.back().output = 0;
  return {this, 0};
}

void Graph::row(std::string_view kind, std::string_view name) {
  std::string unique(name);
  if (name.empty()) {
    const int uses = uses_of_kind_[std::string(kind)]++;
    unique = uses == 0 ? std::string(kind) : fmt::format("{}_{}", kind, uses);
  }
  const bool taken = std::any_of(rows_.begin(), rows_.end(), [&](const Row& r) { return r.name == unique; });
  require(!taken, "two rows are named ", unique);
  rows_.push_back({unique, std::string(kind), {}, -1, {}});
}

int Graph::parameter(std::string_view name, const Shape& shape, std::vector<int> keras_shape, Initializer init) {
  const int index = static_cast<int>(parameters_.size());
  const int row = static_cast<int>(rows_.size()) - 1;
  parameters_.push_back({row, std::string(name), shape, std::move(keras_shape), init});
  rows_[row].parameters.push_back(index);
  return index;
}

int Graph::statistic(std::string_view name, const Shape& shape, double initial) {
  const int index = parameter(name, shape, {shape.c}, constant(initial));
  parameters_[index].trainable = false;
  parameters_[index].statistic = true;
  return index;
}

void Graph::freeze_base() {
  require(features_ >= 0, "this network has no published base to freeze");
  for (Parameter& p : parameters_) p.trainable = p.trainable && p.row > ops_[features_].row;
}

void Graph::freeze() {
  for (Parameter& p : parameters_) p.trainable = false;
}

Node Graph::op(GraphOp::Kind kind, const std::vector<Node>& inputs, std::vector<int> parameters) {
  Row& row = rows_.back();
  std::vector<Shape> shapes;
  std::vector<int> sources;
  for (const Node& x : inputs) {
    require(x.graph == this, "row ", row.name, " mixes two networks");
    shapes.push_back(x.shape());
    sources.push_back(x.op);
  }
  try {
    const Shape output = visit_kind(
        kind, [&](const auto& k, auto traits) { return traits.infer(k, shapes, parameter_shapes(*this, parameters)); });
    ops_.push_back({kind, std::move(sources), std::move(parameters), output, static_cast<int>(rows_.size()) - 1});
  } catch (Error& error) {
    throw error.within(fmt::format("row {} ({})", row.name, row.kind));
  }
  row.output = static_cast<int>(ops_.size()) - 1;
  return {this, row.output};
}

std::int64_t Graph::parameter_count(bool trainable_only) const {
  std::int64_t count = 0;
  for (const Parameter& p : parameters_)
    if (p.trainable || !trainable_only) count += p.shape.count();
  return count;
}

std::int64_t Graph::macs() const {
  std::int64_t sum = 0;
  for (const GraphOp& op : ops_) sum += macs_of(op, *this);
  return sum;
}

std::int64_t Graph::macs(int row) const {
  std::int64_t sum = 0;
  for (const GraphOp& op : ops_)
    if (op.row == row) sum += macs_of(op, *this);
  return sum;
}

std::vector<int> keras_order(const Graph& graph) {
  const int count = static_cast<int>(graph.rows().size());
  std::vector<std::vector<int>> inputs(count);  // rows that a row reads, in order
  for (const GraphOp& op : graph.ops())
    for (const int input : op.inputs)
      if (const int from = graph.ops()[input].row; from != op.row) inputs[op.row].push_back(from);

  // Depth first from the output: `met` as rows are entered, `left` as all before them is done. Keras 3's map_graph.
  std::vector<int> met(count, -1), left;
  struct Visit {
    int row;
    std::size_t next;
  };
  std::vector<Visit> path{{graph.ops()[graph.output()].row, 0}};
  int entered = 0;
  met[path[0].row] = entered++;
  while (!path.empty()) {
    Visit& visit = path.back();
    if (visit.next == inputs[visit.row].size()) {
      left.push_back(visit.row);
      path.pop_back();
      continue;
    }
    const int from = inputs[visit.row][visit.next++];
    if (met[from] >= 0) continue;
    met[from] = entered++;
    path.push_back({from, 0});
  }
  std::vector<int> depth(count);
  std::for_each(left.rbegin(), left.rend(), [&](int row) {
    for (const int from : inputs[row]) depth[from] = std::max(depth[from], depth[row] + 1);
  });
  std::sort(left.begin(), left.end(),
            [&](int a, int b) { return depth[a] != depth[b] ? depth[a] > depth[b] : met[a] < met[b]; });
  return left;
}

bool random_before_features(const Graph& graph) {
  const auto end = graph.ops().begin() + graph.features() + 1;
  return std::any_of(graph.ops().begin(), end, [](const GraphOp& op) {
    return visit_kind(op.kind, [](const auto& kind, auto traits) { return traits.is_random(kind); });
  });
}

std::string full_name(const Graph& graph, const Parameter& parameter) {
  return fmt::format("{}/{}", graph.rows()[parameter.row].name, parameter.name);
}

}  // namespace microtome
