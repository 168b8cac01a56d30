// y = activation(b + x * w) and its gradients, by cuDNN's graph API; depthwise ones by kernels of ours. Filters lie as K R S
// C/G. bf16: products of bf16, sums in float32, results rounded once: bias, relu and what a gradient is added to come in before
// that. dw leaves in float32 through cuDNN's fusion of the filter gradient with a scale by one, since the plain operation
// rounds it. cuDNN 9.19 fuses these only for channels that are multiples of 8 and not for groups. There filter gradients pad
// their channels, and all else goes through tf32: its 11 bits hold bf16's 8, so that the products are the same.
#include "kernels/cuda/conv.h"

#include "kernels/cuda/device/context.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ops.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace microtome::cuda {

namespace {

Layout filter_layout(const Conv& conv, const Layout& x, const Layout& y, DType type) {
  const Shape shape{y.shape.c, conv.window.kernel.h, conv.window.kernel.w, x.shape.c / conv.groups};
  return {shape, type, packed(shape)};
}

Layout packed_as(const Layout& t, DType type) {
  return {t.shape, type, packed(t.shape)};
}

TensorSpec virtual_like(const TensorSpec& spec, std::int64_t id) {
  TensorSpec result = spec;
  result.id = id;
  result.type = CUDNN_DATA_FLOAT;
  result.is_virtual = true;
  return result;
}

Descriptor& convolution(OperationGraph& graph, const Window& window) {
  Descriptor& descriptor = graph.part(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  const auto pair = [](const Extent& e) { return std::array<std::int64_t, 2>{e.h, e.w}; };
  descriptor.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  descriptor.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  descriptor.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2});
  descriptor.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, pair(window.before));
  descriptor.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, pair(window.after));
  descriptor.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, pair(window.stride));
  descriptor.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, pair(1));
  descriptor.finalize();
  return descriptor;
}

OperationGraph forward_graph(const ConvProblem& p) {
  OperationGraph graph;
  std::int64_t next_virtual = 100;
  const TensorSpec y = spec_of(conv_y, p.y, p.alignment);
  const Activation activation = p.conv.activation;
  const auto result_of = [&](bool last) -> const Descriptor& {
    return graph.tensor(last ? y : virtual_like(y, next_virtual++));
  };

  const Descriptor& x = graph.tensor(spec_of(conv_x, p.x, p.alignment));
  const Descriptor& w = graph.tensor(spec_of(conv_w, filter_layout(p.conv, p.x, p.y, p.x.dtype), p.alignment));
  const Descriptor* value = &result_of(!p.conv.bias && activation == Activation::none);
  Descriptor& forward = graph.part(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  forward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
  forward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
  forward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, *value);
  forward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution(graph, p.conv.window));
  forward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0f);
  forward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0f);
  forward.finalize();
  graph.operation(forward);
  if (p.conv.bias) {
    const Shape channels{1, 1, 1, p.y.shape.c};
    const Layout bias_layout{channels, DType::f32, packed(channels)};
    const Descriptor& b = graph.tensor(spec_of(conv_b, bias_layout, p.alignment));
    const Descriptor& sum = result_of(activation == Activation::none);
    graph.pointwise(CUDNN_POINTWISE_ADD, *value, &b, sum);
    value = &sum;
  }
  if (activation == Activation::relu) graph.pointwise(CUDNN_POINTWISE_RELU_FWD, *value, nullptr, result_of(true));
  return graph;
}

OperationGraph backward_data_graph(const ConvProblem& p) {
  OperationGraph graph;
  const TensorSpec spec = spec_of(conv_x, p.x, p.alignment);
  const Descriptor& dx = graph.tensor(p.adds ? virtual_like(spec, 100) : spec);
  const Descriptor& w = graph.tensor(spec_of(conv_w, filter_layout(p.conv, p.x, p.y, p.x.dtype), p.alignment));
  const Descriptor& dy = graph.tensor(spec_of(conv_y, p.y, p.alignment));
  Descriptor& backward = graph.part(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, dx);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, w);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, dy);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, convolution(graph, p.conv.window));
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0f);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 0.0f);
  backward.finalize();
  graph.operation(backward);
  if (p.adds) {
    const Descriptor& before = graph.tensor(spec_of(conv_before, packed_as(p.x, p.x.dtype), p.alignment));
    graph.pointwise(CUDNN_POINTWISE_ADD, dx, &before, graph.tensor(spec));
  }
  return graph;
}

