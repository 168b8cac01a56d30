#include "engine/program.h"

#include "engine/check.h"

#include <algorithm>
#include <cmath>

namespace microtome {
namespace {

bool all_finite(Backend& backend, const Tensor& tensor) {
  // A slice is looked at with what lies beside it: from its first element to its last.
  const Shape& s = tensor.shape;
  const std::int64_t extent = (s.n - 1) * tensor.strides.n + (s.h - 1) * tensor.strides.h + (s.w - 1) * tensor.strides.w + s.c;
  const std::vector<float> values = read_values(backend, tensor.data, tensor.dtype, static_cast<std::size_t>(extent));
  for (int n = 0; n < s.n; ++n)
    for (int h = 0; h < s.h; ++h)
      for (int w = 0; w < s.w; ++w) {
        const auto first = values.begin() + n * tensor.strides.n + h * tensor.strides.h + w * tensor.strides.w;
        if (!std::all_of(first, first + s.c, [](float v) { return std::isfinite(v); })) return false;
      }
  return true;
}

bool linear(const PlannedOp& op) {
  return std::holds_alternative<Conv>(op.kind) || std::holds_alternative<Dense>(op.kind);
}

/// The rows between the image and the first op that computes, as one.
Normalize composed_normalization(const Graph& graph) {
  Normalize all;
  for (const GraphOp& op : graph.ops()) {
    const auto* next = std::get_if<Normalize>(&op.kind);
    if (!next) continue;
    const GraphOp::Kind& before = graph.ops()[op.inputs[0]].kind;
    require(std::holds_alternative<Input>(before) || std::holds_alternative<Normalize>(before), "row ",
            graph.rows()[op.row].name, ": only the image itself is normalised");
    for (int c = 0; c < 3; ++c) {
      all.mean[c] = static_cast<float>(all.mean[c] + double{next->mean[c]} * all.divisor[c]);
      all.divisor[c] = static_cast<float>(double{all.divisor[c]} * next->divisor[c]);
    }
  }
  return all;
}

}  // namespace

PlannedProgram::PlannedProgram(const Graph& graph, Backend& backend, const ModelOptions& options, const Model::Request& request,
                               const Parameters& parameters, StepState* state)
    : graph_(graph), backend_(backend), request_(request), parameters_(parameters), state_(state) {
  if (request.part != Part::head) normalization_ = composed_normalization(graph);
  plan(options);
  make_ops();
  make_folded();
  if (request.part != Part::base) loss_ = backend.loss({request.full_batch}, layout_of(output()));
  lay_out();
}

void PlannedProgram::plan(const ModelOptions& options) {
  for (const GraphOp& op : graph_.ops()) shapes_.push_back(op.output);
  ops_ = lower(graph_, {request_.mode, options.dropout, !options.keras3_variance, request_.part});
  fold_padding(graph_, ops_);
  fold_batch_norms(graph_, ops_);
  move_relu_behind_max_pool(ops_);
  fuse_activations(ops_, request_.mode);
  copy_into_concats(ops_, shapes_);
  places_ = place_values(ops_, shapes_);
  share_statistics(ops_, places_, shapes_);
  const int channels = backend_.image_channels();
  if (shapes_[ops_.front().output].c < channels && give_image_room(ops_, places_)) image_channels_ = channels;
  ask_for_deferral();
  ask_for_statistics();
}

/// Defers the batch-norms that the backend defers and all of whose readers apply what is deferred.
void PlannedProgram::ask_for_deferral() {
  const int kept[] = {output(), graph_.features()};
  defer_batch_norms(ops_, places_, shapes_, kept);
  for (bool settled = false; !settled;) {
    settled = true;
    places_ = place_values(ops_, shapes_);
    for (int i = 0; i < static_cast<int>(ops_.size()); ++i) {
      bool asks = is_deferred(ops_[i]);
      for (std::size_t k = 0; k < ops_[i].inputs.size(); ++k) asks = asks || deferred_norm(ops_[i], k);
      if (!asks || make(ops_[i])) continue;
      apply_batch_norms(ops_, i);
      settled = false;
    }
  }
}

/// Has convolutions leave statistics where the backend makes such.
void PlannedProgram::ask_for_statistics() {
  leave_statistics(ops_, places_, shapes_);
  for (int i = 0; i < static_cast<int>(ops_.size()); ++i)
    if (const auto* conv = std::get_if<Conv>(&ops_[i].kind); conv && conv->statistics && !make(ops_[i]))
      keep_no_statistics(ops_, i);
}

void PlannedProgram::forward() {
  run(forward_);
}

std::size_t PlannedProgram::scratch_bytes() const {
  std::size_t most = 0;
  for (const auto& op : made_)
    if (op) most = std::max(most, op->memory.scratch);
  return most * static_cast<std::size_t>(backend_.lanes());
}

std::size_t PlannedProgram::kept_bytes() const {
  std::size_t sum = 0;
  for (const auto& op : made_)
    if (op) sum += op->memory.kept;
  return sum;
}

ProgramMemory PlannedProgram::memory() const {
  std::vector<int> rows;
  for (const GraphOp& op : graph_.ops()) rows.push_back(op.row);
  rows.resize(shapes_.size());
  for (const PlannedOp& op : ops_) rows[op.output] = op.row;
  ProgramMemory memory{.arena = arena_.bytes(), .unshared = arena_.unshared_bytes()};
  memory.rows.resize(graph_.rows().size());
  for (std::size_t row = 0; row < memory.rows.size(); ++row) memory.rows[row].name = graph_.rows()[row].name;
  const int loss_time = static_cast<int>(ops_.size());
  for (std::size_t v = 0; v < shapes_.size(); ++v) {
    ProgramMemory::Row& row = memory.rows[rows[v]];
    const Lifetime& life = arena_.life(value_pieces_[v]);
    (mode() == Mode::train && life.last > loss_time ? row.kept : row.passing) += life.bytes;
    const Lifetime& gradient = arena_.life(gradient_pieces_[v]);
    row.gradients += gradient.bytes;
    for (const auto& [of, is_gradient] : {std::pair(life, false), std::pair(gradient, true)})
      if (of.bytes > 0) memory.lives.push_back({rows[v], is_gradient, of.first, of.last, of.bytes});
  }
  for (const PlannedOp& op : ops_) memory.ops.push_back(op.row);
  return memory;
}

std::vector<PlannedKernel> PlannedProgram::kernels() const {
  std::vector<PlannedKernel> kernels;
  for (std::size_t i = 0; i < ops_.size(); ++i)
    if (made_[i]) kernels.push_back({ops_[i].row, made_[i]->describe()});
  return kernels;
}

std::vector<ScopedCost> PlannedProgram::costs() const {
  std::vector<ScopedCost> costs;
  for (const Call& call : forward_) costs.push_back({scope_of(call), call.cost});
  if (loss_) costs.push_back({{.pass = Pass::loss}, cost(Loss{}, Pass::forward, layout_of(output()))});
  for (const Call& call : backward_) costs.push_back({scope_of(call), call.cost});
  return costs;
}

void PlannedProgram::loss(BatchMetrics* metrics, float* scores, StepState* state) {
  require(loss_ != nullptr, "a base has no loss");
  const Scoped scoped(backend_, {.pass = Pass::loss});
  loss_->forward(logits(), labels_, state ? state : state_, metrics, scores);
}

void PlannedProgram::backward() {
  require(mode() == Mode::train && loss_, "only a training program with a head has a backward pass");
  run(backward_);
}

std::string PlannedProgram::first_not_finite() {
  for (const Call& call : forward_) {
    for (const int p : ops_[call.op].parameters)
      if (!all_finite(backend_, parameters_.values[p])) return full_name(graph_, graph_.parameters()[p]);
    run(call);
    const Tensor& y = values_[ops_[call.op].output];
    const bool written = std::find(call.writes.begin(), call.writes.end(), &y) != call.writes.end();
    if (written && !all_finite(backend_, y)) return row_of(call) + " (output)";
  }
  if (mode() != Mode::train) return {};
  backward();
  for (std::size_t p = 0; p < graph_.parameters().size(); ++p)
    if (graph_.parameters()[p].trainable && !all_finite(backend_, parameters_.gradients[p]))
      return full_name(graph_, graph_.parameters()[p]) + " (gradient)";
  return {};
}

void PlannedProgram::fold_norms(std::span<const float> weights) {
  std::vector<std::span<const float>> parameters;
  for (const Parameter& p : graph_.parameters()) {
    parameters.push_back(weights.first(static_cast<std::size_t>(p.shape.count())));
    weights = weights.subspan(parameters.back().size());
  }
  for (const auto& [i, folded] : folded_) {
    const PlannedOp& op = ops_[i];
    const FoldedNorm& norm = *op.norm;
    const auto w = parameters[op.parameters[0]];
    const auto bias = op.parameters.size() > 1 ? parameters[op.parameters[1]] : std::span<const float>();
    const std::size_t beta = norm.kind.scale ? 1 : 0;
    const auto vector = [&](std::size_t k) { return parameters[norm.parameters[k]]; };
    const std::size_t outputs = folded.b.shape.c, inputs = w.size() / outputs;
    const bool dense = std::holds_alternative<Dense>(op.kind);  // C K; a convolution's filter is K R S C
    std::vector<float> new_w(w.size()), new_b(outputs);
    for (std::size_t k = 0; k < outputs; ++k) {
      const double scale = (beta == 1 ? vector(0)[k] : 1.0) / std::sqrt(double{vector(beta + 2)[k]} + norm.kind.epsilon);
      new_b[k] = static_cast<float>(((bias.empty() ? 0.0 : bias[k]) - vector(beta + 1)[k]) * scale + vector(beta)[k]);
      for (std::size_t j = 0; j < inputs; ++j) {
        const std::size_t at = dense ? j * outputs + k : k * inputs + j;
        new_w[at] = static_cast<float>(w[at] * scale);
      }
    }
    write_values(backend_, folded.w.data, folded.w.dtype, new_w);
    write_values(backend_, folded.b.data, folded.b.dtype, new_b);
  }
}

Layout PlannedProgram::layout_of(int value) const {
  const auto batch = [&](Shape shape) {
    shape.n = request_.batch;
    return shape;
  };
  const Shape &own = shapes_[value], &root = shapes_[places_[value].root];
  const bool slice = own.h == root.h && own.w == root.w;
  Shape room = batch(slice ? root : own);
  if (image_channels_ > 0 && places_[value].root == places_[ops_.front().output].root) room.c = image_channels_;
  const bool logits = value == graph_.output() && request_.part != Part::base;
  return {batch(own), logits ? backend_.parameter_type() : backend_.activation_type(), packed(room)};
}

std::string PlannedProgram::describe(const PlannedOp& op) const {
  std::string text = fmt::format("row {} (", graph_.rows()[op.row].name);
  for (const int input : op.inputs) text += to_string(layout_of(input).shape) + " ";
  return text + "-> " + to_string(layout_of(op.output).shape) + ")";
}

Scope PlannedProgram::scope_of(const Call& call) const {
  return {call.pass == Pass::loss ? std::string_view() : row_of(call), call.pass};
}

Cost PlannedProgram::cost_of(const PlannedOp& op, Pass pass, Write write) const {
  std::vector<Layout> inputs;
  for (const int input : op.inputs) inputs.push_back(layout_of(input));
  return cost(op.kind, pass, inputs, layout_of(op.output), backend_.parameter_type(), write == Write::accumulate);
}

void PlannedProgram::run(const Call& call) const {
  const Scoped scoped(backend_, scope_of(call));
  try {
    call.run();
  } catch (Error& error) {
    throw error.within(describe(ops_[call.op]));
  }
}

/// Makes every op, splitting those whose activation the backend declines.
void PlannedProgram::make_ops() {
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    try {
      std::unique_ptr<Op> op = make(ops_[i]);
      if (!op && fused_activation(ops_[i].kind) != Activation::none) {
        const int fresh = static_cast<int>(shapes_.size());
        shapes_.push_back(shapes_[ops_[i].output]);
        places_.push_back({fresh, 0});
        const PlannedOp activate = split_activation(ops_[i], fresh);
        ops_.insert(ops_.begin() + static_cast<std::ptrdiff_t>(i) + 1, activate);
        op = make(ops_[i]);
      }
      require(op || is_free(ops_[i]), "the backend declines ", graph_.rows()[ops_[i].row].kind, " without options");
      made_.push_back(std::move(op));
    } catch (Error& error) {
      throw error.within(describe(ops_[i]));
    }
  }
}

