#include "engine/plan.h"

#include "engine/buffer.h"
#include "engine/check.h"
#include "engine/kinds/visit.h"

#include <algorithm>
#include <numeric>

namespace microtome {
namespace {

/// For each value, how many inputs of ops it is.
std::vector<int> reader_counts(std::span<const PlannedOp> ops) {
  std::vector<int> counts;
  for (const PlannedOp& op : ops)
    for (const int input : op.inputs) {
      if (input >= static_cast<int>(counts.size())) counts.resize(static_cast<std::size_t>(input) + 1);
      ++counts[static_cast<std::size_t>(input)];
    }
  return counts;
}

int index_of_producer(std::span<const PlannedOp> ops, int value) {
  const auto found = std::find_if(ops.begin(), ops.end(), [value](const PlannedOp& op) { return op.output == value; });
  return found == ops.end() ? -1 : static_cast<int>(found - ops.begin());
}

PlannedOp* producer(std::span<PlannedOp> ops, int value) {
  const int index = index_of_producer(ops, value);
  return index < 0 ? nullptr : &ops[static_cast<std::size_t>(index)];
}

Activation* activation_option(GraphOp::Kind& kind) {
  return visit_kind(kind, [](auto& k, auto traits) { return traits.activation(k); });
}

/// The option of a kind that takes a deferred batch-norm as this input; null where there is none.
DeferredNorm* deferral(GraphOp::Kind& kind, std::size_t input) {
  return visit_kind(kind, [input](auto& k, auto traits) { return traits.deferral(k, input); });
}

/// The option of leaving statistics of the output.
bool* statistics_option(GraphOp::Kind& kind) {
  return visit_kind(kind, [](auto& k, auto traits) { return traits.statistics(k); });
}

template <class Kind>
bool is(const PlannedOp& op) {
  return std::holds_alternative<Kind>(op.kind);
}

bool is_trainable(const Graph& graph, const std::vector<int>& parameters) {
  return std::any_of(parameters.begin(), parameters.end(), [&](int p) { return graph.parameters()[p].trainable; });
}

/// As one image's values: whether they are the same elements at the same places but for other values' channels beside them.
bool same_positions(const Shape& a, const Shape& b) {
  return a.h == b.h && a.w == b.w && a.c == b.c;
}

}  // namespace

bool is_free(const PlannedOp& op) {
  return visit_kind(op.kind, [](const auto&, auto traits) { return !traits.runs; });
}

bool is_deferred(const PlannedOp& op) {
  const auto* norm = std::get_if<BatchNorm>(&op.kind);
  return norm && norm->deferred;
}

bool is_alias(const PlannedOp& op) {
  return is_free(op) || is_deferred(op);
}

bool undoes_activation(const PlannedOp& op) {
  const bool undoes = visit_kind(op.kind, [](const auto&, auto traits) { return traits.undoes_activation; });
  return undoes && fused_activation(op.kind) != Activation::none;
}

std::vector<PlannedOp> lower(const Graph& graph, const LowerOptions& options) {
  require(options.part == Part::whole || graph.features() >= 0, "a part of a network that has no published base");
  const int first = options.part == Part::head ? graph.features() : 0;
  const int last = options.part == Part::base ? graph.features() : static_cast<int>(graph.ops().size()) - 1;
  std::vector<PlannedOp> ops;
  for (int i = first; i <= last; ++i) {
    const GraphOp& source = graph.ops()[i];
    if (i == first) {
      ops.push_back({Input{}, {}, i, {}, source.row});
      continue;
    }
    PlannedOp op{source.kind, source.inputs, i, source.parameters, source.row};
    const Lowering lowering{options.mode, options.dropout, options.bessel, is_trainable(graph, source.parameters)};
    const bool identity = visit_kind(op.kind, [&](auto& kind, auto traits) {
      traits.lower(kind, lowering);
      return traits.is_identity(kind, lowering);
    });
    if (identity) op.kind = Reshape{source.output};
    ops.push_back(std::move(op));
  }
  return ops;
}

void fold_padding(const Graph& graph, std::vector<PlannedOp>& ops) {
  for (const PlannedOp& pad : ops) {
    const auto* zeros = std::get_if<ZeroPad>(&pad.kind);
    if (!zeros) continue;
    const PlannedOp* before = producer(ops, pad.inputs[0]);
    const auto* activate = before ? std::get_if<Activate>(&before->kind) : nullptr;
    const bool never_negative = activate && is_never_negative(activate->function);
    for (PlannedOp& op : ops) {
      if (std::find(op.inputs.begin(), op.inputs.end(), pad.output) == op.inputs.end()) continue;
      Window* widened =
          visit_kind(op.kind, [&](auto& kind, auto traits) { return traits.padded_window(kind, never_negative); });
      require(widened, "row ", graph.rows()[pad.row].name,
              ": zero padding goes before a convolution, or a max pooling of a relu's output, not before ",
              graph.rows()[op.row].kind);
      Window& window = *widened;
      window.before = {window.before.h + zeros->before.h, window.before.w + zeros->before.w};
      window.after = {window.after.h + zeros->after.h, window.after.w + zeros->after.w};
      op.inputs = pad.inputs;
    }
  }
  std::erase_if(ops, is<ZeroPad>);
}

void fold_batch_norms(const Graph& graph, std::vector<PlannedOp>& ops) {
  const std::vector<int> readers = reader_counts(ops);
  std::vector<PlannedOp> folded;
  for (PlannedOp& op : ops) {
    const auto* norm = std::get_if<BatchNorm>(&op.kind);
    PlannedOp* before = norm ? producer(folded, op.inputs[0]) : nullptr;
    bool* bias = nullptr;
    if (before && !before->norm)
      bias = visit_kind(before->kind, [](auto& kind, auto traits) { return traits.bias_for_norm(kind); });
    const bool possible = bias && !norm->batch_statistics && fused_activation(before->kind) == Activation::none &&
                          readers[op.inputs[0]] == 1 && !is_trainable(graph, op.parameters) &&
                          !is_trainable(graph, before->parameters);
    if (possible) {
      *bias = true;
      before->norm = FoldedNorm{*norm, op.parameters};
      before->output = op.output;
    } else {
      folded.push_back(std::move(op));
    }
  }
  ops = std::move(folded);
}

void move_relu_behind_max_pool(std::vector<PlannedOp>& ops) {
  for (PlannedOp& op : ops) {
    auto* pool = std::get_if<Pool>(&op.kind);
    if (!pool || pool->kind != Pool::Kind::max || pool->activation != Activation::none) continue;
    PlannedOp* before = producer(ops, op.inputs[0]);
    const auto* activate = before ? std::get_if<Activate>(&before->kind) : nullptr;
    if (!activate || activate->function != Activation::relu || reader_counts(ops)[op.inputs[0]] != 1) continue;
    pool->activation = Activation::relu;
    const int removed = before->output;
    op.inputs = before->inputs;
    std::erase_if(ops, [removed](const PlannedOp& o) { return o.output == removed; });
    return move_relu_behind_max_pool(ops);  // `ops` has moved under the loop
  }
}

void fuse_activations(std::vector<PlannedOp>& ops, Mode mode) {
  const std::vector<int> readers = reader_counts(ops);
  std::vector<PlannedOp> fused;
  for (PlannedOp& op : ops) {
    const auto* activate = std::get_if<Activate>(&op.kind);
    PlannedOp* before = activate ? producer(fused, op.inputs[0]) : nullptr;
    Activation* option = before ? activation_option(before->kind) : nullptr;
    const bool possible =
        option && *option == Activation::none && readers[op.inputs[0]] == 1 &&
        visit_kind(before->kind, [&](const auto&, auto traits) { return traits.fuses(activate->function, mode); });
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
  return visit_kind(kind, [](const auto& k, auto) { return activation_of(k); });
}

PlannedOp split_activation(PlannedOp& op, int fresh_value) {
  Activation* option = activation_option(op.kind);
  require(option && *option != Activation::none, "a backend declined an op without options");
  PlannedOp activate{Activate{*option}, {fresh_value}, op.output, {}, op.row};
  *option = Activation::none;
  op.output = fresh_value;
  return activate;
}

namespace {

/// What lies in what: a value's parent is the value whose memory it shares, itself where none.
struct AliasForest {
  std::vector<int> parent, channel;

  explicit AliasForest(std::size_t values) : parent(values), channel(values) { std::iota(parent.begin(), parent.end(), 0); }
  void put(int value, int into, int at) { parent[value] = into, channel[value] = at; }
  Alias of(int value) const {
    Alias alias{value, 0};
    for (; parent[alias.root] != alias.root; alias.root = parent[alias.root]) alias.channel += channel[alias.root];
    return alias;
  }
};

}  // namespace

void copy_into_concats(std::vector<PlannedOp>& ops, std::vector<Shape>& shapes) {
  AliasForest forest(shapes.size());
  std::vector<bool> fixed(shapes.size());  // in place and packed: the input, and what a Reshape reads as another shape
  std::vector<int> last_read(shapes.size(), -1);
  for (int i = 0; i < static_cast<int>(ops.size()); ++i) {
    const PlannedOp& op = ops[i];
    if (is<Input>(op)) fixed[op.output] = true;
    if (is<Reshape>(op)) {
      forest.put(op.output, op.inputs[0], 0);
      if (!same_positions(shapes[op.output], shapes[op.inputs[0]])) fixed[op.output] = true;
    }
    if (!is_free(op) || is<Concat>(op))  // a second concat copies what lies in the first
      for (const int input : op.inputs) last_read[input] = i;
  }
  std::vector<PlannedOp> result;
  for (int i = 0; i < static_cast<int>(ops.size()); ++i) {
    PlannedOp op = ops[i];
    if (is<Concat>(op)) {
      int channel = 0;
      for (int& input : op.inputs) {
        const int root = forest.of(input).root;
        bool movable = root != op.output && same_positions(shapes[root], shapes[input]) && forest.of(input).channel == 0;
        for (std::size_t v = 0; v < forest.parent.size(); ++v)
          if (forest.of(static_cast<int>(v)).root == root) movable = movable && !fixed[v] && last_read[v] <= i;
        // A root that lies in this concat already shows as the concat's output; one in another concat, as that one's.
        if (movable) {
          forest.put(root, op.output, channel);
        } else {
          const int copy = static_cast<int>(shapes.size());
          shapes.push_back(shapes[input]);
          forest.parent.push_back(op.output), forest.channel.push_back(channel);
          fixed.push_back(false), last_read.push_back(-1);
          result.push_back({Activate{Activation::none}, {input}, copy, {}, op.row});
          input = copy;
        }
        channel += shapes[input].c;
      }
    }
    result.push_back(std::move(op));
  }
  ops = std::move(result);
}

std::vector<Alias> alias_values(std::span<const PlannedOp> ops, std::span<const Shape> shapes) {
  AliasForest forest(shapes.size());
  for (const PlannedOp& op : ops)
    if (is<Reshape>(op) || is_deferred(op)) forest.put(op.output, op.inputs[0], 0);
  for (const PlannedOp& op : ops) {
    if (!is<Concat>(op)) continue;
    int channel = 0;
    for (const int input : op.inputs) {
      forest.put(forest.of(input).root, op.output, channel);
      channel += shapes[input].c;
    }
  }
  std::vector<Alias> aliases;
  for (std::size_t v = 0; v < shapes.size(); ++v) aliases.push_back(forest.of(static_cast<int>(v)));
  return aliases;
}

bool overlap(const Alias& a, int channels_a, const Alias& b, int channels_b) {
  return a.root == b.root && a.channel < b.channel + channels_b && b.channel < a.channel + channels_a;
}

void share_statistics(std::vector<PlannedOp>& ops, std::span<const Alias> aliases, std::span<const Shape> shapes) {
  std::vector<std::vector<PlannedOp*>> readers(shapes.size());  // of a root, in order
  for (PlannedOp& op : ops) {
    const auto* norm = std::get_if<BatchNorm>(&op.kind);
    if (!norm || !norm->batch_statistics) continue;
    const auto& [root, channel] = aliases[op.inputs[0]];
    const Shape &x = shapes[op.inputs[0]], &whole = shapes[root];
    if (channel == 0 && x.h == whole.h && x.w == whole.w) readers[root].push_back(&op);
  }
  for (const std::vector<PlannedOp*>& group : readers) {
    if (group.size() < 2) continue;
    int known = 0;
    for (PlannedOp* op : group) {
      auto& norm = std::get<BatchNorm>(op->kind);
      norm.shared_statistics = true;
      norm.known_channels = known;
      known = shapes[op->inputs[0]].c;  // no fewer than before: what is read after a concat does not lie in it
    }
  }
}

namespace {

/// Sets or clears the option in every reader of a value.
void set_deferral(std::vector<PlannedOp>& ops, int value, const DeferredNorm& option) {
  for (PlannedOp& op : ops)
    for (std::size_t k = 0; k < op.inputs.size(); ++k)
      if (op.inputs[k] == value) *deferral(op.kind, k) = option;
}

/// Whether every reader of op `i`'s output has the option, and reads it once, before op `i`'s input is part of a later concat.
bool can_defer(std::span<PlannedOp> ops, std::size_t i, std::span<const Alias> aliases, std::span<const Shape> shapes) {
  const int x = ops[i].inputs[0], y = ops[i].output;
  const Shape& root = shapes[aliases[x].root];
  if (shapes[x].h != root.h || shapes[x].w != root.w || is<Input>(*producer(ops, aliases[x].root))) return false;
  bool is_read = false, in_concat = false;
  for (std::size_t j = i + 1; j < ops.size(); ++j) {
    PlannedOp& op = ops[j];
    const auto reads = std::count(op.inputs.begin(), op.inputs.end(), y);
    if (reads > 0) {
      const auto input = static_cast<std::size_t>(std::find(op.inputs.begin(), op.inputs.end(), y) - op.inputs.begin());
      if (reads > 1 || in_concat || !deferral(op.kind, input)) return false;
      is_read = true;
    }
    if (is<Concat>(op))
      for (const int part : op.inputs) in_concat = in_concat || overlap(aliases[part], shapes[part].c, aliases[x], shapes[x].c);
  }
  return is_read;
}

}  // namespace

bool give_image_room(std::vector<PlannedOp>& ops, std::span<const Alias> aliases) {
  const Alias image = aliases[ops.front().output];
  std::vector<bool*> options;
  for (PlannedOp& op : ops) {
    const bool reads = std::any_of(op.inputs.begin(), op.inputs.end(), [&](int v) { return aliases[v].root == image.root; });
    if (!reads || (is_alias(op) && aliases[op.output] == image)) continue;
    bool* option = visit_kind(op.kind, [](auto& kind, auto traits) { return traits.image_room(kind); });
    if (!option) return false;
    options.push_back(option);
  }
  for (bool* option : options) *option = true;
  return !options.empty();
}

void defer_batch_norms(std::vector<PlannedOp>& ops, std::span<const Alias> aliases, std::span<const Shape> shapes,
                       std::span<const int> kept) {
  for (std::size_t i = 0; i < ops.size(); ++i) {
    auto* norm = std::get_if<BatchNorm>(&ops[i].kind);
    if (!norm || std::find(kept.begin(), kept.end(), ops[i].output) != kept.end() || !can_defer(ops, i, aliases, shapes))
      continue;
    norm->deferred = true;
    set_deferral(ops, ops[i].output, norm->activation);
  }
}

void apply_batch_norms(std::vector<PlannedOp>& ops, int op) {
  std::vector<int> normalised = ops[op].inputs;
  if (is_deferred(ops[op])) normalised = {ops[op].output};
  for (const int value : normalised) {
    PlannedOp* norm = producer(ops, value);
    if (!norm || !is_deferred(*norm)) continue;
    std::get<BatchNorm>(norm->kind).deferred = false;
    set_deferral(ops, value, {});
  }
}

DeferredNorm deferred_norm(const PlannedOp& op, std::size_t input) {
  return visit_kind(op.kind, [input](const auto& kind, auto) { return deferral_of(kind, input); });
}

void leave_statistics(std::vector<PlannedOp>& ops, std::span<const Alias> aliases, std::span<const Shape> shapes) {
  for (PlannedOp& op : ops) {
    auto* norm = std::get_if<BatchNorm>(&op.kind);
    if (!norm || !norm->batch_statistics || norm->shared_statistics) continue;
    PlannedOp* before = producer(ops, op.inputs[0]);
    bool* option = before ? statistics_option(before->kind) : nullptr;
    if (!option || aliases[before->output] != Alias{before->output, 0} ||
        !same_positions(shapes[before->output], shapes[op.inputs[0]]))
      continue;
    *option = norm->partial_statistics = true;
  }
}

void keep_no_statistics(std::vector<PlannedOp>& ops, int made) {
  *statistics_option(ops[made].kind) = false;
  for (PlannedOp& op : ops)
    if (auto* norm = std::get_if<BatchNorm>(&op.kind); norm && op.inputs[0] == ops[made].output)
      norm->partial_statistics = false;
}

bool leaves_statistics(const PlannedOp& op) {
  GraphOp::Kind kind = op.kind;
  const bool* option = statistics_option(kind);
  return option && *option;
}

bool takes_statistics(const PlannedOp& op) {
  const auto* norm = std::get_if<BatchNorm>(&op.kind);
  return norm && norm->partial_statistics;
}

std::vector<bool> needs_gradient(const Graph& graph, std::span<const PlannedOp> ops, std::size_t values) {
  std::vector<bool> needs(values);
  for (const PlannedOp& op : ops) {
    const bool passes = std::any_of(op.inputs.begin(), op.inputs.end(), [&](int v) { return needs[v]; });
    needs[op.output] = is_trainable(graph, op.parameters) || passes;
  }
  return needs;
}

std::vector<int> share_gradients(std::span<const PlannedOp> ops, std::span<const Alias> aliases, std::span<const Shape> shapes,
                                 int output) {
  const int values = static_cast<int>(shapes.size());
  std::vector<int> storage(shapes.size());
  for (int v = 0; v < values; ++v) storage[v] = aliases[v].root;
  std::vector<int> maker(shapes.size(), -1);             // of a root: the op that writes it
  std::vector<std::vector<int>> readers(shapes.size());  // of a root, in order
  std::vector<bool> alone(shapes.size(), true);          // no slices
  for (int i = 0; i < static_cast<int>(ops.size()); ++i) {
    if (is<Concat>(ops[i])) alone[aliases[ops[i].output].root] = false;
    if (is_alias(ops[i])) continue;
    maker[aliases[ops[i].output].root] = i;
    for (const int input : ops[i].inputs) readers[aliases[input].root].push_back(i);
  }
  // Running backwards, op i reads the gradient at home(output) and may leave its input's there if nobody reads it later: of all
  // gradients that lie there, each is read by its maker, and written again by its readers before i.
  const auto others = [&](int home, int except) {
    std::vector<int> roots;
    for (int v = 0; v < values; ++v)
      if (aliases[v].root == v && v != except && storage[v] == home && maker[v] >= 0) roots.push_back(v);
    return roots;
  };
  const auto last_write_before = [&](int root, int i) {
    int last = -1;
    for (const int reader : readers[root])
      if (reader < i) last = std::max(last, reader);
    return last;
  };
  for (int i = static_cast<int>(ops.size()) - 1; i >= 0; --i) {
    const PlannedOp& op = ops[i];
    const int y = is_alias(op) ? -1 : aliases[op.output].root;
    const GradientMemory memory = visit_kind(op.kind, [](const auto&, auto traits) { return traits.gradient_memory; });
    const bool element_wise = memory == GradientMemory::in_place;
    if (y < 0 || y == aliases[output].root || !alone[y] || memory == GradientMemory::apart) continue;
    const auto can_take_over = [&](int x) {
      return x != y && alone[x] && maker[x] >= 0 && storage[x] == x && readers[x].back() == i &&
             std::count(readers[x].begin(), readers[x].end(), i) == 1 && same_positions(shapes[x], shapes[y]);
    };
    const std::size_t inputs = element_wise ? 1 : op.inputs.size();
    for (std::size_t k = 0; k < inputs; ++k) {
      const int x = aliases[op.inputs[k]].root;
      const bool passes_on = element_wise || !deferred_norm(op, k);
      if (!passes_on || !can_take_over(x)) continue;
      bool safe = true;
      for (const int other : others(storage[y], y)) {
        const bool done = maker[other] > i;
        if (element_wise) {
          safe = safe && done;
        } else {
          // Both are read from here on, by their makers; the one read first must leave it whole, and nobody may have added to
          // it.
          const int first = std::max(maker[x], maker[other]);
          safe = safe && (done || (maker[x] > last_write_before(other, i) && maker[other] > last_write_before(x, i) &&
                                   !undoes_activation(ops[first])));
        }
      }
      if (safe) storage[x] = storage[y];
    }
  }
  for (int v = 0; v < values; ++v) storage[v] = storage[aliases[v].root];
  return storage;
}

namespace {

/// Which channels of each root's memory have been written.
class Written {
 public:
  Written(std::span<const Alias> aliases, std::span<const Shape> shapes)
      : aliases_(aliases), shapes_(shapes), channels_(shapes.size()) {
    for (std::size_t v = 0; v < shapes.size(); ++v)
      if (aliases[v].root == static_cast<int>(v)) channels_[v].resize(static_cast<std::size_t>(shapes[v].c));
  }

  /// How the next write to a value is done.
  Write next(int value) {
    std::vector<bool>& channels = channels_[aliases_[value].root];
    // A value under another shape has the root's memory to itself.
    const bool slice = shapes_[value].c < static_cast<int>(channels.size());
    const auto first = channels.begin() + (slice ? aliases_[value].channel : 0);
    const auto last = slice ? first + shapes_[value].c : channels.end();
    const auto count = std::count(first, last, true);
    require(count == 0 || count == last - first, "a gradient that is written in part");
    std::fill(first, last, true);
    return count == 0 ? Write::overwrite : Write::accumulate;
  }

 private:
  std::span<const Alias> aliases_;
  std::span<const Shape> shapes_;
  std::vector<std::vector<bool>> channels_;
};

}  // namespace

std::vector<std::vector<Write>> gradient_writes(std::span<const PlannedOp> ops, std::span<const Alias> aliases,
                                                std::span<const Shape> shapes) {
  Written written(aliases, shapes);
  std::vector<std::vector<Write>> writes(ops.size());
  for (std::size_t i = ops.size(); i-- > 0;) {
    if (is_alias(ops[i])) continue;
    const std::vector<int>& inputs = ops[i].inputs;
    writes[i].resize(inputs.size());
    for (std::size_t k = inputs.size(); k-- > 0;) writes[i][k] = written.next(inputs[k]);
  }
  return writes;
}

std::vector<Write> correction_writes(std::span<const PlannedOp> ops, std::span<const Alias> aliases,
                                     std::span<const Shape> shapes) {
  Written written(aliases, shapes);
  std::vector<Write> writes(ops.size(), Write::overwrite);
  for (std::size_t i = ops.size(); i-- > 0;)
    if (is_deferred(ops[i])) writes[i] = written.next(ops[i].inputs[0]);
  return writes;
}

namespace {

/// Defers the batch-norms that the backend defers and all of whose readers apply what is deferred.
void defer_what_is_taken(const Graph& graph, const PlanOptions& options, Plan& plan) {
  const int kept[] = {output_of(graph, options.lower.part), graph.features()};
  defer_batch_norms(plan.ops, plan.aliases, plan.shapes, kept);
  for (bool settled = false; !settled;) {
    settled = true;
    plan.aliases = alias_values(plan.ops, plan.shapes);
    for (int i = 0; i < static_cast<int>(plan.ops.size()); ++i) {
      const PlannedOp& op = plan.ops[i];
      bool asks = is_deferred(op);
      for (std::size_t k = 0; k < op.inputs.size(); ++k) asks = asks || deferred_norm(op, k);
      if (!asks || options.takes(plan, op)) continue;
      apply_batch_norms(plan.ops, i);
      settled = false;
    }
  }
}

}  // namespace

int output_of(const Graph& graph, Part part) {
  return part == Part::base ? graph.features() : graph.output();
}

Plan make_plan(const Graph& graph, const PlanOptions& options) {
  Plan plan;
  for (const GraphOp& op : graph.ops()) plan.shapes.push_back(op.output);
  plan.ops = lower(graph, options.lower);
  fold_padding(graph, plan.ops);
  fold_batch_norms(graph, plan.ops);
  move_relu_behind_max_pool(plan.ops);
  fuse_activations(plan.ops, options.lower.mode);
  copy_into_concats(plan.ops, plan.shapes);
  plan.aliases = alias_values(plan.ops, plan.shapes);
  share_statistics(plan.ops, plan.aliases, plan.shapes);
  const int channels = plan.shapes[plan.ops.front().output].c;
  if (channels < options.image_channels && give_image_room(plan.ops, plan.aliases))
    plan.image_channels = options.image_channels;
  if (!options.takes) return plan;
  defer_what_is_taken(graph, options, plan);
  leave_statistics(plan.ops, plan.aliases, plan.shapes);
  for (int i = 0; i < static_cast<int>(plan.ops.size()); ++i)
    if (leaves_statistics(plan.ops[i]) && !options.takes(plan, plan.ops[i])) keep_no_statistics(plan.ops, i);
  return plan;
}

}  // namespace microtome
