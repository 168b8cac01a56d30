#include "engine/graph.h"

#include "engine/check.h"

#include <algorithm>
#include <type_traits>

namespace microtome {
namespace {

template <class... Fs>
struct Overload : Fs... {
  using Fs::operator()...;
};

/// The output of a kind for one image; throws where there is none.
Shape infer(const GraphOp::Kind& kind, const std::vector<Shape>& x, const std::vector<const Parameter*>& parameters) {
  return std::visit(
      Overload{
          [](const Input&) -> Shape { throw std::logic_error("an input's shape is given"); },
          [&](const Conv& conv) {
            const Shape& w = parameters.at(0)->shape;
            require(x[0].c % conv.groups == 0 && w.n % conv.groups == 0, "conv: groups ", conv.groups, " must divide ", x[0].c,
                    " input and ", w.n, " output channels");
            require(conv.p4m == P4m::none || (w.h == w.w && conv.groups == 1 && !conv.bias),
                    "conv: over p4m filters are square, of one group and without a bias");
            require(conv.p4m != P4m::group || w.c % p4m_symmetries == 0, "conv: ", w.c, " channels are not eight a map");
            require(w.c == x[0].c / conv.groups && w.h == conv.window.kernel.h && w.w == conv.window.kernel.w, "conv: filter ",
                    to_string(w), " does not fit input ", to_string(x[0]));
            return conv.window.output(x[0], derived_filters(conv, w).n);
          },
          [&](const Dense&) {
            const Shape& w = parameters.at(0)->shape;
            require(x[0].h == 1 && x[0].w == 1 && w.w == x[0].c, "dense: weights ", to_string(w), " do not fit input ",
                    to_string(x[0]));
            return Shape{1, 1, 1, w.c};
          },
          [&](const BatchNorm&) { return x[0]; },
          [&](const Activate&) { return x[0]; },
          [&](const Pool& pool) { return pool.window.output(x[0], x[0].c); },
          [&](const Dropout& dropout) {
            require(dropout.rate >= 0 && dropout.rate < 1, "dropout: rate ", dropout.rate, " is outside [0, 1)");
            return x[0];
          },
          [&](const Add&) {
            require(x[0] == x[1], "add: ", to_string(x[0]), " and ", to_string(x[1]), " differ");
            return x[0];
          },
          [&](const Multiply&) {
            require(x[1] == Shape{1, 1, 1, x[0].c}, "multiply: a gate of ", to_string(x[1]), " for ", to_string(x[0]));
            return x[0];
          },
          [&](const Concat&) {
            Shape y = x[0];
            for (std::size_t i = 1; i < x.size(); ++i) {
              require(x[i].h == y.h && x[i].w == y.w, "concat: ", to_string(x[i]), " beside ", to_string(x[0]));
              y.c += x[i].c;
            }
            return y;
          },
          [&](const ZeroPad& pad) {
            return Shape{1, x[0].h + pad.before.h + pad.after.h, x[0].w + pad.before.w + pad.after.w, x[0].c};
          },
          [&](const Normalize&) {
            require(x[0].c == 3, "normalize: an image of ", x[0].c, " channels");
            return x[0];
          },
          [&](const Reshape& reshape) {
            const Shape y{1, reshape.shape.h, reshape.shape.w, reshape.shape.c};
            require(y.count() == x[0].count(), "reshape: ", to_string(x[0]), " has another count than ", to_string(y));
            return y;
          },
      },
      kind);
}

std::int64_t macs_of(const GraphOp& op, const Graph& graph) {
  if (const auto* conv = std::get_if<Conv>(&op.kind)) {
    const Shape w = derived_filters(*conv, graph.parameters()[op.parameters[0]].shape);
    return std::int64_t{op.output.h} * op.output.w * w.count();
  }
  if (std::holds_alternative<Dense>(op.kind)) return graph.parameters()[op.parameters[0]].shape.count();
  return 0;
}

}  // namespace

Shape derived_filters(const Conv& conv, Shape w) {
  if (conv.p4m != P4m::none) w.n *= p4m_symmetries;
  return w;
}

const Shape& Node::shape() const {
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
  std::vector<const Parameter*> weights;
  for (int p : parameters) weights.push_back(&parameters_[p]);
  try {
    const Shape output = infer(kind, shapes, weights);
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
    const auto* dropout = std::get_if<Dropout>(&op.kind);
    return dropout && dropout->rate > 0;
  });
}

std::string full_name(const Graph& graph, const Parameter& parameter) {
  return fmt::format("{}/{}", graph.rows()[parameter.row].name, parameter.name);
}

}  // namespace microtome
