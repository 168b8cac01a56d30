#include "kernels/host_cuda/cudnn.h"

#include "kernels/host_cuda/cuda_bf16.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

struct Bag;

struct Value {
  std::int64_t count = 0;
  std::vector<char> bytes;
  std::vector<std::shared_ptr<const Bag>> bags;  // of descriptors
};

/// What a descriptor holds. Setting one descriptor in another shares its bag: it may be destroyed afterwards.
struct Bag {
  cudnnBackendDescriptorType_t type{};
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Value> values;

  bool has(cudnnBackendAttributeName_t name) const { return values.contains(name); }
  const Bag& bag(cudnnBackendAttributeName_t name) const { return *values.at(name).bags.at(0); }

  template <class T>
  std::vector<T> all(cudnnBackendAttributeName_t name) const {
    const Value& value = values.at(name);
    std::vector<T> result(static_cast<std::size_t>(value.count));
    std::memcpy(result.data(), value.bytes.data(), value.bytes.size());
    return result;
  }
  template <class T>
  T one(cudnnBackendAttributeName_t name) const {
    T result{};
    std::memcpy(&result, values.at(name).bytes.data(), sizeof result);
    return result;
  }
};

thread_local std::string last_error;

cudnnStatus_t refuse(std::string why, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
  last_error = std::move(why);
  return status;
}

std::size_t bytes_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_CHAR: return 1;
    case CUDNN_TYPE_INT64: return sizeof(std::int64_t);
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR: return sizeof(void*);
    default: return 4;  // float and the enumerations
  }
}

/// A tensor's elements, in the order N C H W of its descriptor, wherever they lie.
struct View {
  cudnnDataType_t type;
  std::array<std::int64_t, 4> dimensions, strides;
  std::int64_t id, alignment;
  bool is_virtual, by_value;
  void* data = nullptr;

  explicit View(const Bag& bag)
      : type(bag.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)),
        dimensions(four(bag, CUDNN_ATTR_TENSOR_DIMENSIONS)),
        strides(four(bag, CUDNN_ATTR_TENSOR_STRIDES)),
        id(bag.one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)),
        alignment(bag.one<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)),
        is_virtual(bag.one<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)),
        by_value(bag.has(CUDNN_ATTR_TENSOR_IS_BY_VALUE)) {}

  std::int64_t at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    return n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3];
  }
  /// A dimension of 1 serves all.
  std::int64_t broadcast(std::array<std::int64_t, 4> i) const {
    std::int64_t place = 0;
    for (std::size_t d = 0; d < 4; ++d) place += dimensions[d] == 1 ? 0 : i[d] * strides[d];
    return place;
  }
  double load(std::int64_t place) const {
    return type == CUDNN_DATA_FLOAT ? static_cast<const float*>(data)[place]
                                    : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[place]);
  }
  void store(std::int64_t place, double value) const {
    if (type == CUDNN_DATA_FLOAT) {
      static_cast<float*>(data)[place] = static_cast<float>(value);
    } else {
      static_cast<__nv_bfloat16*>(data)[place] = __float2bfloat16_rn(static_cast<float>(value));
    }
  }

 private:
  static std::array<std::int64_t, 4> four(const Bag& bag, cudnnBackendAttributeName_t name) {
    const auto values = bag.all<std::int64_t>(name);
    return {values.at(0), values.at(1), values.at(2), values.at(3)};
  }
};

struct Geometry {
  std::array<std::int64_t, 2> before, stride;

  explicit Geometry(const Bag& bag) {
    const auto pre = bag.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
               step = bag.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    before = {pre.at(0), pre.at(1)};
    stride = {step.at(0), step.at(1)};
  }
};

/// Whether an operation's shapes agree: P = floor((H + before + after - R) / stride) + 1.
bool fits(const View& x, const View& w, const View& y, const Bag& convolution) {
  const auto pre = convolution.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
             post = convolution.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
             stride = convolution.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
  for (std::size_t d = 0; d < 2; ++d)
    if (y.dimensions[d + 2] != (x.dimensions[d + 2] + pre[d] + post[d] - w.dimensions[d + 2]) / stride[d] + 1) return false;
  return x.dimensions[0] == y.dimensions[0] && w.dimensions[0] == y.dimensions[1] && x.dimensions[1] % w.dimensions[1] == 0 &&
         convolution.one<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CROSS_CORRELATION;
}

struct Names {
  cudnnBackendAttributeName_t x, w, y, convolution;
};

