#include "engine/program.h"

#include "engine/check.h"
#include "engine/kinds/visit.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

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

bool is_linear(const PlannedOp& op) {
  return visit_kind(op.kind, [](const auto&, auto traits) { return traits.is_linear; });
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
    : graph_(graph),
      backend_(backend),
      request_(request),
      parameters_(parameters),
      state_(state),
      optimizer_(options.optimizer) {
  if (request.part != Part::head) normalization_ = composed_normalization(graph);
  const LowerOptions lowering{request.mode, options.dropout, !options.keras3_variance, request.part};
  const auto takes = [&](const Plan& plan, const PlannedOp& op) { return static_cast<bool>(make(plan, op)); };
  plan_ = make_plan(graph, {lowering, backend.image_channels(), takes});
  make_ops();
  make_folded();
  if (request.part != Part::base) loss_ = backend.loss({request.full_batch}, layout_of(output()));
  lay_out();
}

void PlannedProgram::forward() {
  run(forward_);
}

std::size_t PlannedProgram::scratch_bytes() const {
  std::size_t most = 0;
  for (const OpState& state : states_)
    if (state.made) most = std::max(most, state.made->memory.scratch);
  return most * static_cast<std::size_t>(backend_.streams());
}

std::size_t PlannedProgram::kept_bytes() const {
  std::size_t sum = 0;
  for (const OpState& state : states_)
    if (state.made) sum += state.made->memory.kept;
  return sum;
}

ProgramMemory PlannedProgram::memory() const {
  std::vector<int> rows;
  for (const GraphOp& op : graph_.ops()) rows.push_back(op.row);
  rows.resize(plan_.shapes.size());
  for (const PlannedOp& op : plan_.ops) rows[op.output] = op.row;
  ProgramMemory memory{.arena = arena_.bytes(), .unshared = arena_.unshared_bytes()};
  memory.rows.resize(graph_.rows().size());
  for (std::size_t row = 0; row < memory.rows.size(); ++row) memory.rows[row].name = graph_.rows()[row].name;
  const int loss_time = count();
  for (std::size_t v = 0; v < plan_.shapes.size(); ++v) {
    ProgramMemory::Row& row = memory.rows[rows[v]];
    const Lifetime& life = arena_.life(value_pieces_[v]);
    (mode() == Mode::train && life.last > loss_time ? row.kept : row.passing) += life.bytes;
    const Lifetime& gradient = arena_.life(gradient_pieces_[v]);
    row.gradients += gradient.bytes;
    for (const auto& [of, is_gradient] : {std::pair(life, false), std::pair(gradient, true)})
      if (of.bytes > 0) memory.lives.push_back({rows[v], is_gradient, of.first, of.last, of.bytes});
  }
  for (const PlannedOp& op : plan_.ops) memory.ops.push_back(op.row);
  return memory;
}

std::vector<PlannedKernel> PlannedProgram::kernels() const {
  std::vector<PlannedKernel> kernels;
  for (int i = 0; i < count(); ++i)
    if (states_[i].made) kernels.push_back({plan_.ops[i].row, states_[i].made->describe()});
  return kernels;
}

std::vector<ScopedCost> PlannedProgram::step_costs() const {
  const DType parameters = backend_.parameter_type(), activations = backend_.activation_type();
  const DType images = request_.part == Part::head ? activations : DType::u8;
  std::vector<ScopedCost> costs{{{.pass = Pass::input}, cost(Gather{}, images, input(), parameters)}};
  for (const Call& call : forward_) costs.push_back({scope_of(call), call.cost});
  if (loss_) costs.push_back({{.pass = Pass::loss}, cost(Loss{}, Pass::forward, layout_of(output()))});
  for (const Call& call : backward_) costs.push_back({scope_of(call), call.cost});
  if (trains())
    costs.push_back({{.pass = Pass::update}, cost(optimizer_, graph_.parameter_count(true), parameters, activations)});
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
    for (const int p : plan_.ops[call.op].parameters)
      if (!all_finite(backend_, parameters_.values[p])) return full_name(graph_, graph_.parameters()[p]);
    run(call);
    const Tensor& y = values_[plan_.ops[call.op].output];
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

bool PlannedProgram::has_folded_norms() const {
  return std::any_of(states_.begin(), states_.end(), [](const OpState& state) { return state.folded.has_value(); });
}

void PlannedProgram::fold_norms(std::span<const float> weights) {
  std::vector<std::span<const float>> parameters;
  for (const Parameter& p : graph_.parameters()) {
    parameters.push_back(weights.first(static_cast<std::size_t>(p.shape.count())));
    weights = weights.subspan(parameters.back().size());
  }
  for (int i = 0; i < count(); ++i) {
    if (!states_[i].folded) continue;
    const Folded& folded = *states_[i].folded;
    const PlannedOp& op = plan_.ops[i];
    const FoldedNorm& norm = *op.norm;
    const auto w = parameters[op.parameters[0]];
    const auto bias = op.parameters.size() > 1 ? parameters[op.parameters[1]] : std::span<const float>();
    const std::size_t beta = norm.kind.scale ? 1 : 0;
    const auto vector = [&](std::size_t k) { return parameters[norm.parameters[k]]; };
    const std::size_t outputs = folded.b.shape.c, inputs = w.size() / outputs;
    const bool outputs_last = visit_kind(op.kind, [](const auto&, auto traits) { return traits.outputs_last; });
    std::vector<float> new_w(w.size()), new_b(outputs);
    for (std::size_t k = 0; k < outputs; ++k) {
      const double scale = (beta == 1 ? vector(0)[k] : 1.0) / std::sqrt(double{vector(beta + 2)[k]} + norm.kind.epsilon);
      new_b[k] = static_cast<float>(((bias.empty() ? 0.0 : bias[k]) - vector(beta + 1)[k]) * scale + vector(beta)[k]);
      for (std::size_t j = 0; j < inputs; ++j) {
        const std::size_t at = outputs_last ? j * outputs + k : k * inputs + j;
        new_w[at] = static_cast<float>(w[at] * scale);
      }
    }
    write_values(backend_, folded.w.data, folded.w.dtype, new_w);
    write_values(backend_, folded.b.data, folded.b.dtype, new_b);
  }
}

Layout PlannedProgram::layout_of(const Plan& plan, int value) const {
  const auto batch = [&](Shape shape) {
    shape.n = request_.batch;
    return shape;
  };
  const Alias& alias = plan.aliases[value];
  const Shape &own = plan.shapes[value], &root = plan.shapes[alias.root];
  const bool slice = own.h == root.h && own.w == root.w;
  Shape room = batch(slice ? root : own);
  if (plan.image_channels > 0 && alias.root == plan.aliases[plan.ops.front().output].root) room.c = plan.image_channels;
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

void PlannedProgram::run(const Call& call) const {
  const Scoped scoped(backend_, scope_of(call));
  try {
    call.run();
  } catch (Error& error) {
    throw error.within(describe(plan_.ops[call.op]));
  }
}

MadeOp PlannedProgram::make(const Plan& plan, const PlannedOp& op) const {
  Layouts layouts{{}, layout_of(plan, op.output)};
  for (const int input : op.inputs) layouts.inputs.push_back(layout_of(plan, input));
  return MadeOp(backend_, op.kind, layouts);
}

/// Makes every op, splitting those whose activation the backend declines.
void PlannedProgram::make_ops() {
  std::vector<PlannedOp>& ops = plan_.ops;
  std::vector<MadeOp> made;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    try {
      MadeOp op = make(plan_, ops[i]);
      if (!op && fused_activation(ops[i].kind) != Activation::none) {
        const int fresh = static_cast<int>(plan_.shapes.size());
        plan_.shapes.push_back(plan_.shapes[ops[i].output]);
        plan_.aliases.push_back({fresh, 0});
        const PlannedOp activate = split_activation(ops[i], fresh);
        ops.insert(ops.begin() + static_cast<std::ptrdiff_t>(i) + 1, activate);
        op = make(plan_, ops[i]);
      }
      if (!op && !is_free(ops[i]))
        fail(ExitCode::usage, fmt::format("{} has no {}", backend_.device().name, graph_.rows()[ops[i].row].kind),
             {.next = "another --device"});
      made.push_back(std::move(op));
    } catch (Error& error) {
      throw error.within(describe(ops[i]));
    }
  }
  states_.resize(ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) states_[i].made = std::move(made[i]);
}

void PlannedProgram::make_folded() {
  for (int i = 0; i < count(); ++i) {
    const PlannedOp& op = plan_.ops[i];
    if (!op.norm) continue;
    Folded& folded = states_[i].folded.emplace();
    folded.w = {{graph_.parameters()[op.parameters[0]].shape, backend_.activation_type()}};
    folded.b = {{{1, 1, 1, plan_.shapes[op.output].c}, backend_.parameter_type()}};
    const std::size_t b_at = aligned(folded.w.packed_bytes());
    folded.memory = backend_.allocate(b_at + folded.b.packed_bytes());
    folded.w.data = folded.memory.data();
    folded.b.data = static_cast<std::byte*>(folded.memory.data()) + b_at;
  }
}

/// Decides lifetimes and addresses, and writes down the calls of both passes.
void PlannedProgram::lay_out() {
  needs_ = needs_gradient(graph_, plan_.ops, plan_.shapes.size());
  gradient_storage_ = share_gradients(plan_.ops, plan_.aliases, plan_.shapes, output());
  const std::vector<std::vector<Write>> writes = gradient_writes(plan_.ops, plan_.aliases, plan_.shapes);
  const std::vector<int> streams = assign_streams(plan_.ops, std::max(backend_.streams() - 1, 1));
  for (int i = 0; i < count(); ++i) states_[i].writes = writes[i], states_[i].stream = streams[i];
  lay_out_values();
  lay_out_labels();
  for (int i = 0; i < count(); ++i)
    if (!is_free(plan_.ops[i])) touch_tensors_of(i);
  lay_out_filters();
  lay_out_statistics();
  lay_out_norms();
  lay_out_norm_corrections();
  arena_.assign();
  write_down_calls();
}

void PlannedProgram::lay_out_values() {
  const std::size_t values = plan_.shapes.size();
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
    const Alias& alias = plan_.aliases[v];
    const std::size_t channel = static_cast<std::size_t>(alias.channel);
    arena_.put(values_[v], value_pieces_[alias.root], channel * size_bytes(values_[v].dtype));
    arena_.put(gradients_[v], gradient_pieces_[gradient_storage_[v]], channel * size_bytes(gradients_[v].dtype));
  }
  for (const int v : {plan_.ops.front().output, output()}) touch_value(v, 0), touch_value(v, end_time());
  if (trains()) touch_gradient(output(), count());  // by the loss
}

void PlannedProgram::lay_out_labels() {
  static_cast<Layout&>(labels_) = {{request_.batch, 1, 1, 1}, backend_.parameter_type()};
  const int labels = arena_.piece(true);
  for (const int time : {0, end_time()}) arena_.touch(labels, time, labels_.packed_bytes());
  arena_.put(labels_, labels);
}

void PlannedProgram::touch_value(int value, int time) {
  const int root = plan_.aliases[value].root;
  const Tensor& tensor = values_[root];
  const std::int64_t elements = tensor.shape.n * tensor.strides.n;  // of an image with room for more channels, these too
  arena_.touch(value_pieces_[root], time, static_cast<std::size_t>(elements) * size_bytes(tensor.dtype));
}

void PlannedProgram::touch_gradient(int value, int time) {
  arena_.touch(gradient_pieces_[gradient_storage_[value]], time, gradients_[plan_.aliases[value].root].packed_bytes());
}

void PlannedProgram::touch_tensors_of(int i) {
  const PlannedOp& op = plan_.ops[i];
  OpState& state = states_[i];
  const Op::Reads reads = state.made->backward_reads();
  const bool backward = runs_backward(i), undo = undoes_activation(op);
  touch_value(op.output, i);
  if (backward && (reads.y || undo)) touch_value(op.output, backward_time(i));
  if (backward && !is_deferred(op)) touch_gradient(op.output, backward_time(i));
  for (const int input : op.inputs) {
    touch_value(input, i);
    if (backward && reads.x) touch_value(input, backward_time(i));
    if (backward && needs_[input]) touch_gradient(input, backward_time(i));
  }
  if (backward && backend_.streams() > 1 && is_linear(op)) {
    // Memory that a filter gradient reads is not used again at once, or what comes next would wait for it.
    constexpr int slack = 3;  // ops: an estimate, since no GPU has timed it
    touch_value(op.inputs[0], std::min(backward_time(i) + slack, end_time()));
    touch_gradient(op.output, std::min(backward_time(i) + slack, end_time()));
  }
  if (!backward || !undo) return;
  const Activation fused = fused_activation(op.kind);
  require(derivative_of(fused) != DerivativeOf::x, "an activation is fused whose derivative its output does not decide");
  const Layout y = layout_of(op.output);
  state.undo = backend_.activate({fused}, y, y);
}

/// Makes the ops that derive filters from parameters, and gives the filters memory from when they are made to when the backward
/// pass has used them.
void PlannedProgram::lay_out_filters() {
  for (int i = 0; i < count(); ++i) {
    const PlannedOp& op = plan_.ops[i];
    const auto* conv = std::get_if<Conv>(&op.kind);
    if (!conv || conv->p4m == P4m::none) continue;
    const int p = op.parameters[0];
    const Tensor& w = parameters_.low_precision_values[p];
    Filters& filters = states_[i].filters.emplace();
    filters.all = {{derived_filters(*conv, w.shape), w.dtype}};
    filters.dall = {{filters.all.shape, backend_.parameter_type()}};
    filters.op = backend_.filter_transform(conv->p4m, w, filters.all);
    filters.view = {filters.op.get(), &w, &filters.all, &filters.dall, gradient_of(p)};
    const int all = arena_.piece(), dall = arena_.piece();
    arena_.put(filters.all, all), arena_.put(filters.dall, dall);
    arena_.touch(all, i, filters.all.packed_bytes());
    if (!runs_backward(i)) continue;
    arena_.touch(all, backward_time(i), filters.all.packed_bytes());
    arena_.touch(dall, backward_time(i), filters.dall.packed_bytes());
  }
}

/// What batch-norms share, and what convolutions leave for them.
void PlannedProgram::lay_out_statistics() {
  const DType type = backend_.parameter_type();
  std::map<int, int> shared, partial;  // pieces: of roots; of values
  for (int i = 0; i < count(); ++i) {
    const PlannedOp& op = plan_.ops[i];
    if (leaves_statistics(op)) {
      Tensor& statistics = states_[i].left_statistics.emplace();
      statistics = {{{1, 1, states_[i].made.statistics_rows(), 3 * plan_.shapes[op.output].c}, type}};
      const int piece = partial[op.output] = arena_.piece();
      arena_.touch(piece, i, statistics.packed_bytes());
      arena_.put(statistics, piece);
    }
    const auto* norm = std::get_if<BatchNorm>(&op.kind);
    if (!norm) continue;
    const int x = op.inputs[0], root = plan_.aliases[x].root, channels = plan_.shapes[root].c;
    if (norm->partial_statistics) arena_.touch(partial.at(x), i, 0);
    if (!norm->shared_statistics) continue;
    Tensor& statistics = states_[i].shared_statistics.emplace();
    statistics = {{{1, 1, 2, plan_.shapes[x].c}, type, packed({1, 1, 2, channels})}};
    const auto [piece, fresh] = shared.try_emplace(root);
    if (fresh) piece->second = arena_.piece();
    arena_.touch(piece->second, i, 2 * static_cast<std::size_t>(channels) * size_bytes(type));
    arena_.put(statistics, piece->second);
  }
}

/// The vectors of deferred batch-norms, and what their readers get.
void PlannedProgram::lay_out_norms() {
  const std::vector<Write> corrections = correction_writes(plan_.ops, plan_.aliases, plan_.shapes);
  for (int i = 0; i < count(); ++i) states_[i].deferred.resize(plan_.ops[i].inputs.size());
  for (int i = 0; i < count(); ++i)
    if (is_deferred(plan_.ops[i])) lay_out_norm(i, corrections[i]);
}

void PlannedProgram::lay_out_norm(int i, Write write) {
  const DType type = backend_.parameter_type();
  const int x = plan_.ops[i].inputs[0], y = plan_.ops[i].output, channels = plan_.shapes[x].c;
  const Alias& alias = plan_.aliases[x];
  const bool backward = runs_backward(i);
  NormVectors& vectors = states_[i].vectors.emplace();
  vectors.coefficients = {{{1, 1, 3, channels}, type}};
  vectors.sums = {{{1, 1, 0, 2 * channels}, type}};
  const int coefficients = arena_.piece(), sums = arena_.piece();
  const auto touch_coefficients = [&](int time) { arena_.touch(coefficients, time, vectors.coefficients.packed_bytes()); };
  const auto touch_sums = [&](int time) { arena_.touch(sums, time, vectors.sums.packed_bytes()); };
  touch_coefficients(i);
  arena_.put(vectors.coefficients, coefficients);
  for (int j = i + 1; j < count(); ++j) {
    for (std::size_t k = 0; k < plan_.ops[j].inputs.size(); ++k) {
      if (plan_.ops[j].inputs[k] != y) continue;
      Deferred& deferred = states_[j].deferred[k].emplace();
      deferred.x = values_[x], deferred.coefficients = vectors.coefficients;
      deferred.sums = {{{1, 1, states_[j].made->sum_rows(), 2 * channels}, type}};
      arena_.put(deferred.x, value_pieces_[alias.root], static_cast<std::size_t>(alias.channel) * size_bytes(deferred.x.dtype));
      arena_.put(deferred.coefficients, coefficients);
      touch_coefficients(j);
      if (!backward) continue;
      touch_coefficients(backward_time(j));
      touch_value(x, backward_time(j));
      arena_.put(deferred.sums, sums, vectors.sums.packed_bytes());
      vectors.sums.shape.w += deferred.sums.shape.w;
      touch_sums(backward_time(j));
    }
  }
  if (!backward) return;
  vectors.sums.strides = packed(vectors.sums.shape);
  touch_sums(backward_time(i));
  arena_.put(vectors.sums, sums);
  put_correction(vectors.correction, x, backward_time(i));
  vectors.write = write;
}

/// All corrections of one memory lie in one piece.
void PlannedProgram::put_correction(Tensor& correction, int value, int time) {
  const DType type = backend_.parameter_type();
  const Alias& alias = plan_.aliases[value];
  const int channels = plan_.shapes[alias.root].c;
  static_cast<Layout&>(correction) = {{1, 1, 3, plan_.shapes[value].c}, type, packed({1, 1, 3, channels})};
  const auto [found, fresh] = correction_pieces_.try_emplace(alias.root);
  if (fresh) found->second = arena_.piece();
  arena_.touch(found->second, time, 3 * static_cast<std::size_t>(channels) * size_bytes(type));
  arena_.put(correction, found->second, static_cast<std::size_t>(alias.channel) * size_bytes(type));
}

/// Who corrects the gradients that deferred batch-norms leave to be corrected.
void PlannedProgram::lay_out_norm_corrections() {
  std::vector<int> corrected;  // values that a deferred batch-norm reads
  for (int i = 0; i < count(); ++i)
    if (is_deferred(plan_.ops[i]) && runs_backward(i)) corrected.push_back(plan_.ops[i].inputs[0]);
  const auto channels_of = [&](int value) { return plan_.shapes[value].c; };
  for (int i = 0; i < count(); ++i) {
    const int y = plan_.ops[i].output;
    if (is_alias(plan_.ops[i]) || !needs_[y]) continue;
    const bool is_corrected = std::any_of(corrected.begin(), corrected.end(), [&](int x) {
      return overlap(plan_.aliases[x], channels_of(x), plan_.aliases[y], channels_of(y));
    });
    if (!is_corrected) continue;
    NormCorrection& norm_correction = states_[i].norm_correction.emplace();
    norm_correction.op = backend_.norm_correction(layout_of(y));
    put_correction(norm_correction.correction, y, backward_time(i));
    touch_value(y, backward_time(i));
  }
}

void PlannedProgram::write_down_calls() {
  const auto append = [](std::vector<Call>& pass, std::vector<Call> calls) {
    std::move(calls.begin(), calls.end(), std::back_inserter(pass));
  };
  for (int i = 0; i < count(); ++i)
    if (!is_free(plan_.ops[i])) append(forward_, states_[i].made.forward(view_of(i)));
  if (trains())
    backward_.push_back({.op = count() - 1,
                         .pass = Pass::loss,
                         .cost = cost(Loss{}, Pass::backward, layout_of(output())),
                         .run = [this] { loss_->backward(logits(), labels_, gradients_[graph_.output()]); },
                         .reads = {&logits(), &labels_},
                         .writes = {&gradients_[graph_.output()]}});
  for (int i = count(); i-- > 0;)
    if (!is_free(plan_.ops[i]) && runs_backward(i)) append(backward_, backward_calls(i));
  schedule(forward_);
  schedule(backward_);
}

const Tensor* PlannedProgram::gradient_of(int parameter) const {
  return graph_.parameters()[parameter].trainable ? &parameters_.gradients[parameter] : nullptr;
}

const Tensor* PlannedProgram::statistics_left_for(const PlannedOp& op) const {
  for (int i = 0; i < count(); ++i)
    if (plan_.ops[i].output == op.inputs[0] && states_[i].left_statistics) return &*states_[i].left_statistics;
  return nullptr;
}

OpView PlannedProgram::view_of(int i) const {
  const auto get = [](const auto& optional) { return optional ? &*optional : nullptr; };
  const PlannedOp& op = plan_.ops[i];
  const OpState& state = states_[i];
  OpView view{.op = i,
              .stream = state.stream,
              .filter_stream = backend_.streams() - 1,
              .reads = state.made->backward_reads(),
              .parameter_type = backend_.parameter_type(),
              .y = &values_[op.output],
              .dy = &gradients_[op.output],
              .statistics_left = get(state.left_statistics),
              .statistics_found = statistics_left_for(op),
              .statistics_shared = get(state.shared_statistics),
              .vectors = get(state.vectors),
              .state = state_};
  for (std::size_t k = 0; k < op.inputs.size(); ++k) {
    const int x = op.inputs[k];
    const bool at_dy =
        gradient_storage_[x] == gradient_storage_[op.output] && plan_.aliases[x].channel == plan_.aliases[op.output].channel;
    view.inputs.push_back({.x = &values_[x],
                           .dx = needs_[x] ? &gradients_[x] : nullptr,
                           .norm = get(state.deferred[k]),
                           .write = state.writes.empty() ? Write::overwrite : state.writes[k],
                           .passed_on = at_dy});
  }
  for (const int p : op.parameters)
    view.parameters.push_back({graph_.parameters()[p].name, &parameters_.values[p], gradient_of(p)});
  if (is_linear(op)) find_weights(op, state, view);
  return view;
}

void PlannedProgram::find_weights(const PlannedOp& op, const OpState& state, OpView& view) const {
  view.w = &parameters_.low_precision_values[op.parameters[0]], view.dw = gradient_of(op.parameters[0]);
  view.b = view.parameter("bias"), view.db = view.gradient("bias");
  if (state.folded) view.w = &state.folded->w, view.b = &state.folded->b;
  if (!state.filters) return;
  view.filters = &state.filters->view;
  view.w = &state.filters->all;
  if (view.dw) view.dw = &state.filters->dall;
}

/// In order: what is missing in y's gradient, then the op's own activation undone, then the op itself.
std::vector<Call> PlannedProgram::backward_calls(int i) const {
  const OpState& state = states_[i];
  const OpView view = view_of(i);
  const Tensor *y = view.y, *dy = view.dy;
  const Layout layout = *y;
  const auto cost_in = [&](Pass pass) { return cost(Activate{}, pass, {&layout, 1}, layout, view.parameter_type); };
  std::vector<Call> calls;
  const auto in_place = [&](Pass pass, std::vector<const Tensor*> reads, std::function<void()> run) {
    calls.push_back({.op = i,
                     .pass = pass,
                     .cost = cost_in(pass),
                     .run = std::move(run),
                     .reads = std::move(reads),
                     .writes = {dy},
                     .stream = state.stream});
  };
  if (state.norm_correction) {
    const NormCorrection* norm_correction = &*state.norm_correction;
    in_place(Pass::norm_correction, {y, &norm_correction->correction},
             [=] { norm_correction->op->run(*y, norm_correction->correction, *dy); });
  }
  if (state.undo)
    in_place(Pass::backward, {y}, [=, op = state.undo.get()] { op->backward(nullptr, y, *dy, *dy, Write::overwrite); });
  std::vector<Call> own = state.made.backward(view);
  std::move(own.begin(), own.end(), std::back_inserter(calls));
  return calls;
}

/// Writes down which calls of other streams each call waits for.
void PlannedProgram::schedule(std::vector<Call>& pass) const {
  std::vector<Task> tasks;
  for (const Call& call : pass) {
    Task& task = tasks.emplace_back(Task{call.stream, {}});
    for (const auto& [tensors, writes] : {std::pair(&call.reads, false), std::pair(&call.writes, true)})
      for (const Tensor* tensor : *tensors)
        if (const std::optional<Access> access = arena_.access(tensor, writes)) task.accesses.push_back(*access);
  }
  const std::vector<std::vector<int>> all = waits(tasks, backend_.streams());
  for (std::size_t i = 0; i < pass.size(); ++i) {
    pass[i].waits_for = all[i];
    for (const int earlier : all[i]) pass[earlier].awaited = true;
  }
}

/// Events: 0, the start; a stream's own number, its end; after the streams' numbers, the calls in order.
void PlannedProgram::run(const std::vector<Call>& pass) const {
  const int streams = backend_.streams();
  std::vector<bool> used(static_cast<std::size_t>(streams));
  used[0] = true;
  backend_.record_event(0);
  for (std::size_t i = 0; i < pass.size(); ++i) {
    const Call& call = pass[i];
    backend_.use_stream(call.stream);
    if (!used[call.stream]) backend_.wait_event(0);
    used[call.stream] = true;
    for (const int earlier : call.waits_for) backend_.wait_event(streams + earlier);
    run(call);
    if (call.awaited) backend_.record_event(streams + static_cast<int>(i));
  }
  for (int stream = 1; stream < streams; ++stream)
    if (used[stream]) backend_.use_stream(stream), backend_.record_event(stream);
  backend_.use_stream(0);
  for (int stream = 1; stream < streams; ++stream)
    if (used[stream]) backend_.wait_event(stream);
}

}  // namespace microtome