std::unique_ptr<Op> PlannedProgram::make(const PlannedOp& op) {
  const auto x = [&](int i) { return layout_of(op.inputs[i]); };
  const Layout y = layout_of(op.output);
  if (const auto* k = std::get_if<Conv>(&op.kind)) {
    Conv conv = *k;
    conv.p4m = P4m::none;  // its filters are made by an op of their own
    return backend_.conv(conv, x(0), y);
  }
  if (const auto* k = std::get_if<Dense>(&op.kind)) return backend_.dense(*k, x(0), y);
  if (const auto* k = std::get_if<BatchNorm>(&op.kind); k && k->deferred) return backend_.deferred_norm(*k, x(0));
  if (const auto* k = std::get_if<BatchNorm>(&op.kind)) return backend_.batch_norm(*k, x(0), y);
  if (const auto* k = std::get_if<Activate>(&op.kind)) return backend_.activate(*k, x(0), y);
  if (const auto* k = std::get_if<Pool>(&op.kind)) return backend_.pool(*k, x(0), y);
  if (const auto* k = std::get_if<Dropout>(&op.kind)) return backend_.dropout(*k, x(0), y);
  if (const auto* k = std::get_if<Add>(&op.kind)) return backend_.add(*k, x(0), x(1), y);
  if (const auto* k = std::get_if<Multiply>(&op.kind)) return backend_.multiply(*k, x(0), x(1), y);
  return nullptr;
}