OperationGraph backward_filter_graph(const ConvProblem& p) {
  OperationGraph graph;
  const bool scaled = p.x.dtype == DType::bf16;
  const TensorSpec dw = spec_of(conv_w, filter_layout(p.conv, p.x, p.y, DType::f32), p.alignment);
  const Descriptor& x = graph.tensor(spec_of(conv_x, p.x, p.alignment));
  const Descriptor& dy = graph.tensor(spec_of(conv_y, p.y, p.alignment));
  const Descriptor& product = graph.tensor(scaled ? virtual_like(dw, 100) : dw);
  Descriptor& backward = graph.part(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, x);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, dy);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, product);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, convolution(graph, p.conv.window));
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 1.0f);
  backward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 0.0f);
  backward.finalize();
  graph.operation(backward);
  if (scaled) {
    const Descriptor& one = graph.tensor({.id = conv_one, .alignment = sizeof(float), .by_value = true});
    graph.pointwise(CUDNN_POINTWISE_MUL, product, &one, graph.tensor(dw));
  }
  return graph;
}

constexpr int vector = 8;          // the channels in bf16 that vector accesses want
constexpr std::int64_t wide = 16;  // the alignment in bytes

Layout zero_padded(Layout t) {
  t.shape.c = vector;
  return t;
}

Layout with_whole_vectors(const Layout& t) {
  Shape shape = t.shape;
  shape.c = (shape.c + vector - 1) / vector * vector;
  return {shape, t.dtype, packed(shape)};
}

/// Where in scratch memory the tensors of one call lie, after cuDNN's workspace.
class Rooms {
 public:
  explicit Rooms(const ExecutionPlan& plan) : bytes_(aligned(plan.workspace_bytes())) {}

  std::size_t bytes() const { return bytes_; }
  /// The gaps of a slice take their room too.
  std::size_t take(bool needed, const Layout& t) {
    const std::size_t at = bytes_;
    if (needed) bytes_ += aligned(static_cast<std::size_t>(t.strides.n * t.shape.n) * size_bytes(t.dtype));
    return at;
  }

 private:
  std::size_t bytes_;
};

class CudnnConv final : public ConvOp {
 public:
  CudnnConv(Context& context, Plans& plans, const Conv& conv, const Layout& x, const Layout& y)
      : context_(context), plans_(plans), conv_(conv), x_(x), y_(y), dy_(y) {
    dy_.dtype = x.dtype;
    // Which engine runs, and in which layouts, is known when it is first asked for; this much none exceeds.
    const auto widest = [](const Layout& t) { return aligned(packed_as(with_whole_vectors(t), DType::f32).packed_bytes()); };
    const Layout filter = filter_layout(conv, with_whole_vectors(x), with_whole_vectors(y), DType::f32);
    memory.scratch = aligned(EngineLimits().workspace_bytes) + 2 * widest(x) + widest(y) + aligned(filter.packed_bytes());
  }