Names names_of(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC};
    default:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC};
  }
}

class Executor {
 public:
  explicit Executor(const Bag& variant) {
    const auto ids = variant.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto data = variant.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (std::size_t i = 0; i < ids.size(); ++i) data_[ids[i]] = data.at(i);
  }

  cudnnStatus_t run(const Bag& operation) {
    if (operation.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) return pointwise(operation);
    const Names names = names_of(operation.type);
    View x(operation.bag(names.x)), w(operation.bag(names.w)), y(operation.bag(names.y));
    for (View* view : {&x, &w, &y})
      if (!find(*view)) return refuse("no data, or misaligned, for tensor " + std::to_string(view->id));
    const Geometry g(operation.bag(names.convolution));
    switch (operation.type) {
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: forward(x, w, y, g); break;
      case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR: backward_data(x, w, y, g); break;
      default: backward_filter(x, w, y, g); break;
    }
    return CUDNN_STATUS_SUCCESS;
  }

 private:
  bool find(View& view) {
    if (view.is_virtual) {
      std::vector<float>& room = virtual_[view.id];
      std::int64_t last = 0;
      for (std::size_t d = 0; d < 4; ++d) last += (view.dimensions[d] - 1) * view.strides[d];
      room.resize(static_cast<std::size_t>(last + 1));
      view.data = room.data();
      return true;
    }
    const auto found = data_.find(view.id);
    if (found == data_.end()) return false;
    view.data = found->second;
    return reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::uintptr_t>(view.alignment) == 0;
  }

  /// f(place in x, place in w, place in y) for every product of a convolution, a y at a time.
  template <class F>
  static void products(const View& x, const View& w, const View& y, const Geometry& g, const F& f) {
    const std::int64_t per_group = w.dimensions[1], outputs = y.dimensions[1] / (x.dimensions[1] / per_group);
    for (std::int64_t n = 0; n < y.dimensions[0]; ++n)
      for (std::int64_t p = 0; p < y.dimensions[2]; ++p)
        for (std::int64_t q = 0; q < y.dimensions[3]; ++q)
          for (std::int64_t k = 0; k < y.dimensions[1]; ++k)
            for (std::int64_t r = 0; r < w.dimensions[2]; ++r)
              for (std::int64_t s = 0; s < w.dimensions[3]; ++s) {
                const std::int64_t h = p * g.stride[0] - g.before[0] + r, column = q * g.stride[1] - g.before[1] + s;
                if (h < 0 || h >= x.dimensions[2] || column < 0 || column >= x.dimensions[3]) continue;
                for (std::int64_t c = 0; c < per_group; ++c)
                  f(x.at(n, k / outputs * per_group + c, h, column), w.at(k, c, r, s), y.at(n, k, p, q));
              }
  }

  template <class Each>
  static void each(const View& t, const Each& f) {
    for (std::int64_t n = 0; n < t.dimensions[0]; ++n)
      for (std::int64_t c = 0; c < t.dimensions[1]; ++c)
        for (std::int64_t h = 0; h < t.dimensions[2]; ++h)
          for (std::int64_t w = 0; w < t.dimensions[3]; ++w) f({n, c, h, w}, t.at(n, c, h, w));
  }

  /// Sums in double, rounded once into the tensor's type.
  struct Sums {
    const View& to;
    std::vector<double> values;
    explicit Sums(const View& t) : to(t) {
      std::int64_t last = 0;
      for (std::size_t d = 0; d < 4; ++d) last += (t.dimensions[d] - 1) * t.strides[d];
      values.resize(static_cast<std::size_t>(last + 1));
    }
    void finish() const {
      each(to, [&](const std::array<std::int64_t, 4>&, std::int64_t place) {
        to.store(place, values[static_cast<std::size_t>(place)]);
      });
    }
  };

  static std::vector<float> read(const View& t) {
    std::int64_t last = 0;
    for (std::size_t d = 0; d < 4; ++d) last += (t.dimensions[d] - 1) * t.strides[d];
    std::vector<float> values(static_cast<std::size_t>(last + 1));
    each(t, [&](const std::array<std::int64_t, 4>&, std::int64_t place) {
      values[static_cast<std::size_t>(place)] = static_cast<float>(t.load(place));
    });
    return values;
  }

  static void forward(const View& x, const View& w, const View& y, const Geometry& g) {
    const std::vector<float> from = read(x), filter = read(w);
    Sums sums(y);
    products(x, w, y, g, [&](auto i, auto j, auto k) { sums.values[k] += double{from[i]} * filter[j]; });
    sums.finish();
  }