void PlannedProgram::make_folded() {
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    if (!ops_[i].norm) continue;
    const Shape& w = graph_.parameters()[ops_[i].parameters[0]].shape;
    Folded folded;
    folded.w = {{w, backend_.activation_type()}};
    folded.b = {{{1, 1, 1, shapes_[ops_[i].output].c}, backend_.parameter_type()}};
    const std::size_t b_at = (folded.w.packed_bytes() + 255) / 256 * 256;
    folded.memory = backend_.allocate(b_at + folded.b.packed_bytes());
    folded.w.data = folded.memory.data();
    folded.b.data = static_cast<std::byte*>(folded.memory.data()) + b_at;
    folded_.emplace(static_cast<int>(i), std::move(folded));
  }
}

/// Makes the ops that derive filters from parameters, and gives the filters memory from when they are made to when the backward
/// pass has used them.
void PlannedProgram::lay_out_filters() {
  const int count = static_cast<int>(ops_.size());
  for (int i = 0; i < count; ++i) {
    const auto* conv = std::get_if<Conv>(&ops_[i].kind);
    if (!conv || conv->p4m == P4m::none) continue;
    const Tensor& w = parameters_.narrows[ops_[i].parameters[0]];
    DerivedFilters& filters = filters_[i];
    filters.all = {{derived_filters(*conv, w.shape), w.dtype}};
    filters.dall = {{filters.all.shape, backend_.parameter_type()}};
    filters.op = backend_.filter_transform(conv->p4m, w, filters.all);
    const int all = arena_.piece(), dall = arena_.piece();
    arena_.put(filters.all, all), arena_.put(filters.dall, dall);
    arena_.touch(all, i, filters.all.packed_bytes());
    if (mode() != Mode::train || !needs_[ops_[i].output]) continue;
    arena_.touch(all, 2 * count - i, filters.all.packed_bytes());
    arena_.touch(dall, 2 * count - i, filters.dall.packed_bytes());
  }
}