  void forward(const Tensor& x, const Deferred*, const Tensor& w, const Tensor* b, const Tensor& y, const Tensor*) override {
    require((b != nullptr) == conv_.bias && (b == nullptr || b->dtype == DType::f32), "conv: an f32 bias where there is one");
    require_layout("x", x, x_);
    require_layout("y", y, y_);
    Planned* const planned = find(ConvPass::forward, false, {&x, &w, b, &y});
    if (planned == nullptr) return;
    const ConvProblem& way = planned->way;
    const Layout filter = filter_layout(conv_, way.x, way.y, way.x.dtype);
    Rooms rooms(*planned->plan);
    const std::size_t x_at = rooms.take(!serves(x, way.x), way.x), w_at = rooms.take(w != filter, filter),
                      y_at = rooms.take(way.y != y_, way.y);
    std::byte* scratch = context_.scratch(rooms.bytes());
    const Tensor x_in = copied(x, way.x, scratch + x_at), w_in = filter_in(w, filter, scratch + w_at);
    const Tensor result{way.y, way.y == y_ ? y.data : scratch + y_at};
    if (way.conv.bias) {
      run(*planned, {{conv_x, x_in.data}, {conv_w, w_in.data}, {conv_b, b->data}, {conv_y, result.data}}, scratch);
    } else {
      run(*planned, {{conv_x, x_in.data}, {conv_w, w_in.data}, {conv_y, result.data}}, scratch);
    }
    const bool bias_left = conv_.bias && !way.conv.bias, activation_left = conv_.activation != way.conv.activation;
    if (bias_left || activation_left || way.y != y_) {
      epilogue(context_, result, bias_left ? b : nullptr, activation_left ? conv_.activation : Activation::none, y,
               Write::overwrite);
    }
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Deferred*, const Tensor& dx, Write mode) override {
    require_layout("dy", dy, dy_);
    require_layout("dx", dx, x_);
    const bool accumulate = mode == Write::accumulate;
    Planned* const planned = find(ConvPass::backward_data, accumulate && x_.dtype == DType::bf16, {&dy, &w, &dx});
    if (planned == nullptr) return;
    const ConvProblem& way = planned->way;
    const Layout filter = filter_layout(conv_, way.x, way.y, way.x.dtype), before = packed_as(x_, x_.dtype);
    const bool dx_detours = way.x != x_ || (accumulate && !way.adds);
    Rooms rooms(*planned->plan);
    const std::size_t dy_at = rooms.take(way.y != dy_, way.y), w_at = rooms.take(w != filter, filter),
                      dx_at = rooms.take(dx_detours, way.x), before_at = rooms.take(way.adds, before);
    std::byte* scratch = context_.scratch(rooms.bytes());
    const Tensor dy_in = copied(dy, way.y, scratch + dy_at), w_in = filter_in(w, filter, scratch + w_at);
    const Tensor result{way.x, dx_detours ? scratch + dx_at : dx.data};
    if (way.adds) {
      const Tensor kept{before, scratch + before_at};
      epilogue(context_, dx, nullptr, Activation::none, kept, Write::overwrite);
      run(*planned, {{conv_y, dy_in.data}, {conv_w, w_in.data}, {conv_before, kept.data}, {conv_x, result.data}}, scratch);
    } else {
      run(*planned, {{conv_y, dy_in.data}, {conv_w, w_in.data}, {conv_x, result.data}}, scratch);
    }
    if (dx_detours) epilogue(context_, result, nullptr, Activation::none, dx, mode);
  }

  void backward_filter(const Tensor& x, const Deferred*, const Tensor& dy, const Tensor& dw, const Tensor* db,
                       Write mode) override {
    require(dw.dtype == DType::f32 && dw.is_packed(), "conv: dw is packed f32");
    require_layout("x", x, x_);
    require_layout("dy", dy, dy_);
    Planned* const planned = find(ConvPass::backward_filter, false, {&x, &dy, &dw});
    if (planned == nullptr) return;
    const ConvProblem& way = planned->way;
    const Layout filter = filter_layout(conv_, way.x, way.y, DType::f32);
    const bool dw_detours = mode == Write::accumulate || filter.shape != dw.shape;
    Rooms rooms(*planned->plan);
    const std::size_t x_at = rooms.take(!serves(x, way.x), way.x), dy_at = rooms.take(way.y != dy_, way.y),
                      dw_at = rooms.take(dw_detours, filter);
    std::byte* scratch = context_.scratch(std::max(rooms.bytes(), column_sum_bytes(context_, dy)));
    const Tensor x_in = copied(x, way.x, scratch + x_at), dy_in = copied(dy, way.y, scratch + dy_at);
    const Tensor result{filter, dw_detours ? scratch + dw_at : dw.data};
    float one = 1;
    if (way.x.dtype == DType::bf16) {
      run(*planned, {{conv_x, x_in.data}, {conv_y, dy_in.data}, {conv_w, result.data}, {conv_one, &one}}, scratch);
    } else {
      run(*planned, {{conv_x, x_in.data}, {conv_y, dy_in.data}, {conv_w, result.data}}, scratch);
    }
    if (dw_detours) epilogue(context_, part(result, dw.shape), nullptr, Activation::none, dw, mode);
    if (db != nullptr) column_sums(context_, dy, *db, mode, scratch);
  }

  Reads backward_reads() const override { return {.x = true}; }

  std::string implementation() const override {
    const auto found = planned_.find({ConvPass::forward, false, wide});
    return found == planned_.end() ? "cudnn" : found->second.plan->engine();
  }

