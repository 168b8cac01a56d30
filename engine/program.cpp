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

bool linear(const PlannedOp& op) { return std::holds_alternative<Conv>(op.kind) || std::holds_alternative<Dense>(op.kind); }

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
    if (const auto* conv = std::get_if<Conv>(&ops_[i].kind); conv && conv->statistics && !make(ops_[i])) keep_no_statistics(ops_, i);
}

void PlannedProgram::forward() {
  for (const Call& call : forward_) run(call);
}

void PlannedProgram::loss(BatchMetrics* metrics, float* scores, StepState* state) {
  require(loss_ != nullptr, "a base has no loss");
  loss_->forward(logits(), labels_, state ? state : state_, metrics, scores);
}

void PlannedProgram::backward() {
  require(mode() == Mode::train && loss_, "only a training program with a head has a backward pass");
  loss_->backward(logits(), labels_, gradients_[graph_.output()]);
  for (const Call& call : backward_) run(call);
}

std::string PlannedProgram::first_not_finite() {
  for (const Call& call : forward_) {
    for (const int p : ops_[call.op].parameters)
      if (!all_finite(backend_, parameters_.values[p])) return full_name(graph_, graph_.parameters()[p]);
    run(call);
    if (!all_finite(backend_, values_[ops_[call.op].output])) return row_of(call) + " (output)";
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
  const bool logits = value == graph_.output() && request_.part != Part::base;
  return {batch(own), logits ? backend_.parameter_type() : backend_.activation_type(), packed(batch(slice ? root : own))};
}

std::string PlannedProgram::describe(const PlannedOp& op) const {
  std::string text = fmt::format("row {} (", graph_.rows()[op.row].name);
  for (const int input : op.inputs) text += to_string(layout_of(input).shape) + " ";
  return text + "-> " + to_string(layout_of(op.output).shape) + ")";
}

void PlannedProgram::run(const Call& call) const {
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
  if (const auto* k = std::get_if<Conv>(&op.kind)) return backend_.conv(*k, x(0), y);
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
  std::vector<int> gradient_pieces;
  for (std::size_t v = 0; v < values; ++v) {
    static_cast<Layout&>(values_[v]) = layout_of(static_cast<int>(v));
    static_cast<Layout&>(gradients_[v]) = values_[v];
    gradients_[v].dtype = backend_.activation_type();
    value_pieces_.push_back(arena_.piece());
    gradient_pieces.push_back(arena_.piece());
  }
  for (std::size_t v = 0; v < values; ++v) {
    const std::size_t channel = static_cast<std::size_t>(places_[v].channel);
    arena_.put(values_[v], value_pieces_[places_[v].root], channel * size_bytes(values_[v].dtype));
    arena_.put(gradients_[v], gradient_pieces[homes_[v]], channel * size_bytes(gradients_[v].dtype));
  }
  const auto touch_value = [&](int v, int time) {
    arena_.touch(value_pieces_[places_[v].root], time, values_[places_[v].root].packed_bytes());
  };
  const auto touch_gradient = [&](int v, int time) {
    arena_.touch(gradient_pieces[homes_[v]], time, gradients_[places_[v].root].packed_bytes());
  };
  for (const int v : {ops_.front().output, output()}) touch_value(v, 0), touch_value(v, end);
  if (train) touch_gradient(output(), loss_time);
  static_cast<Layout&>(labels_) = {{request_.batch, 1, 1, 1}, backend_.parameter_type()};
  const int labels = arena_.piece();
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
    if (!backward) continue;
    if (undo) {
      const Layout y = layout_of(op.output);
      undo_.emplace(i, backend_.activate({fused_activation(op.kind)}, y, y));
    }
  }
  lay_out_statistics();
  lay_out_norms(touch_value);
  for (int i = 0; i < count; ++i) {
    if (is_free(ops_[i])) continue;
    forward_.push_back({i, forward_call(i)});
    if (train && needs_[ops_[i].output]) backward_.push_back({i, backward_call(i)});
  }
  std::reverse(backward_.begin(), backward_.end());
  arena_.assign();
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
        arena_.put(deferred.x, value_pieces_[place.root], static_cast<std::size_t>(place.channel) * size_bytes(deferred.x.dtype));
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
    const auto reads = [&](int x) { return corrected[x] && overlap(places_[x], shapes_[x].c, places_[op.output], shapes_[op.output].c); };
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

std::function<void()> PlannedProgram::forward_call(int i) {
  const PlannedOp& op = ops_[i];
  Op* made = made_[i].get();
  const Tensor* x = &values_[op.inputs[0]];
  const Deferred* norm_x = deferred(i, 0);
  const Tensor* second = op.inputs.size() > 1 ? &values_[op.inputs[1]] : nullptr;
  const Tensor* y = &values_[op.output];
  const auto parameter = [&](std::size_t k) { return k < op.parameters.size() ? &parameters_.values[op.parameters[k]] : nullptr; };
  if (linear(op)) {
    const bool folded = op.norm.has_value();
    const Tensor* w = folded ? &folded_.at(i).w : &parameters_.narrows[op.parameters[0]];
    const Tensor* b = folded ? &folded_.at(i).b : parameter(1);
    if (auto* conv = dynamic_cast<ConvOp*>(made))
      return [=, statistics = partial_statistics(op.output)] { conv->forward(*x, norm_x, *w, b, *y, statistics); };
    auto* dense = dynamic_cast<DenseOp*>(made);
    return [=] { dense->forward(*x, *w, b, *y); };
  }
  if (const auto* kind = std::get_if<BatchNorm>(&op.kind)) {
    const std::size_t at = op.parameters.size() - 3;
    const Tensor *gamma = at == 1 ? parameter(0) : nullptr, *beta = parameter(at), *mean = parameter(at + 1),
                 *variance = parameter(at + 2);
    const Tensor* statistics = kind->shared_statistics ? &statistics_.at(i) : nullptr;
    const Tensor* partial = kind->partial_statistics ? partial_statistics(op.inputs[0]) : nullptr;
    if (auto* norm = dynamic_cast<BatchNormOp*>(made))
      return [=] { norm->forward(*x, gamma, *beta, *mean, *variance, statistics, partial, *y); };
    auto* norm = dynamic_cast<DeferredNormOp*>(made);
    return [=, coefficients = &norms_.at(i).coefficients] {
      norm->forward(*x, gamma, *beta, *mean, *variance, statistics, partial, *coefficients);
    };
  }
  if (auto* activate = dynamic_cast<ActivateOp*>(made)) return [=] { activate->forward(*x, *y); };
  if (auto* pool = dynamic_cast<PoolOp*>(made)) return [=] { pool->forward(*x, norm_x, *y); };
  if (auto* dropout = dynamic_cast<DropoutOp*>(made)) return [=, state = state_] { dropout->forward(*x, norm_x, state, *y); };
  if (auto* add = dynamic_cast<AddOp*>(made))
    return [=, norm_second = deferred(i, 1)] { add->forward(*x, norm_x, *second, norm_second, *y); };
  auto* multiply = dynamic_cast<MultiplyOp*>(made);
  require(multiply, "an op of no kind");
  return [=] { multiply->forward(*x, norm_x, *second, *y); };
}

/// What makes the gradient of an op's output ready for the op's own backward pass.
std::function<void()> PlannedProgram::prepare_call(int i) {
  const Tensor *y = &values_[ops_[i].output], *dy = &gradients_[ops_[i].output];
  const auto settlement = settlements_.find(i);
  SettleOp* settle = settlement == settlements_.end() ? nullptr : settlement->second.op.get();
  const Tensor* correction = settle ? &settlement->second.correction : nullptr;
  ActivateOp* undo = undo_.contains(i) ? undo_.at(i).get() : nullptr;
  return [=] {
    if (settle) settle->run(*y, *correction, *dy);
    if (undo) undo->backward(undo->backward_reads().x ? y : nullptr, y, *dy, *dy, Write::overwrite);
  };
}

std::function<void()> PlannedProgram::backward_call(int i) {
  const PlannedOp& op = ops_[i];
  Op* made = made_[i].get();
  const Tensor* x = &values_[op.inputs[0]];
  const Deferred* norm_x = deferred(i, 0);
  const Tensor* y = &values_[op.output];
  const Tensor* dy = &gradients_[op.output];
  const auto input_gradient = [&](std::size_t k) -> const Tensor* {
    return k < op.inputs.size() && needs_[op.inputs[k]] ? &gradients_[op.inputs[k]] : nullptr;
  };
  const auto gradient = [&](std::size_t k) -> const Tensor* {
    if (k >= op.parameters.size() || !graph_.parameters()[op.parameters[k]].trainable) return nullptr;
    return &parameters_.gradients[op.parameters[k]];
  };
  if (std::holds_alternative<BatchNorm>(op.kind)) {
    const std::size_t at = op.parameters.size() - 3;
    const Tensor *gamma = at == 1 ? &parameters_.values[op.parameters[0]] : nullptr, *beta = &parameters_.values[op.parameters[at]],
                 *dgamma = at == 1 ? gradient(0) : nullptr, *dbeta = gradient(at), *dx = input_gradient(0);
    require(dbeta && dx, "batch norm without a gradient to pass on");
    if (auto* norm = dynamic_cast<DeferredNormOp*>(made))
      return [=, vectors = &norms_.at(i)] {
        norm->backward(vectors->sums, gamma, dgamma, *dbeta, vectors->correction, vectors->write);
      };
    return [=, norm = dynamic_cast<BatchNormOp*>(made), prepare = prepare_call(i), write = writes_[i][0]] {
      prepare();
      norm->backward(*x, *dy, gamma, *beta, *dx, dgamma, *dbeta, write);
    };
  }
  const auto prepare = prepare_call(i);
  const Tensor* dx = input_gradient(0);
  const Write write = writes_[i][0];
  const Op::Reads reads = made->backward_reads();
  if (linear(op)) {
    const Tensor *w = &parameters_.narrows[op.parameters[0]], *dw = gradient(0), *db = gradient(1);
    if (auto* conv = dynamic_cast<ConvOp*>(made))
      return [=] {
        prepare();
        if (dw && dx) return conv->backward(*x, norm_x, *dy, *w, *dx, write, *dw, db);
        if (dw) conv->backward_filter(*x, norm_x, *dy, *dw, db, Write::overwrite);
        if (dx) conv->backward_data(*dy, *w, norm_x, *dx, write);
      };
    return [=, dense = dynamic_cast<DenseOp*>(made)] {
      prepare();
      if (dw) dense->backward_filter(*x, *dy, *dw, db, Write::overwrite);
      if (dx) dense->backward_data(*dy, *w, *dx, write);
    };
  }
  if (auto* activate = dynamic_cast<ActivateOp*>(made))
    return [=, in = reads.x ? x : nullptr, out = reads.y ? y : nullptr] {
      prepare();
      activate->backward(in, out, *dy, *dx, write);
    };
  if (auto* pool = dynamic_cast<PoolOp*>(made))
    return [=] {
      prepare();
      pool->backward(*dy, norm_x, *dx, write);
    };
  if (auto* dropout = dynamic_cast<DropoutOp*>(made))
    return [=, state = state_] {
      prepare();
      dropout->backward(*dy, norm_x, state, *dx, write);
    };
  const Tensor* second = input_gradient(1);
  const Write write_second = writes_[i][1];
  if (auto* multiply = dynamic_cast<MultiplyOp*>(made))
    // The gate's gradient first: x's may be dy's own memory.
    return [=, gate = &values_[op.inputs[1]]] {
      prepare();
      if (second) multiply->backward_gate(*x, norm_x, *dy, *second, write_second);
      if (dx) multiply->backward_data(*dy, *gate, norm_x, *dx, write);
    };
  auto* add = dynamic_cast<AddOp*>(made);
  require(add, "an op of no kind");
  return [=, norm_second = deferred(i, 1)] {
    prepare();
    if (second && second->data != dy->data) add->backward(*dy, norm_second, AddOp::Side::b, *second, write_second);
    if (dx && dx->data != dy->data) add->backward(*dy, norm_x, AddOp::Side::a, *dx, write);
  };
}

}  // namespace microtome