/// Decides lifetimes and addresses, and writes down the calls of both passes. Op i runs forward at time i and backward at
/// 2 count - i, the loss between.
void PlannedProgram::lay_out() {
  const std::size_t values = shapes_.size();
  const int count = static_cast<int>(ops_.size()), loss_time = count, end = 2 * count + 1;
  const bool train = mode() == Mode::train;
  needs_ = needs_gradient(graph_, ops_, values);
  homes_ = share_gradients(ops_, places_, shapes_, output());
  writes_ = gradient_writes(ops_, places_, shapes_);
  values_.resize(values);
  gradients_.resize(values);
  for (std::size_t v = 0; v < values; ++v) {
    static_cast<Layout&>(values_[v]) = layout_of(static_cast<int>(v));
    static_cast<Layout&>(gradients_[v]) = values_[v];
    gradients_[v].dtype = backend_.activation_type();
    value_pieces_.push_back(arena_.piece(true));
    gradient_pieces_.push_back(arena_.piece(true));
  }
  for (std::size_t v = 0; v < values; ++v) {
    const std::size_t channel = static_cast<std::size_t>(places_[v].channel);
    arena_.put(values_[v], value_pieces_[places_[v].root], channel * size_bytes(values_[v].dtype));
    arena_.put(gradients_[v], gradient_pieces_[homes_[v]], channel * size_bytes(gradients_[v].dtype));
  }
  const auto touch_value = [&](int v, int time) {
    const Tensor& root = values_[places_[v].root];
    const std::int64_t elements = root.shape.n * root.strides.n;  // of an image with room for more channels, these too
    arena_.touch(value_pieces_[places_[v].root], time, static_cast<std::size_t>(elements) * size_bytes(root.dtype));
  };
  const auto touch_gradient = [&](int v, int time) {
    arena_.touch(gradient_pieces_[homes_[v]], time, gradients_[places_[v].root].packed_bytes());
  };
  for (const int v : {ops_.front().output, output()}) touch_value(v, 0), touch_value(v, end);
  if (train) touch_gradient(output(), loss_time);
  static_cast<Layout&>(labels_) = {{request_.batch, 1, 1, 1}, backend_.parameter_type()};
  const int labels = arena_.piece(true);
  for (const int time : {0, end}) arena_.touch(labels, time, labels_.packed_bytes());
  arena_.put(labels_, labels);

  for (int i = 0; i < count; ++i) {
    const PlannedOp& op = ops_[i];
    if (is_free(op)) continue;
    const Op::Reads reads = made_[i]->backward_reads();
    const bool backward = train && needs_[op.output], undo = undoes_activation(op);
    const int backward_time = 2 * count - i;
    touch_value(op.output, i);
    if (backward && (reads.y || undo)) touch_value(op.output, backward_time);
    if (backward && !is_deferred(op)) touch_gradient(op.output, backward_time);
    for (const int input : op.inputs) {
      touch_value(input, i);
      if (backward && reads.x) touch_value(input, backward_time);
      if (backward && needs_[input]) touch_gradient(input, backward_time);
    }
    if (backward && backend_.lanes() > 1 && linear(op)) {
      // Memory that a filter gradient reads is not used again at once, or what comes next would wait for it.
      constexpr int slack = 3;  // ops
      touch_value(op.inputs[0], std::min(backward_time + slack, end));
      touch_gradient(op.output, std::min(backward_time + slack, end));
    }
    if (!backward) continue;
    if (undo) {
      const Layout y = layout_of(op.output);
      undo_.emplace(i, backend_.activate({fused_activation(op.kind)}, y, y));
    }
  }
  lay_out_filters();
  lay_out_statistics();
  lay_out_norms(touch_value);
  arena_.assign();
  op_lanes_ = assign_lanes(ops_, std::max(backend_.lanes() - 1, 1));
  for (int i = 0; i < count; ++i)
    if (!is_free(ops_[i]))
      for (Call& call : forward_calls(i)) forward_.push_back(std::move(call));
  if (train)
    backward_.push_back({.op = count - 1,
                         .pass = Pass::loss,
                         .cost = cost(Loss{}, Pass::backward, layout_of(output())),
                         .run = [this] { loss_->backward(logits(), labels_, gradients_[graph_.output()]); },
                         .reads = {&logits(), &labels_},
                         .writes = {&gradients_[graph_.output()]}});
  for (int i = count; train && i-- > 0;)
    if (!is_free(ops_[i]) && needs_[ops_[i].output])
      for (Call& call : backward_calls(i)) backward_.push_back(std::move(call));
  schedule(forward_);
  schedule(backward_);
}