  std::string describe() override {
    std::string text;
    for (const auto& [pass, called] :
         {std::pair(ConvPass::forward, "forward"), std::pair(ConvPass::backward_data, "backward_data"),
          std::pair(ConvPass::backward_filter, "backward_filter")}) {
      const ExecutionPlan& plan = *find(pass, false, {})->plan;
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", called, plan.engine());
      for (const auto& [knob, value] : plan.candidate().choice().knobs) text += fmt::format(" {}:{}", knob, value);
      text += fmt::format(" workspace {} B", plan.workspace_bytes());
    }
    return text;
  }

 private:
  struct Planned {
    const ExecutionPlan* plan;
    ConvProblem way;
    Execution execution{};
  };

  static void require_layout(std::string_view what, const Layout& found, const Layout& planned) {
    require(found == planned, "conv: ", what, " is ", to_string(found.shape), " ", name(found.dtype), " but was planned as ",
            to_string(planned.shape), " ", name(planned.dtype), ", or its strides differ");
  }

  /// The first elements of a larger tensor.
  static Tensor part(const Tensor& whole, const Shape& shape) {
    Tensor result = whole;
    result.shape = shape;
    return result;
  }

  /// Whether a tensor is what is wanted where it lies: x's own layout, or that with the zeros behind its channels.
  bool serves(const Tensor& from, const Layout& to) const {
    return from == to || (conv_.zero_padded_channels && from == x_ && to == zero_padded(x_));
  }

  /// `from` under another layout, if it is one. Where that has more channels, what they hold does not matter: it ends in
  /// elements of dw that are dropped, or meets the zeros of filter_in.
  Tensor copied(const Tensor& from, const Layout& to, void* room) {
    if (serves(from, to)) return {to, from.data};
    const Tensor result{to, room};
    epilogue(context_, from, nullptr, Activation::none, part(result, from.shape), Write::overwrite);
    return result;
  }

  /// w for x and y as a way takes them, with zeros for channels that it has not.
  Tensor filter_in(const Tensor& w, const Layout& to, void* room) {
    if (w.shape != to.shape && !context_.warming_up()) check(cudaMemsetAsync(room, 0, to.packed_bytes(), context_.stream()));
    return copied(w, to, room);
  }

  /// The plan of a pass for addresses such as these, made now if there is none yet. While plans are collected it is asked for,
  /// and null.
  Planned* find(ConvPass pass, bool adds, std::initializer_list<const Tensor*> tensors) {
    const bool even = std::all_of(tensors.begin(), tensors.end(), [](const Tensor* t) {
      return t == nullptr || reinterpret_cast<std::uintptr_t>(t->data) % wide == 0;
    });
    const std::int64_t alignment = even ? wide : static_cast<std::int64_t>(size_bytes(x_.dtype));
    const std::tuple key{pass, adds, alignment};
    if (const auto known = planned_.find(key); known != planned_.end()) return context_.collecting() ? nullptr : &known->second;

    ConvProblem wanted{conv_, x_, pass == ConvPass::forward ? y_ : dy_, context_.precision(), pass, alignment, adds};
    if (pass != ConvPass::forward) {
      wanted.conv.bias = false;
      wanted.conv.activation = Activation::none;
    }
    const std::vector<ConvProblem> tries = alternatives(wanted);
    Alternatives problems;
    for (const ConvProblem& way : tries) problems.push_back(problem_of(way, context_.options().deterministic));
    if (context_.collecting()) {
      plans_.want(std::move(problems));
      return nullptr;
    }
    const Plans::Found found = plans_.find(problems);
    if (found.plan == nullptr) {
      fail(ExitCode::machine, "cuDNN has no engine for this convolution",
           {.found = problems.front().key,
            .next = "try another --precision, or set CUDNN_LOGWARN_DBG=1 to see why each engine was refused"});
    }
    return &planned_.emplace(key, Planned{found.plan, tries[found.alternative]}).first->second;
  }

  void run(Planned& planned, std::initializer_list<Execution::Argument> arguments, void* workspace) {
    planned.execution.run(plans_.handle(), *planned.plan, {arguments.begin(), arguments.size()}, workspace);
  }

  Context& context_;
  Plans& plans_;
  Conv conv_;
  Layout x_, y_, dy_;
  std::map<std::tuple<ConvPass, bool, std::int64_t>, Planned> planned_;
};