  static void backward_data(const View& dx, const View& w, const View& dy, const Geometry& g) {
    const std::vector<float> gradient = read(dy), filter = read(w);
    Sums sums(dx);
    products(dx, w, dy, g, [&](auto i, auto j, auto k) { sums.values[i] += double{gradient[k]} * filter[j]; });
    sums.finish();
  }

  static void backward_filter(const View& x, const View& dw, const View& dy, const Geometry& g) {
    const std::vector<float> from = read(x), gradient = read(dy);
    Sums sums(dw);
    products(x, dw, dy, g, [&](auto i, auto j, auto k) { sums.values[j] += double{from[i]} * gradient[k]; });
    sums.finish();
  }

  cudnnStatus_t pointwise(const Bag& operation) {
    View x(operation.bag(CUDNN_ATTR_OPERATION_POINTWISE_XDESC)), y(operation.bag(CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    if (!find(x) || !find(y)) return refuse("no data for a pointwise operation");
    const Bag& function = operation.bag(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const auto mode = function.one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    if (mode == CUDNN_POINTWISE_RELU_FWD) {
      const bool passes_nan = function.has(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION) &&
                              function.one<cudnnNanPropagation_t>(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION) == CUDNN_PROPAGATE_NAN;
      each(y, [&](const std::array<std::int64_t, 4>& i, std::int64_t place) {
        const double value = x.load(x.broadcast(i));
        y.store(place, value > 0 || (passes_nan && std::isnan(value)) ? value : 0);
      });
      return CUDNN_STATUS_SUCCESS;
    }
    View b(operation.bag(CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
    if (!find(b)) return refuse("no data for the second operand");
    each(y, [&](const std::array<std::int64_t, 4>& i, std::int64_t place) {
      const double left = x.load(x.broadcast(i)), right = b.load(b.broadcast(i));
      y.store(place, mode == CUDNN_POINTWISE_ADD ? left + right : left * right);
    });
    return CUDNN_STATUS_SUCCESS;
  }

  std::map<std::int64_t, void*> data_;
  std::map<std::int64_t, std::vector<float>> virtual_;
};

constexpr std::int64_t workspace_bytes = 512;

template <class T>
Value value_of(T number) {
  const auto* bytes = reinterpret_cast<const char*>(&number);
  return {1, {bytes, bytes + sizeof number}, {}};
}

/// The engines that there are, with a knob each: those of mode A and of mode B, one of them in both.
struct Ranked {
  std::int64_t engine, split;
};
std::vector<Ranked> ranked(cudnnBackendHeurMode_t mode) {
  if (mode == CUDNN_HEUR_MODE_FALLBACK) return {};
  return mode == CUDNN_HEUR_MODE_A ? std::vector<Ranked>{{7, 1}, {9, 2}} : std::vector<Ranked>{{9, 2}, {9, 4}};
}

std::shared_ptr<Bag> finalized(cudnnBackendDescriptorType_t type, std::map<cudnnBackendAttributeName_t, Value> values) {
  return std::make_shared<Bag>(Bag{type, true, std::move(values)});
}

std::shared_ptr<Bag> config_of(const std::shared_ptr<const Bag>& graph, const Ranked& choice) {
  const auto engine = finalized(CUDNN_BACKEND_ENGINE_DESCRIPTOR, {{CUDNN_ATTR_ENGINE_OPERATION_GRAPH, {1, {}, {graph}}},
                                                                  {CUDNN_ATTR_ENGINE_GLOBAL_INDEX, value_of(choice.engine)}});
  const auto knob =
      finalized(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, {{CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, value_of(CUDNN_KNOB_TYPE_SPLIT_K)},
                                                       {CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value_of(choice.split)}});
  return finalized(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                   {{CUDNN_ATTR_ENGINECFG_ENGINE, {1, {}, {engine}}}, {CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, {1, {}, {knob}}}});
}

/// What cuDNN 9.19 refuses of what conv.cpp asks for: in bf16, fusions of grouped convolutions, and of gradients whose channels
/// are not vectors.
bool is_supported(const Bag& graph) {
  const auto& operations = graph.values.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).bags;
  if (operations.size() == 1) return true;
  const Names names = names_of(operations[0]->type);
  const View x(operations[0]->bag(names.x)), w(operations[0]->bag(names.w));
  if (x.type == CUDNN_DATA_FLOAT) return true;
  if (x.dimensions[1] != w.dimensions[1]) return false;
  return operations[0]->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
         (x.dimensions[1] % 8 == 0 && w.dimensions[0] % 8 == 0);
}

}  // namespace

struct HostDescriptor {
  std::shared_ptr<Bag> bag;
};

const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS ? "success" : status == CUDNN_STATUS_BAD_PARAM ? "bad parameter" : "not supported";
}

void cudnnGetLastErrorString(char* text, std::size_t bytes) {
  std::strncpy(text, last_error.c_str(), bytes - 1);
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  *descriptor = new HostDescriptor{std::make_shared<Bag>()};
  (*descriptor)->bag->type = type;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete descriptor;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
  if (descriptor->bag->finalized) return refuse("set after finalize");
  Value value{count, {}, {}};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    for (std::int64_t i = 0; i < count; ++i) {
      const HostDescriptor* other = static_cast<const cudnnBackendDescriptor_t*>(values)[i];
      if (!other->bag->finalized) return refuse("a descriptor that is not finalized");
      value.bags.push_back(other->bag);
    }
  } else {
    const auto* bytes = static_cast<const char*>(values);
    value.bytes.assign(bytes, bytes + static_cast<std::size_t>(count) * bytes_of(type));
  }
  descriptor->bag->values[name] = std::move(value);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, std::int64_t room, std::int64_t* count, void* values) {
  const Bag& bag = *descriptor->bag;
  if (!bag.finalized) return refuse("read before finalize");
  const auto hand_over = [&](const std::vector<std::shared_ptr<const Bag>>& bags) {
    *count = static_cast<std::int64_t>(bags.size());
    for (std::size_t i = 0; i < std::min(bags.size(), static_cast<std::size_t>(room)); ++i)
      *static_cast<cudnnBackendDescriptor_t*>(values)[i]->bag = *bags[i];
    return CUDNN_STATUS_SUCCESS;
  };
  const auto copy_out = [&](const Value& value) {
    if (room < 1) return refuse("no room");
    *count = 1;
    std::memcpy(values, value.bytes.data(), value.bytes.size());
    return CUDNN_STATUS_SUCCESS;
  };
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      const auto& graph = bag.values.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).bags.at(0);
      std::vector<std::shared_ptr<const Bag>> configs;
      if (is_supported(*graph)) {
        for (const Ranked& choice : ranked(bag.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE)))
          configs.push_back(config_of(graph, choice));
      }
      return hand_over(configs);
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE:
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES: return hand_over(bag.values.at(name).bags);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE:
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE: return copy_out(bag.values.at(name));
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: return copy_out(value_of(workspace_bytes));
    default: *count = 0; return CUDNN_STATUS_SUCCESS;
  }
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  Bag& bag = *descriptor->bag;
  if (bag.type == CUDNN_BACKEND_TENSOR_DESCRIPTOR) {
    const View tensor(bag);
    if (tensor.alignment < (tensor.type == CUDNN_DATA_FLOAT ? 4 : 2)) return refuse("an alignment below the type's");
  }
  if (bag.type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
    for (const auto& operation : bag.values.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).bags) {
      if (operation->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) continue;
      const Names names = names_of(operation->type);
      const View x(operation->bag(names.x)), w(operation->bag(names.w)), y(operation->bag(names.y));
      if (!fits(x, w, y, operation->bag(names.convolution))) return refuse("shapes of a convolution disagree");
    }
  }
  if (bag.type == CUDNN_BACKEND_ENGINE_DESCRIPTOR) {
    const auto engine = bag.one<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if ((engine != 7 && engine != 9) || !is_supported(bag.bag(CUDNN_ATTR_ENGINE_OPERATION_GRAPH)))
      return refuse("no such engine", CUDNN_STATUS_NOT_SUPPORTED);
  }
  bag.finalized = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t variant) {
  const Bag& graph = plan->bag->bag(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
                         .bag(CUDNN_ATTR_ENGINECFG_ENGINE)
                         .bag(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  std::memset(variant->bag->one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE), 0xff, workspace_bytes);
  Executor executor(*variant->bag);
  for (const auto& operation : graph.values.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).bags) {
    const cudnnStatus_t status = executor.run(*operation);
    if (status != CUDNN_STATUS_SUCCESS) return status;
  }
  return CUDNN_STATUS_SUCCESS;
}