/// What batch-norms share, and what convolutions leave for them.
void PlannedProgram::lay_out_statistics() {
  const DType type = backend_.parameter_type();
  std::map<int, int> shared, partial;  // pieces: of roots; of values
  for (int i = 0; i < static_cast<int>(ops_.size()); ++i) {
    const PlannedOp& op = ops_[i];
    if (const auto* conv = std::get_if<Conv>(&op.kind); conv && conv->statistics) {
      const int rows = dynamic_cast<ConvOp&>(*made_[i]).statistics_rows();
      Tensor& statistics = partial_statistics_[op.output];
      statistics = {{{1, 1, rows, 3 * shapes_[op.output].c}, type}};
      const int piece = partial[op.output] = arena_.piece();
      arena_.touch(piece, i, statistics.packed_bytes());
      arena_.put(statistics, piece);
    }
    const auto* norm = std::get_if<BatchNorm>(&op.kind);
    if (!norm) continue;
    const int x = op.inputs[0], root = places_[x].root, channels = shapes_[root].c;
    if (norm->partial_statistics) arena_.touch(partial.at(x), i, 0);
    if (!norm->shared_statistics) continue;
    Tensor& statistics = statistics_[i];
    statistics = {{{1, 1, 2, shapes_[x].c}, type, packed({1, 1, 2, channels})}};
    const int piece = shared.try_emplace(root, -1).first->second < 0 ? shared[root] = arena_.piece() : shared[root];
    arena_.touch(piece, i, 2 * static_cast<std::size_t>(channels) * size_bytes(type));
    arena_.put(statistics, piece);
  }
}

/// The vectors of deferred batch-norms, what their readers get, and who settles what they leave to be corrected.
void PlannedProgram::lay_out_norms(const std::function<void(int value, int time)>& touch_value) {
  const DType type = backend_.parameter_type();
  const int count = static_cast<int>(ops_.size());
  const std::vector<Write> corrections = correction_writes(ops_, places_, shapes_);
  std::map<int, int> correction_pieces;  // of roots
  const auto correction_of = [&](int value) -> Layout {
    return {{1, 1, 3, shapes_[value].c}, type, packed({1, 1, 3, shapes_[places_[value].root].c})};
  };
  const auto put_correction = [&](Tensor& correction, int value, int time) {
    static_cast<Layout&>(correction) = correction_of(value);
    const auto [found, fresh] = correction_pieces.try_emplace(places_[value].root);
    if (fresh) found->second = arena_.piece();
    arena_.touch(found->second, time, 3 * static_cast<std::size_t>(shapes_[places_[value].root].c) * size_bytes(type));
    arena_.put(correction, found->second, static_cast<std::size_t>(places_[value].channel) * size_bytes(type));
  };
  std::vector<bool> corrected(shapes_.size());  // values that a deferred batch-norm reads
  for (int i = 0; i < count; ++i) {
    if (!is_deferred(ops_[i])) continue;
    const int x = ops_[i].inputs[0], y = ops_[i].output, channels = shapes_[x].c;
    const bool backward = mode() == Mode::train && needs_[y];
    NormVectors& vectors = norms_[i];
    vectors.coefficients = {{{1, 1, 3, channels}, type}};
    vectors.sums = {{{1, 1, 0, 2 * channels}, type}};
    const int coefficients = arena_.piece(), sums = arena_.piece();
    const auto touch_coefficients = [&](int time) { arena_.touch(coefficients, time, vectors.coefficients.packed_bytes()); };
    touch_coefficients(i);
    arena_.put(vectors.coefficients, coefficients);
    for (int j = i + 1; j < count; ++j) {
      for (std::size_t k = 0; k < ops_[j].inputs.size(); ++k) {
        if (ops_[j].inputs[k] != y) continue;
        Deferred& deferred = deferred_[{j, k}];
        deferred.x = values_[x], deferred.coefficients = vectors.coefficients;
        deferred.sums = {{{1, 1, made_[j]->sum_rows(), 2 * channels}, type}};
        const Place& place = places_[x];
        arena_.put(deferred.x, value_pieces_[place.root],
                   static_cast<std::size_t>(place.channel) * size_bytes(deferred.x.dtype));
        arena_.put(deferred.coefficients, coefficients);
        touch_coefficients(j);
        if (!backward) continue;
        touch_coefficients(2 * count - j);
        touch_value(x, 2 * count - j);
        arena_.put(deferred.sums, sums, vectors.sums.packed_bytes());
        vectors.sums.shape.w += deferred.sums.shape.w;
        arena_.touch(sums, 2 * count - j, vectors.sums.packed_bytes());
      }
    }
    if (!backward) continue;
    vectors.sums.strides = packed(vectors.sums.shape);
    arena_.touch(sums, 2 * count - i, vectors.sums.packed_bytes());
    arena_.put(vectors.sums, sums);
    put_correction(vectors.correction, x, 2 * count - i);
    vectors.write = corrections[i];
    corrected[x] = true;
  }
  for (int i = 0; i < count; ++i) {
    const PlannedOp& op = ops_[i];
    if (is_alias(op) || !needs_[op.output]) continue;
    const auto reads = [&](int x) {
      return corrected[x] && overlap(places_[x], shapes_[x].c, places_[op.output], shapes_[op.output].c);
    };
    bool is_corrected = false;
    for (std::size_t x = 0; x < shapes_.size(); ++x) is_corrected = is_corrected || reads(static_cast<int>(x));
    if (!is_corrected) continue;
    Settlement& settlement = settlements_[i];
    settlement.op = backend_.settle(layout_of(op.output));
    put_correction(settlement.correction, op.output, 2 * count - i);
    touch_value(op.output, 2 * count - i);
  }
}

