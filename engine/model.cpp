#include "engine/model.h"

#include "engine/check.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <map>

namespace microtome {
namespace {

/// bf16 is the upper half of an f32, rounded to nearest, ties to even.
std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

/// Host values to device elements of another type, and back.
void write_values(Backend& backend, void* device, DType dtype, std::span<const float> values) {
  const auto convert = [&](auto to) {
    std::vector<decltype(to(0.0f))> elements(values.size());
    std::transform(values.begin(), values.end(), elements.begin(), to);
    backend.write(device, elements.data(), elements.size() * sizeof(elements[0]));
  };
  switch (dtype) {
    case DType::f32: backend.write(device, values.data(), values.size_bytes()); break;
    case DType::f64: convert([](float v) { return double{v}; }); break;
    case DType::bf16: convert(to_bf16); break;
    case DType::u8: require(false, "parameters are not u8");
  }
}

std::vector<double> read_values(Backend& backend, const void* device, DType dtype, std::size_t count) {
  std::vector<double> values(count);
  const auto convert = [&](auto element, auto from) {
    std::vector<decltype(element)> elements(count);
    backend.read(elements.data(), device, count * sizeof(element));
    std::transform(elements.begin(), elements.end(), values.begin(), from);
  };
  switch (dtype) {
    case DType::f32: convert(float{}, [](float v) { return double{v}; }); break;
    case DType::f64: convert(double{}, [](double v) { return v; }); break;
    case DType::bf16: convert(std::uint16_t{}, [](std::uint16_t v) { return double{from_bf16(v)}; }); break;
    case DType::u8: require(false, "parameters are not u8");
  }
  return values;
}

bool all_finite(Backend& backend, const Tensor& tensor) {
  const auto values = read_values(backend, tensor.data, tensor.dtype, static_cast<std::size_t>(tensor.shape.count()));
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

/// Where each parameter lies on the device: w and, in the same places, dw, m, v and the narrow copy; trainable ones first, so
/// that Adam and a sum over ranks take one stretch.
struct Parameters {
  std::vector<std::int64_t> offsets;  // elements
  std::int64_t trainable = 0;         // elements, with padding
  std::int64_t total = 0;
  DType type = DType::f32;  // of all but narrow
  Buffer w, dw, m, v, narrow;
  std::vector<Tensor> values, narrows, gradients;  // of each parameter; gradients' data is null where not trainable

  /// Where those that are not trainable begin.
  void* fixed() const { return static_cast<std::byte*>(w.data()) + static_cast<std::size_t>(trainable) * size_bytes(type); }
};

Parameters allocate_parameters(const Graph& graph, Backend& backend) {
  constexpr std::int64_t alignment = 64;  // elements: 256 bytes of f32, so that each parameter may be read in vectors
  Parameters p;
  p.offsets.resize(graph.parameters().size());
  for (const bool trainable : {true, false}) {
    for (std::size_t i = 0; i < p.offsets.size(); ++i) {
      if (graph.parameters()[i].trainable != trainable) continue;
      p.offsets[i] = p.total;
      p.total += (graph.parameters()[i].shape.count() + alignment - 1) / alignment * alignment;
    }
    if (trainable) p.trainable = p.total;
  }
  const DType type = p.type = backend.parameter_type(), narrow = backend.activation_type();
  const auto zeroed = [&](std::int64_t count, DType dtype) {
    Buffer buffer = backend.allocate(static_cast<std::size_t>(std::max<std::int64_t>(count, 1)) * size_bytes(dtype));
    backend.zero(buffer.data(), buffer.size_bytes());
    return buffer;
  };
  p.w = zeroed(p.total, type);
  p.dw = zeroed(p.trainable, type);
  p.m = zeroed(p.trainable, type);
  p.v = zeroed(p.trainable, type);
  if (narrow != type) p.narrow = zeroed(p.total, narrow);
  const auto at = [](const Buffer& buffer, const Shape& shape, DType dtype, std::int64_t offset) {
    Tensor tensor{{shape, dtype}, buffer.data()};
    if (tensor.data) tensor.data = static_cast<std::byte*>(tensor.data) + static_cast<std::size_t>(offset) * size_bytes(dtype);
    return tensor;
  };
  for (std::size_t i = 0; i < p.offsets.size(); ++i) {
    const Parameter& parameter = graph.parameters()[i];
    p.values.push_back(at(p.w, parameter.shape, type, p.offsets[i]));
    p.narrows.push_back(narrow == type ? p.values.back() : at(p.narrow, parameter.shape, narrow, p.offsets[i]));
    p.gradients.push_back(parameter.trainable ? at(p.dw, parameter.shape, type, p.offsets[i]) : Tensor{{parameter.shape, type}});
  }
  return p;
}

/// Memory of a program: a value's activations, or its gradient.
struct Slot {
  Layout layout;
  Lifetime life{-1, -1, 0};

  void touch(int time) {
    life.first = life.first < 0 ? time : std::min(life.first, time);
    life.last = std::max(life.last, time);
  }
};

class PlannedProgram final : public Program {
 public:
  PlannedProgram(const Graph& graph, Backend& backend, const ModelOptions& options, const Model::Request& request,
                 const Parameters& parameters, StepState* state)
      : graph_(graph), backend_(backend), request_(request), parameters_(parameters), state_(state) {
    ops_ = lower(graph, {request.mode, options.dropout, !options.keras3_variance});
    move_relu_behind_max_pool(ops_);
    fuse_activations(ops_, request.mode);
    for (const GraphOp& op : graph.ops()) layouts_.push_back(layout_of(op.output, backend.activation_type()));
    layouts_[graph.output()].dtype = backend.parameter_type();
    make_ops();
    loss_ = backend.loss({request.full_batch}, layouts_[graph.output()]);
    lay_out();
  }

  Mode mode() const override { return request_.mode; }
  int batch() const override { return request_.batch; }
  const Tensor& input() const override { return values_[roots_[0]]; }
  const Tensor& labels() const override { return labels_; }
  const Tensor& logits() const override { return values_[graph_.output()]; }

  void forward() override {
    for (const Call& call : forward_) run(call);
  }

  void loss(BatchMetrics* metrics, float* scores, StepState* state) override {
    loss_->forward(logits(), labels_, state ? state : state_, metrics, scores);
  }

  void backward() override {
    require(mode() == Mode::train, "only a training program has a backward pass");
    loss_->backward(logits(), labels_, gradients_[homes_[graph_.output()]]);
    for (const Call& call : backward_) run(call);
  }

  std::string first_not_finite() override {
    for (const Call& call : forward_) {
      for (const int p : ops_[call.op].parameters)
        if (!all_finite(backend_, parameters_.values[p])) return full_name(graph_, graph_.parameters()[p]);
      run(call);
      if (!all_finite(backend_, values_[roots_[ops_[call.op].output]])) return row_of(call) + " (output)";
    }
    if (mode() != Mode::train) return {};
    backward();
    for (std::size_t p = 0; p < graph_.parameters().size(); ++p)
      if (graph_.parameters()[p].trainable && !all_finite(backend_, parameters_.gradients[p]))
        return full_name(graph_, graph_.parameters()[p]) + " (gradient)";
    return {};
  }

  std::size_t arena_bytes() const { return arena_.bytes; }

  /// Gives every tensor its address; again when the arena has moved.
  void bind(void* arena) {
    const auto address = [&](int slot) { return static_cast<std::byte*>(arena) + arena_.offsets[slot]; };
    for (std::size_t v = 0; v < layouts_.size(); ++v) {
      if (value_slot_[roots_[v]] >= 0) values_[v].data = address(value_slot_[roots_[v]]);
      if (gradient_slot_[homes_[v]] >= 0) gradients_[v].data = address(gradient_slot_[homes_[v]]);
    }
    labels_.data = address(labels_slot_);
  }

 private:
  struct Call {
    int op;
    std::function<void()> run;
  };

  Layout layout_of(const Shape& one_image, DType dtype) const {
    Shape shape = one_image;
    shape.n = request_.batch;
    return {shape, dtype};
  }

  std::string row_of(const Call& call) const { return graph_.rows()[ops_[call.op].row].name; }

  std::string describe(const PlannedOp& op) const {
    std::string text = fmt::format("row {} (", graph_.rows()[op.row].name);
    for (const int input : op.inputs) text += to_string(layouts_[input].shape) + " ";
    return text + "-> " + to_string(layouts_[op.output].shape) + ")";
  }

  void run(const Call& call) const {
    try {
      call.run();
    } catch (Error& error) {
      throw error.within(describe(ops_[call.op]));
    }
  }

  /// Makes every op, splitting those whose options the backend declines.
  void make_ops() {
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      try {
        std::unique_ptr<Op> op = make(ops_[i]);
        if (!op && fused_activation(ops_[i].kind) != Activation::none) {
          const int fresh = static_cast<int>(layouts_.size());
          layouts_.push_back(layouts_[ops_[i].output]);
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

  static bool is_free(const PlannedOp& op) {
    return std::holds_alternative<Input>(op.kind) || std::holds_alternative<Reshape>(op.kind);
  }

  std::unique_ptr<Op> make(const PlannedOp& op) {
    const auto x = [&](int i) -> const Layout& { return layouts_[op.inputs[i]]; };
    const Layout& y = layouts_[op.output];
    if (const auto* k = std::get_if<Conv>(&op.kind)) return backend_.conv(*k, x(0), y);
    if (const auto* k = std::get_if<Dense>(&op.kind)) return backend_.dense(*k, x(0), y);
    if (const auto* k = std::get_if<BatchNorm>(&op.kind)) return backend_.batch_norm(*k, x(0), y);
    if (const auto* k = std::get_if<Activate>(&op.kind)) return backend_.activate(*k, x(0), y);
    if (const auto* k = std::get_if<Pool>(&op.kind)) return backend_.pool(*k, x(0), y);
    if (const auto* k = std::get_if<Dropout>(&op.kind)) return backend_.dropout(*k, x(0), y);
    if (const auto* k = std::get_if<Add>(&op.kind)) return backend_.add(*k, x(0), x(1), y);
    return nullptr;
  }

  /// Decides lifetimes and addresses, and writes down the calls of both passes.
  void lay_out() {
    const int values = static_cast<int>(layouts_.size());
    const int count = static_cast<int>(ops_.size());
    const bool train = mode() == Mode::train;
    roots_ = alias_roots(ops_, values);
    needs_ = needs_gradient(graph_, ops_, values);
    writes_ = gradient_writes(ops_, roots_);
    share_gradients();
    values_.assign(values, {});
    gradients_.assign(values, {});
    for (int v = 0; v < values; ++v) {
      static_cast<Layout&>(values_[v]) = layouts_[v];
      static_cast<Layout&>(gradients_[v]) = layouts_[v];
      gradients_[v].dtype = backend_.activation_type();
    }
    static_cast<Layout&>(labels_) = layout_of({1, 1, 1, 1}, backend_.parameter_type());

    const int loss_time = count, end = 2 * count + 1;
    const auto backward_time = [&](int i) { return 2 * count - i; };
    std::vector<Slot> value_slots(values), gradient_slots(values);
    for (int v = 0; v < values; ++v) value_slots[v].layout = values_[v], gradient_slots[v].layout = gradients_[v];
    for (const int v : {roots_[0], roots_[graph_.output()]}) value_slots[v].touch(0), value_slots[v].touch(end);
    if (train) gradient_slots[homes_[graph_.output()]].touch(loss_time);

    for (int i = 0; i < count; ++i) {
      const PlannedOp& op = ops_[i];
      if (is_free(op)) continue;
      const Op::Reads reads = made_[i]->backward_reads();
      const Activation fused = conv_or_dense(op) ? fused_activation(op.kind) : Activation::none;
      const bool backward = train && needs_[op.output];
      value_slots[roots_[op.output]].touch(i);
      if (backward && (reads.y || fused != Activation::none)) value_slots[roots_[op.output]].touch(backward_time(i));
      if (backward) gradient_slots[homes_[op.output]].touch(backward_time(i));
      for (const int input : op.inputs) {
        value_slots[roots_[input]].touch(i);
        if (backward && reads.x) value_slots[roots_[input]].touch(backward_time(i));
        if (backward && needs_[input]) gradient_slots[homes_[input]].touch(backward_time(i));
      }
      forward_.push_back({i, forward_call(i)});
      if (!backward) continue;
      if (fused != Activation::none) undo_.emplace(i, backend_.activate({fused}, layouts_[op.output], layouts_[op.output]));
      backward_.push_back({i, backward_call(i)});
    }
    std::reverse(backward_.begin(), backward_.end());

    std::vector<Lifetime> lifetimes;
    const auto place = [&lifetimes](const Slot& slot) {
      if (slot.life.first < 0) return -1;
      lifetimes.push_back({slot.life.first, slot.life.last, slot.layout.packed_bytes()});
      return static_cast<int>(lifetimes.size()) - 1;
    };
    for (const Slot& slot : value_slots) value_slot_.push_back(place(slot));
    for (const Slot& slot : gradient_slots) gradient_slot_.push_back(place(slot));
    lifetimes.push_back({0, end, labels_.packed_bytes()});
    labels_slot_ = static_cast<int>(lifetimes.size()) - 1;
    arena_ = assign_offsets(lifetimes);
  }

  static bool conv_or_dense(const PlannedOp& op) {
    return std::holds_alternative<Conv>(op.kind) || std::holds_alternative<Dense>(op.kind);
  }

  /// A gradient may take over the memory of the one it is made from, where it has no other writer: element-wise ops and
  /// batch-norm work in place, and an addition passes its gradient on.
  void share_gradients() {
    homes_ = roots_;
    std::vector<int> readers(layouts_.size());
    for (const PlannedOp& op : ops_)
      if (!is_free(op))
        for (const int input : op.inputs) ++readers[roots_[input]];
    for (int i = static_cast<int>(ops_.size()) - 1; i >= 0; --i) {
      const PlannedOp& op = ops_[i];
      const bool in_place = std::holds_alternative<Activate>(op.kind) || std::holds_alternative<Dropout>(op.kind) ||
                            std::holds_alternative<BatchNorm>(op.kind) || std::holds_alternative<Add>(op.kind);
      if (in_place && readers[roots_[op.inputs[0]]] == 1 && roots_[op.output] != roots_[graph_.output()])
        homes_[roots_[op.inputs[0]]] = homes_[roots_[op.output]];
    }
    for (std::size_t v = 0; v < homes_.size(); ++v) homes_[v] = homes_[roots_[v]];
  }

  std::function<void()> forward_call(int i) {
    const PlannedOp& op = ops_[i];
    const Tensor* x = &values_[op.inputs[0]];
    const Tensor* y = &values_[op.output];
    const auto parameter = [&](std::size_t k) { return k < op.parameters.size() ? &parameters_.values[op.parameters[k]] : nullptr; };
    if (auto* conv = dynamic_cast<ConvOp*>(made_[i].get()))
      return [=, w = &parameters_.narrows[op.parameters[0]], b = parameter(1)] { conv->forward(*x, *w, b, *y); };
    if (auto* dense = dynamic_cast<DenseOp*>(made_[i].get()))
      return [=, w = &parameters_.narrows[op.parameters[0]], b = parameter(1)] { dense->forward(*x, *w, b, *y); };
    if (auto* norm = dynamic_cast<BatchNormOp*>(made_[i].get())) {
      const std::size_t beta = op.parameters.size() - 3;
      const Tensor* gamma = beta == 1 ? parameter(0) : nullptr;
      return [=, b = parameter(beta), mean = parameter(beta + 1), variance = parameter(beta + 2)] {
        norm->forward(*x, gamma, *b, *mean, *variance, *y);
      };
    }
    if (auto* activate = dynamic_cast<ActivateOp*>(made_[i].get())) return [=] { activate->forward(*x, *y); };
    if (auto* pool = dynamic_cast<PoolOp*>(made_[i].get())) return [=] { pool->forward(*x, *y); };
    if (auto* dropout = dynamic_cast<DropoutOp*>(made_[i].get()))
      return [=, state = state_] { dropout->forward(*x, state, *y); };
    auto* add = dynamic_cast<AddOp*>(made_[i].get());
    require(add, "an op of no kind");
    return [=, b = &values_[op.inputs[1]]] { add->forward(*x, *b, *y); };
  }

  std::function<void()> backward_call(int i) {
    const PlannedOp& op = ops_[i];
    const Tensor* x = &values_[op.inputs[0]];
    const Tensor* y = &values_[op.output];
    const Tensor* dy = &gradients_[op.output];
    const Tensor* dx = needs_[op.inputs[0]] ? &gradients_[op.inputs[0]] : nullptr;
    const Write write = writes_[i][0];
    const auto gradient = [&](std::size_t k) -> const Tensor* {
      if (k >= op.parameters.size() || !graph_.parameters()[op.parameters[k]].trainable) return nullptr;
      return &parameters_.gradients[op.parameters[k]];
    };
    const Op::Reads reads = made_[i]->backward_reads();
    if (conv_or_dense(op)) {
      ActivateOp* undo = undo_.contains(i) ? undo_.at(i).get() : nullptr;
      const auto call = [=, w = &parameters_.narrows[op.parameters[0]], dw = gradient(0), db = gradient(1)](auto* linear) {
        return [=] {
          if (undo) undo->backward(undo->backward_reads().x ? y : nullptr, y, *dy, *dy, Write::overwrite);
          if (dw) linear->backward_filter(*x, *dy, *dw, db, Write::overwrite);
          if (dx) linear->backward_data(*dy, *w, *dx, write);
        };
      };
      if (auto* conv = dynamic_cast<ConvOp*>(made_[i].get())) return call(conv);
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
    if (auto* pool = dynamic_cast<PoolOp*>(made_[i].get())) return [=] { pool->backward(*dy, *dx, write); };
    if (auto* dropout = dynamic_cast<DropoutOp*>(made_[i].get()))
      return [=, state = state_] { dropout->backward(*dy, state, *dx, write); };
    auto* add = dynamic_cast<AddOp*>(made_[i].get());
    require(add, "an op of no kind");
    // The second input's gradient is copied first: the first one's may be dy's own memory, changed by whoever comes next.
    const Tensor* db = needs_[op.inputs[1]] ? &gradients_[op.inputs[1]] : nullptr;
    return [=, write_b = writes_[i][1]] {
      if (db) add->backward(*dy, *db, write_b);
      if (dx && dx->data != dy->data) add->backward(*dy, *dx, write);
    };
  }

  const Graph& graph_;
  Backend& backend_;
  Model::Request request_;
  const Parameters& parameters_;
  StepState* state_;

  std::vector<PlannedOp> ops_;
  std::vector<Layout> layouts_;                     // of each value
  std::vector<std::unique_ptr<Op>> made_;           // of each planned op; null where it costs nothing
  std::map<int, std::unique_ptr<ActivateOp>> undo_;  // the fused activations' backward passes
  std::unique_ptr<LossOp> loss_;
  std::vector<int> roots_, homes_;  // whose memory a value, and its gradient, has
  std::vector<bool> needs_;
  std::vector<std::vector<Write>> writes_;
  std::vector<Tensor> values_, gradients_;
  Tensor labels_;
  std::vector<int> value_slot_, gradient_slot_;
  int labels_slot_ = 0;
  Arena arena_;
  std::vector<Call> forward_, backward_;
};

}  // namespace

struct Model::Impl {
  ModelOptions options;
  Parameters parameters;
  std::unique_ptr<AdamOp> adam;
  Buffer state;
  Buffer arena;
  std::map<std::pair<Mode, int>, std::unique_ptr<PlannedProgram>> programs;
};

Model::Model(Graph graph, Backend& backend, ModelOptions options)
    : graph_(std::move(graph)), backend_(backend), impl_(std::make_unique<Impl>()) {
  require(graph_.output() >= 0, "a network without an output");
  impl_->options = options;
  impl_->parameters = allocate_parameters(graph_, backend_);
  impl_->adam = backend_.adam(options.adam, impl_->parameters.trainable);
  impl_->state = backend_.allocate(sizeof(StepState));
  set_state({});
}

Model::~Model() = default;

void Model::plan(std::span<const Request> requests) {
  std::size_t needed = impl_->arena.size_bytes();
  int largest = 1;
  for (const Request& request : requests) {
    auto& program = impl_->programs[{request.mode, request.batch}];
    if (!program)
      program = std::make_unique<PlannedProgram>(graph_, backend_, impl_->options, request, impl_->parameters, device_state());
    needed = std::max(needed, program->arena_bytes());
    largest = std::max(largest, request.batch);
  }
  if (needed > impl_->arena.size_bytes()) {
    impl_->arena = {};
    const std::size_t available = backend_.device().available_bytes;
    if (needed > available) {
      const auto fits = static_cast<std::int64_t>(static_cast<double>(available) / static_cast<double>(needed) * largest);
      fail(ExitCode::memory, "not enough memory for this batch size",
           {.where = fmt::format("activations of batch {} on {}", largest, backend_.device().name),
            .expected = fmt::format("{:.1f} GB free", static_cast<double>(needed) * 1e-9),
            .found = fmt::format("{:.1f} GB free", static_cast<double>(available) * 1e-9),
            .next = fits > 0 ? fmt::format("a batch size of {} would fit", fits) : "use a device with more memory"});
    }
    impl_->arena = backend_.allocate(needed);
  }
  for (auto& [key, program] : impl_->programs) program->bind(impl_->arena.data());
}

Program& Model::program(Mode mode, int batch) {
  const auto found = impl_->programs.find({mode, batch});
  require(found != impl_->programs.end(), "no program is planned for batch ", batch);
  return *found->second;
}

std::size_t Model::arena_bytes() const { return impl_->arena.size_bytes(); }

void Model::initialize(std::uint64_t seed) {
  std::vector<float> weights(static_cast<std::size_t>(graph_.parameter_count()));
  std::size_t begin = 0;
  for (int p = 0; p < static_cast<int>(graph_.parameters().size()); ++p) {
    const Parameter& parameter = graph_.parameters()[p];
    const auto count = static_cast<std::size_t>(parameter.shape.count());
    microtome::initialize(parameter.init, seed, p, std::span(weights).subspan(begin, count));
    begin += count;
  }
  set_weights(weights);
}

namespace {

/// Between the graph's order and the device's places. Parameters outside the buffer (not trainable) read as zero.
std::vector<float> pick(const Graph& graph, const Parameters& parameters, const std::vector<double>& flat) {
  std::vector<float> picked;
  picked.reserve(static_cast<std::size_t>(graph.parameter_count()));
  for (std::size_t p = 0; p < parameters.offsets.size(); ++p) {
    const std::int64_t begin = parameters.offsets[p], count = graph.parameters()[p].shape.count();
    const bool inside = begin + count <= static_cast<std::int64_t>(flat.size());
    for (std::int64_t i = 0; i < count; ++i)
      picked.push_back(inside ? static_cast<float>(flat[static_cast<std::size_t>(begin + i)]) : 0.0f);
  }
  return picked;
}

std::vector<float> place(const Graph& graph, const Parameters& parameters, std::span<const float> values, std::int64_t size) {
  require(static_cast<std::int64_t>(values.size()) == graph.parameter_count(), "expected ", graph.parameter_count(),
          " values, got ", values.size());
  std::vector<float> flat(static_cast<std::size_t>(size));
  std::size_t source = 0;
  for (std::size_t p = 0; p < parameters.offsets.size(); ++p) {
    const auto count = static_cast<std::size_t>(graph.parameters()[p].shape.count());
    const auto begin = static_cast<std::size_t>(parameters.offsets[p]);
    if (begin + count <= flat.size()) std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(source), count, flat.begin() + static_cast<std::ptrdiff_t>(begin));
    source += count;
  }
  return flat;
}

}  // namespace

std::vector<float> Model::weights() const {
  const Parameters& p = impl_->parameters;
  return pick(graph_, p, read_values(backend_, p.w.data(), backend_.parameter_type(), static_cast<std::size_t>(p.total)));
}

void Model::set_weights(std::span<const float> weights) {
  const Parameters& p = impl_->parameters;
  const std::vector<float> flat = place(graph_, p, weights, p.total);
  write_values(backend_, p.w.data(), backend_.parameter_type(), flat);
  if (p.narrow.data()) write_values(backend_, p.narrow.data(), backend_.activation_type(), flat);
}

std::vector<float> Model::statistics() const {
  const Parameters& p = impl_->parameters;
  const auto values = read_values(backend_, p.fixed(), backend_.parameter_type(), static_cast<std::size_t>(p.total - p.trainable));
  return {values.begin(), values.end()};
}

void Model::set_statistics(std::span<const float> statistics) {
  const Parameters& p = impl_->parameters;
  require(static_cast<std::int64_t>(statistics.size()) == p.total - p.trainable, "not the statistics of this model");
  write_values(backend_, p.fixed(), backend_.parameter_type(), statistics);
}

std::vector<float> Model::gradients() const {
  const Parameters& p = impl_->parameters;
  return pick(graph_, p, read_values(backend_, p.dw.data(), backend_.parameter_type(), static_cast<std::size_t>(p.trainable)));
}

Model::Moments Model::moments() const {
  const Parameters& p = impl_->parameters;
  const auto read = [&](const Buffer& buffer) {
    return pick(graph_, p, read_values(backend_, buffer.data(), backend_.parameter_type(), static_cast<std::size_t>(p.trainable)));
  };
  return {read(p.m), read(p.v)};
}

void Model::set_moments(const Moments& moments) {
  const Parameters& p = impl_->parameters;
  write_values(backend_, p.m.data(), backend_.parameter_type(), place(graph_, p, moments.first, p.trainable));
  write_values(backend_, p.v.data(), backend_.parameter_type(), place(graph_, p, moments.second, p.trainable));
}

StepState Model::state() const {
  StepState state;
  backend_.read(&state, impl_->state.data(), sizeof state);
  return state;
}

void Model::set_state(const StepState& state) { backend_.write(impl_->state.data(), &state, sizeof state); }

StepState* Model::device_state() const { return static_cast<StepState*>(impl_->state.data()); }

void Model::update() {
  const Parameters& p = impl_->parameters;
  const Shape flat{1, 1, 1, static_cast<int>(p.trainable)};
  const DType type = backend_.parameter_type();
  const Tensor narrow{{flat, backend_.activation_type()}, p.narrow.data()};
  impl_->adam->update({{flat, type}, p.dw.data()}, device_state(), {{flat, type}, p.w.data()}, {{flat, type}, p.m.data()},
                      {{flat, type}, p.v.data()}, narrow.data ? &narrow : nullptr);
}

std::vector<float> to_keras(const Parameter& parameter, std::span<const float> stored) {
  std::vector<float> keras(stored.begin(), stored.end());
  if (parameter.keras_shape.size() != 4) return keras;
  const Shape& s = parameter.shape;  // K R S C
  const int taps = s.h * s.w * s.c;
  for (int k = 0; k < s.n; ++k)
    for (int t = 0; t < taps; ++t) keras[static_cast<std::size_t>(t) * s.n + k] = stored[static_cast<std::size_t>(k) * taps + t];
  return keras;
}

std::vector<float> from_keras(const Parameter& parameter, std::span<const float> keras) {
  std::vector<float> stored(keras.begin(), keras.end());
  if (parameter.keras_shape.size() != 4) return stored;
  const Shape& s = parameter.shape;
  const int taps = s.h * s.w * s.c;
  for (int k = 0; k < s.n; ++k)
    for (int t = 0; t < taps; ++t) stored[static_cast<std::size_t>(k) * taps + t] = keras[static_cast<std::size_t>(t) * s.n + k];
  return stored;
}

}  // namespace microtome