ConvProblem widened(ConvProblem p) {
  if (p.precision == Precision::bf16) p.precision = Precision::tf32;
  for (Layout* t : {&p.x, &p.y}) {
    if (t->dtype != DType::f32) *t = packed_as(*t, DType::f32);
  }
  return p;
}

std::string key_of(const ConvProblem& p, bool deterministic) {
  constexpr std::string_view passes[] = {"forward", "backward data", "backward filter"};
  constexpr std::string_view precisions[] = {"f32", "tf32", "bf16"};
  const auto tensor = [](const Layout& t) {
    return fmt::format("{} {} by {},{},{}", name(t.dtype), to_string(t.shape), t.strides.n, t.strides.h, t.strides.w);
  };
  const Window& w = p.conv.window;
  return fmt::format("conv {} {} x {} y {} kernel {}x{} stride {}x{} before {}x{} after {}x{} groups {}{}{}{}{} aligned {}",
                     passes[static_cast<int>(p.pass)], precisions[static_cast<int>(p.precision)], tensor(p.x), tensor(p.y),
                     w.kernel.h, w.kernel.w, w.stride.h, w.stride.w, w.before.h, w.before.w, w.after.h, w.after.w,
                     p.conv.groups, p.conv.bias ? " bias" : "", p.conv.activation == Activation::relu ? " relu" : "",
                     p.adds ? " adds" : "", deterministic ? " deterministic" : "", p.alignment);
}

OperationGraph operations_of(const ConvProblem& problem) {
  switch (problem.pass) {
    case ConvPass::forward: return forward_graph(problem);
    case ConvPass::backward_data: return backward_data_graph(problem);
    case ConvPass::backward_filter: return backward_filter_graph(problem);
  }
  return {};
}

}  // namespace

Problem problem_of(const ConvProblem& problem, bool deterministic) {
  return {.key = key_of(problem, deterministic),
          .graph = [problem] { return operations_of(problem); },
          .limits = {.tensor_cores = problem.precision != Precision::f32, .deterministic = deterministic}};
}

std::vector<ConvProblem> alternatives(const ConvProblem& wanted) {
  const bool bf16 = wanted.x.dtype == DType::bf16;
  std::vector<ConvProblem> result;
  if (bf16 && wanted.conv.zero_padded_channels && wanted.conv.groups == 1 && wanted.pass != ConvPass::backward_data &&
      wanted.alignment == wide && wanted.x.shape.c < vector && wanted.x.strides.w == vector)
    result.emplace_back(wanted).x = zero_padded(wanted.x);
  result.push_back(wanted);
  switch (wanted.pass) {
    case ConvPass::forward:
      if (wanted.conv.bias || wanted.conv.activation != Activation::none) {
        ConvProblem& plain = result.emplace_back(widened(wanted));
        plain.conv.bias = false;
        plain.conv.activation = Activation::none;
      }
      break;
    case ConvPass::backward_data:
      if (wanted.adds) result.emplace_back(widened(wanted)).adds = false;
      break;
    case ConvPass::backward_filter:
      if (bf16 && wanted.conv.groups == 1) {
        ConvProblem& padded = result.emplace_back(wanted);
        padded.x = with_whole_vectors(padded.x);
        padded.y = with_whole_vectors(padded.y);
      }
      if (bf16) result.push_back(widened(wanted));
      break;
  }
  return result;
}

std::unique_ptr<ConvOp> make_conv(Context& context, Plans& plans, const Conv& conv, const Layout& x, const Layout& y) {
  require(y.shape == conv.window.output(x.shape, y.shape.c) && x.shape.c % conv.groups == 0 && y.shape.c % conv.groups == 0,
          "conv: y is ", to_string(y.shape), " for x ", to_string(x.shape), " in ", conv.groups, " groups");
  if (conv.groups > 1 && conv.groups == x.shape.c && x.shape.c == y.shape.c) return make_depthwise_conv(context, conv, x, y);
  if (conv.deferred || conv.statistics) return make_pointwise_conv(context, conv, x, y);
  if (conv.activation != Activation::none && conv.activation != Activation::relu) return nullptr;
  return std::make_unique<CudnnConv>(context, plans, conv, x, y);
}

}  // namespace microtome::cuda