const Deferred* PlannedProgram::deferred(int op, std::size_t input) const {
  const auto found = deferred_.find({op, input});
  return found == deferred_.end() ? nullptr : &found->second;
}

const Tensor* PlannedProgram::partial_statistics(int value) const {
  const auto found = partial_statistics_.find(value);
  return found == partial_statistics_.end() ? nullptr : &found->second;
}

const PlannedProgram::DerivedFilters* PlannedProgram::derived(int op) const {
  const auto found = filters_.find(op);
  return found == filters_.end() ? nullptr : &found->second;
}

std::vector<PlannedProgram::Call> PlannedProgram::forward_calls(int i) {
  const PlannedOp& op = ops_[i];
  Op* made = made_[i].get();
  const Tensor* x = &values_[op.inputs[0]];
  const Deferred* norm_x = deferred(i, 0);
  const Tensor* second = op.inputs.size() > 1 ? &values_[op.inputs[1]] : nullptr;
  const Tensor* y = &values_[op.output];
  const auto parameter = [&](std::size_t k) {
    return k < op.parameters.size() ? &parameters_.values[op.parameters[k]] : nullptr;
  };

  std::vector<Call> calls;
  const DerivedFilters* filters = derived(i);
  if (filters)
    calls.push_back({.op = i,
                     .pass = Pass::forward,
                     .cost = cost_of_filters(filters->all),
                     .run = [=, w = &parameters_.narrows[op.parameters[0]]] { filters->op->forward(*w, filters->all); },
                     .reads = {},
                     .writes = {&filters->all},
                     .lane = op_lanes_[i]});
  Call call{.op = i,
            .pass = Pass::forward,
            .cost = cost_of(op, Pass::forward),
            .reads = {x, second},
            .writes = {y},
            .lane = op_lanes_[i]};
  const Deferred* norm_second = deferred(i, 1);
  for (const Deferred* norm : {norm_x, norm_second})
    if (norm) call.reads.push_back(&norm->coefficients);
  if (linear(op)) {
    const bool folded = op.norm.has_value();
    const Tensor* w = folded ? &folded_.at(i).w : filters ? &filters->all : &parameters_.narrows[op.parameters[0]];
    const Tensor* b = folded ? &folded_.at(i).b : parameter(1);
    if (auto* conv = dynamic_cast<ConvOp*>(made)) {
      const auto* statistics = partial_statistics(op.output);
      call.writes.push_back(statistics);
      if (filters) call.reads.push_back(w);
      call.run = [=] { conv->forward(*x, norm_x, *w, b, *y, statistics); };
    } else {
      call.run = [=, dense = dynamic_cast<DenseOp*>(made)] { dense->forward(*x, *w, b, *y); };
    }
  } else if (const auto* kind = std::get_if<BatchNorm>(&op.kind)) {
    const std::size_t at = op.parameters.size() - 3;
    const Tensor *gamma = at == 1 ? parameter(0) : nullptr, *beta = parameter(at), *mean = parameter(at + 1),
                 *variance = parameter(at + 2);
    const Tensor* statistics = kind->shared_statistics ? &statistics_.at(i) : nullptr;
    const Tensor* partial = kind->partial_statistics ? partial_statistics(op.inputs[0]) : nullptr;
    call.reads.push_back(partial);
    call.writes.push_back(statistics);
    if (auto* norm = dynamic_cast<BatchNormOp*>(made)) {
      call.run = [=] { norm->forward(*x, gamma, *beta, *mean, *variance, statistics, partial, *y); };
    } else {
      const Tensor* coefficients = &norms_.at(i).coefficients;
      call.writes = {coefficients, statistics};
      call.run = [=, deferred = dynamic_cast<DeferredNormOp*>(made)] {
        deferred->forward(*x, gamma, *beta, *mean, *variance, statistics, partial, *coefficients);
      };
    }
  } else if (auto* activate = dynamic_cast<ActivateOp*>(made)) {
    call.run = [=] { activate->forward(*x, *y); };
  } else if (auto* pool = dynamic_cast<PoolOp*>(made)) {
    call.run = [=] { pool->forward(*x, norm_x, *y); };
  } else if (auto* dropout = dynamic_cast<DropoutOp*>(made)) {
    call.run = [=, state = state_] { dropout->forward(*x, norm_x, state, *y); };
  } else if (auto* add = dynamic_cast<AddOp*>(made)) {
    call.run = [=] { add->forward(*x, norm_x, *second, norm_second, *y); };
  } else {
    auto* multiply = dynamic_cast<MultiplyOp*>(made);
    require(multiply, "an op of no kind");
    call.run = [=] { multiply->forward(*x, norm_x, *second, *y); };
  }
  calls.push_back(std::move(call));
  return calls;
}

