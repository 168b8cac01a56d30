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

void PlannedProgram::bind(void* arena) {
  const auto place = [&](Tensor& tensor, int slot, int channel) {
    if (slot >= 0)
      tensor.data = static_cast<std::byte*>(arena) + arena_.offsets[slot] + static_cast<std::size_t>(channel) * size_bytes(tensor.dtype);
  };
  for (std::size_t v = 0; v < values_.size(); ++v) {
    place(values_[v], value_slot_[places_[v].root], places_[v].channel);
    place(gradients_[v], gradient_slot_[homes_[v]], places_[v].channel);
  }
  for (std::size_t i = 0; i < ops_.size(); ++i)
    if (statistics_[i].shape.w == 2) place(statistics_[i], statistics_slot_[places_[ops_[i].inputs[0]].root], 0);
  place(labels_, labels_slot_, 0);
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

/// Decides lifetimes and addresses, and writes down the calls of both passes.
void PlannedProgram::lay_out() {
  const std::size_t values = shapes_.size();
  const int count = static_cast<int>(ops_.size());
  const bool train = mode() == Mode::train;
  needs_ = needs_gradient(graph_, ops_, values);
  homes_ = share_gradients(ops_, places_, shapes_, output());
  writes_ = gradient_writes(ops_, places_, shapes_);
  values_.resize(values);
  gradients_.resize(values);
  statistics_.resize(ops_.size());
  for (std::size_t v = 0; v < values; ++v) {
    static_cast<Layout&>(values_[v]) = layout_of(static_cast<int>(v));
    static_cast<Layout&>(gradients_[v]) = values_[v];
    gradients_[v].dtype = backend_.activation_type();
  }
  static_cast<Layout&>(labels_) = {{request_.batch, 1, 1, 1}, backend_.parameter_type()};

  // Op i runs forward at time i and backward at 2 count - i, the loss between.
  const int loss_time = count, end = 2 * count + 1;
  std::vector<Lifetime> value_lives(values, {-1, -1, 0}), gradient_lives = value_lives, statistics_lives = value_lives;
  const auto touch = [](Lifetime& life, int time, std::size_t bytes) {
    life.first = life.bytes == 0 ? time : std::min(life.first, time);
    life.last = std::max(life.last, time);
    life.bytes = std::max(life.bytes, bytes);
  };
  const auto touch_value = [&](int v, int time) {
    touch(value_lives[places_[v].root], time, values_[places_[v].root].packed_bytes());
  };
  const auto touch_gradient = [&](int v, int time) {
    touch(gradient_lives[homes_[v]], time, gradients_[places_[v].root].packed_bytes());
  };
  for (const int v : {ops_.front().output, output()}) touch_value(v, 0), touch_value(v, end);
  if (train) touch_gradient(output(), loss_time);

  for (int i = 0; i < count; ++i) {
    const PlannedOp& op = ops_[i];
    if (is_free(op)) continue;
    const Op::Reads reads = made_[i]->backward_reads();
    const bool backward = train && needs_[op.output], undo = undoes_activation(op);
    const int backward_time = 2 * count - i;
    touch_value(op.output, i);
    if (backward && (reads.y || undo)) touch_value(op.output, backward_time);
    if (backward) touch_gradient(op.output, backward_time);
    for (const int input : op.inputs) {
      touch_value(input, i);
      if (backward && reads.x) touch_value(input, backward_time);
      if (backward && needs_[input]) touch_gradient(input, backward_time);
    }
    if (const auto* norm = std::get_if<BatchNorm>(&op.kind); norm && norm->shared_statistics) {
      const int root = places_[op.inputs[0]].root, channels = shapes_[root].c;
      statistics_[i] = {{{1, 1, 2, shapes_[op.inputs[0]].c}, backend_.parameter_type(), packed({1, 1, 2, channels})}};
      touch(statistics_lives[root], i, 2 * static_cast<std::size_t>(channels) * size_bytes(backend_.parameter_type()));
    }
    forward_.push_back({i, forward_call(i)});
    if (!backward) continue;
    if (undo) {
      const Layout y = layout_of(op.output);
      undo_.emplace(i, backend_.activate({fused_activation(op.kind)}, y, y));
    }
    backward_.push_back({i, backward_call(i)});
  }
  std::reverse(backward_.begin(), backward_.end());

  std::vector<Lifetime> lives;
  const auto slots = [&lives](const std::vector<Lifetime>& of) {
    std::vector<int> indices;
    for (const Lifetime& life : of) {
      indices.push_back(life.bytes == 0 ? -1 : static_cast<int>(lives.size()));
      if (life.bytes > 0) lives.push_back(life);
    }
    return indices;
  };
  value_slot_ = slots(value_lives);
  gradient_slot_ = slots(gradient_lives);
  statistics_slot_ = slots(statistics_lives);
  labels_slot_ = static_cast<int>(lives.size());
  lives.push_back({0, end, labels_.packed_bytes()});
  arena_ = assign_offsets(lives);
}

std::function<void()> PlannedProgram::forward_call(int i) {
  const PlannedOp& op = ops_[i];
  const Tensor* x = &values_[op.inputs[0]];
  const Tensor* second = op.inputs.size() > 1 ? &values_[op.inputs[1]] : nullptr;
  const Tensor* y = &values_[op.output];
  const auto parameter = [&](std::size_t k) { return k < op.parameters.size() ? &parameters_.values[op.parameters[k]] : nullptr; };
  if (linear(op)) {
    const bool folded = op.norm.has_value();
    const Tensor* w = folded ? &folded_.at(i).w : &parameters_.narrows[op.parameters[0]];
    const Tensor* b = folded ? &folded_.at(i).b : parameter(1);
    if (auto* conv = dynamic_cast<ConvOp*>(made_[i].get())) return [=] { conv->forward(*x, nullptr, *w, b, *y, nullptr); };
    auto* dense = dynamic_cast<DenseOp*>(made_[i].get());
    return [=] { dense->forward(*x, *w, b, *y); };
  }
  if (auto* norm = dynamic_cast<BatchNormOp*>(made_[i].get())) {
    const std::size_t beta = op.parameters.size() - 3;
    const Tensor* gamma = beta == 1 ? parameter(0) : nullptr;
    const Tensor* statistics = std::get<BatchNorm>(op.kind).shared_statistics ? &statistics_[i] : nullptr;
    return [=, b = parameter(beta), mean = parameter(beta + 1), variance = parameter(beta + 2)] {
      norm->forward(*x, gamma, *b, *mean, *variance, statistics, nullptr, *y);
    };
  }
  if (auto* activate = dynamic_cast<ActivateOp*>(made_[i].get())) return [=] { activate->forward(*x, *y); };
  if (auto* pool = dynamic_cast<PoolOp*>(made_[i].get())) return [=] { pool->forward(*x, nullptr, *y); };
  if (auto* dropout = dynamic_cast<DropoutOp*>(made_[i].get())) return [=, state = state_] { dropout->forward(*x, nullptr, state, *y); };
  if (auto* add = dynamic_cast<AddOp*>(made_[i].get())) return [=] { add->forward(*x, nullptr, *second, nullptr, *y); };
  auto* multiply = dynamic_cast<MultiplyOp*>(made_[i].get());
  require(multiply, "an op of no kind");
  return [=] { multiply->forward(*x, nullptr, *second, *y); };
}

std::function<void()> PlannedProgram::backward_call(int i) {
  const PlannedOp& op = ops_[i];
  const Tensor* x = &values_[op.inputs[0]];
  const Tensor* y = &values_[op.output];
  const Tensor* dy = &gradients_[op.output];
  const auto input_gradient = [&](std::size_t k) -> const Tensor* {
    return k < op.inputs.size() && needs_[op.inputs[k]] ? &gradients_[op.inputs[k]] : nullptr;
  };
  const Tensor* dx = input_gradient(0);
  const Write write = writes_[i][0];
  const auto gradient = [&](std::size_t k) -> const Tensor* {
    if (k >= op.parameters.size() || !graph_.parameters()[op.parameters[k]].trainable) return nullptr;
    return &parameters_.gradients[op.parameters[k]];
  };
  const auto undo_activation = [undo = undo_.contains(i) ? undo_.at(i).get() : nullptr, y, dy] {
    if (undo) undo->backward(undo->backward_reads().x ? y : nullptr, y, *dy, *dy, Write::overwrite);
  };
  const Op::Reads reads = made_[i]->backward_reads();
  if (linear(op)) {
    const auto call = [=, w = &parameters_.narrows[op.parameters[0]], dw = gradient(0), db = gradient(1)](auto* linear) {
      return [=] {
        undo_activation();
        if (dw) linear->backward_filter(*x, *dy, *dw, db, Write::overwrite);
        if (dx) linear->backward_data(*dy, *w, *dx, write);
      };
    };
    if (auto* conv = dynamic_cast<ConvOp*>(made_[i].get()))
      return [=, w = &parameters_.narrows[op.parameters[0]], dw = gradient(0), db = gradient(1)] {
        undo_activation();
        if (dw) conv->backward_filter(*x, nullptr, *dy, *dw, db, Write::overwrite);
        if (dx) conv->backward_data(*dy, *w, nullptr, *dx, write);
      };
    return call(dynamic_cast<DenseOp*>(made_[i].get()));
  }
  if (auto* norm = dynamic_cast<BatchNormOp*>(made_[i].get())) {
    const std::size_t beta = op.parameters.size() - 3;
    const Tensor* gamma = beta == 1 ? &parameters_.values[op.parameters[0]] : nullptr;
    require(gradient(beta) && dx, "batch norm without a gradient to pass on");
    return [=, b = &parameters_.values[op.parameters[beta]], dgamma = beta == 1 ? gradient(0) : nullptr, dbeta = gradient(beta)] {
      norm->backward(*x, *dy, gamma, *b, *dx, dgamma, *dbeta, write);
    };
  }
  if (auto* activate = dynamic_cast<ActivateOp*>(made_[i].get()))
    return [=, in = reads.x ? x : nullptr, out = reads.y ? y : nullptr] { activate->backward(in, out, *dy, *dx, write); };
  if (auto* pool = dynamic_cast<PoolOp*>(made_[i].get())) return [=] { pool->backward(*dy, nullptr, *dx, write); };
  if (auto* dropout = dynamic_cast<DropoutOp*>(made_[i].get()))
    return [=, state = state_] { dropout->backward(*dy, nullptr, state, *dx, write); };
  const Tensor* second = input_gradient(1);
  const Write write_second = writes_[i][1];
  if (auto* multiply = dynamic_cast<MultiplyOp*>(made_[i].get()))
    // The gate's gradient first: x's may be dy's own memory.
    return [=, gate = &values_[op.inputs[1]]] {
      if (second) multiply->backward_gate(*x, nullptr, *dy, *second, write_second);
      if (dx) multiply->backward_data(*dy, *gate, nullptr, *dx, write);
    };
  auto* add = dynamic_cast<AddOp*>(made_[i].get());
  require(add, "an op of no kind");
  return [=] {
    undo_activation();
    if (second && second->data != dy->data) add->backward(*dy, nullptr, AddOp::Side::b, *second, write_second);
    if (dx && dx->data != dy->data) add->backward(*dy, nullptr, AddOp::Side::a, *dx, write);
  };
}

}  // namespace microtome