/// In order. A filter's gradient, which nobody waits for before the pass ends, goes into the last lane.
std::vector<PlannedProgram::Call> PlannedProgram::backward_calls(int i) {
  const PlannedOp& op = ops_[i];
  Op* made = made_[i].get();
  const Tensor* x = &values_[op.inputs[0]];
  const Deferred *norm_x = deferred(i, 0), *norm_second = deferred(i, 1);
  const Tensor* y = &values_[op.output];
  const Tensor* dy = &gradients_[op.output];
  const auto input_gradient = [&](std::size_t k) -> const Tensor* {
    return k < op.inputs.size() && needs_[op.inputs[k]] ? &gradients_[op.inputs[k]] : nullptr;
  };
  const auto gradient = [&](std::size_t k) -> const Tensor* {
    if (k >= op.parameters.size() || !graph_.parameters()[op.parameters[k]].trainable) return nullptr;
    return &parameters_.gradients[op.parameters[k]];
  };
  const Tensor *dx = input_gradient(0), *second = input_gradient(1);
  const int lane = op_lanes_[i];
  std::vector<Call> calls;

  if (auto* norm = dynamic_cast<DeferredNormOp*>(made)) {
    const NormVectors* vectors = &norms_.at(i);
    const std::size_t at = op.parameters.size() - 3;
    const Tensor *gamma = at == 1 ? &parameters_.values[op.parameters[0]] : nullptr, *dgamma = at == 1 ? gradient(0) : nullptr,
                 *dbeta = gradient(at);
    require(dbeta && dx, "batch norm without a gradient to pass on");
    calls.push_back({.op = i,
                     .pass = Pass::backward,
                     .cost = cost_of(op, Pass::backward),
                     .run = [=] { norm->backward(vectors->sums, gamma, dgamma, *dbeta, vectors->correction, vectors->write); },
                     .reads = {&vectors->sums},
                     .writes = {&vectors->correction},
                     .lane = lane});
    return calls;
  }
  if (const auto found = settlements_.find(i); found != settlements_.end()) {
    const Settlement* settlement = &found->second;
    calls.push_back({.op = i,
                     .pass = Pass::settle,
                     .cost = cost_of(op, Pass::settle),
                     .run = [=] { settlement->op->run(*y, settlement->correction, *dy); },
                     .reads = {y, &settlement->correction},
                     .writes = {dy},
                     .lane = lane});
  }
  if (undo_.contains(i)) {
    ActivateOp* undo = undo_.at(i).get();
    const Tensor* in = undo->backward_reads().x ? y : nullptr;
    const Layout layout = layout_of(op.output);
    calls.push_back({.op = i,
                     .pass = Pass::backward,
                     .cost = cost(Activate{}, Pass::backward, {&layout, 1}, layout, backend_.parameter_type()),
                     .run = [=] { undo->backward(in, y, *dy, *dy, Write::overwrite); },
                     .reads = {y},
                     .writes = {dy},
                     .lane = lane});
  }

  const Write write = writes_[i][0];
  const Op::Reads reads = made->backward_reads();
  Call call{.op = i,
            .pass = Pass::backward,
            .cost = cost_of(op, Pass::backward, write),
            .reads = {dy, reads.x ? x : nullptr, reads.y ? y : nullptr},
            .writes = {dx},
            .lane = lane};
  for (const Deferred* norm : {norm_x, norm_second})
    if (norm) call.reads.insert(call.reads.end(), {&norm->x, &norm->coefficients}), call.writes.push_back(&norm->sums);
  if (linear(op)) {
    const DerivedFilters* filters = derived(i);
    const Tensor *own = gradient(0), *db = gradient(1);
    const Tensor* w = filters ? &filters->all : &parameters_.narrows[op.parameters[0]];
    const Tensor* dw = filters && own ? &filters->dall : own;
    if (filters) call.reads.push_back(w);
    const auto gather_filters = [&](int of_lane) {
      if (filters && own)
        calls.push_back({.op = i,
                         .pass = Pass::backward_filter,
                         .cost = cost_of_filters(filters->dall),
                         .run = [=] { filters->op->backward(filters->dall, *own); },
                         .reads = {dw},
                         .writes = {},
                         .lane = of_lane});
    };
    auto* conv = dynamic_cast<ConvOp*>(made);
    auto* dense = dynamic_cast<DenseOp*>(made);
    if (conv && dw && dx && conv->fuses_backward()) {
      call.run = [=] { conv->backward(*x, norm_x, *dy, *w, *dx, write, *dw, db); };
      if (filters) call.writes.push_back(dw);
      calls.push_back(std::move(call));
      gather_filters(lane);
      return calls;
    }
    if (dw) {
      calls.push_back({.op = i,
                       .pass = Pass::backward_filter,
                       .cost = cost_of(op, Pass::backward_filter),
                       .run =
                           [=] {
                             if (conv) conv->backward_filter(*x, norm_x, *dy, *dw, db, Write::overwrite);
                             if (dense) dense->backward_filter(*x, *dy, *dw, db, Write::overwrite);
                           },
                       .reads = {x, dy, norm_x ? &norm_x->coefficients : nullptr},
                       .writes = {filters ? dw : nullptr},
                       .lane = backend_.lanes() - 1});
      gather_filters(backend_.lanes() - 1);
    }
    if (!dx) return calls;
    call.pass = Pass::backward_data;
    call.cost = cost_of(op, Pass::backward_data, write);
    call.run = [=] {
      if (conv) conv->backward_data(*dy, *w, norm_x, *dx, write);
      if (dense) dense->backward_data(*dy, *w, *dx, write);
    };
  } else if (auto* norm = dynamic_cast<BatchNormOp*>(made)) {
    const std::size_t at = op.parameters.size() - 3;
    const Tensor *gamma = at == 1 ? &parameters_.values[op.parameters[0]] : nullptr,
                 *beta = &parameters_.values[op.parameters[at]], *dgamma = at == 1 ? gradient(0) : nullptr,
                 *dbeta = gradient(at);
    require(dbeta && dx, "batch norm without a gradient to pass on");
    call.run = [=] { norm->backward(*x, *dy, gamma, *beta, *dx, dgamma, *dbeta, write); };
  } else if (auto* activate = dynamic_cast<ActivateOp*>(made)) {
    call.run = [=, in = reads.x ? x : nullptr, out = reads.y ? y : nullptr] { activate->backward(in, out, *dy, *dx, write); };
  } else if (auto* pool = dynamic_cast<PoolOp*>(made)) {
    call.run = [=] { pool->backward(*dy, norm_x, *dx, write); };
  } else if (auto* dropout = dynamic_cast<DropoutOp*>(made)) {
    call.run = [=, state = state_] { dropout->backward(*dy, norm_x, state, *dx, write); };
  } else if (auto* multiply = dynamic_cast<MultiplyOp*>(made)) {
    const Tensor* gate = &values_[op.inputs[1]];
    call.reads.push_back(gate);
    call.writes.push_back(second);
    // The gate's gradient first: x's may be dy's own memory.
    call.run = [=, write_second = writes_[i][1]] {
      if (second) multiply->backward_gate(*x, norm_x, *dy, *second, write_second);
      if (dx) multiply->backward_data(*dy, *gate, norm_x, *dx, write);
    };
  } else {
    auto* add = dynamic_cast<AddOp*>(made);
    require(add, "an op of no kind");
    call.writes.push_back(second);
    call.cost = {};  // of a side whose gradient lies elsewhere
    PlannedOp side = op;
    for (std::size_t k = 0; k < 2; ++k) {
      const int input = side.inputs[0];
      if (needs_[input] && homes_[input] != homes_[op.output]) call.cost += cost_of(side, Pass::backward, writes_[i][k]);
      std::swap(side.inputs[0], side.inputs[1]);
      std::swap(std::get<Add>(side.kind).deferred[0], std::get<Add>(side.kind).deferred[1]);
    }
    call.run = [=, write_second = writes_[i][1]] {
      if (second && second->data != dy->data) add->backward(*dy, norm_second, AddOp::Side::b, *second, write_second);
      if (dx && dx->data != dy->data) add->backward(*dy, norm_x, AddOp::Side::a, *dx, write);
    };
  }
  calls.push_back(std::move(call));
  return calls;
}

/// Writes down which calls of other lanes each call waits for.
void PlannedProgram::schedule(std::vector<Call>& pass) const {
  std::vector<Task> tasks;
  for (const Call& call : pass) {
    Task& task = tasks.emplace_back(Task{call.lane, {}});
    for (const auto& [tensors, writes] : {std::pair(&call.reads, false), std::pair(&call.writes, true)})
      for (const Tensor* tensor : *tensors)
        if (const std::optional<Access> access = arena_.access(tensor, writes)) task.accesses.push_back(*access);
  }
  const std::vector<std::vector<int>> all = waits(tasks, backend_.lanes());
  for (std::size_t i = 0; i < pass.size(); ++i) {
    pass[i].awaits = all[i];
    for (const int earlier : all[i]) pass[earlier].signals = true;
  }
}

/// Events: 0, the start; a lane's own number, its end; after the lanes' numbers, the calls in order.
void PlannedProgram::run(const std::vector<Call>& pass) const {
  const int lanes = backend_.lanes();
  std::vector<bool> used(static_cast<std::size_t>(lanes));
  used[0] = true;
  backend_.signal(0);
  for (std::size_t i = 0; i < pass.size(); ++i) {
    const Call& call = pass[i];
    backend_.use_lane(call.lane);
    if (!used[call.lane]) backend_.await(0);
    used[call.lane] = true;
    for (const int earlier : call.awaits) backend_.await(lanes + earlier);
    run(call);
    if (call.signals) backend_.signal(lanes + static_cast<int>(i));
  }
  for (int lane = 1; lane < lanes; ++lane)
    if (used[lane]) backend_.use_lane(lane), backend_.signal(lane);
  backend_.use_lane(0);
  for (int lane = 1; lane < lanes; ++lane)
    if (used[lane]) backend_.await(lane);
}

}  // namespace microtome
