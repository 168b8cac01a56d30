// ONNX keeps channels before rows and columns. Vectors are N x C from the first dense layer or flattening on, else N x C x 1
// x 1.
#include "data/onnx.h"

#include "data/file.h"
#include "data/weights.h"
#include "engine/check.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace microtome {

namespace {

constexpr int opset = 13;
constexpr int ir_version = 7;  // the one that came with opset 13's time: runtimes since 2020 read it

using Longs = std::vector<std::int64_t>;

class Exporter {
 public:
  Exporter(const Graph& graph, std::span<const float> weights, const Preprocessing& pixels) : graph_(graph), pixels_(pixels) {
    require(static_cast<std::int64_t>(weights.size()) == graph.parameter_count(), "onnx: ", weights.size(), " values for ",
            graph.parameter_count(), " parameters");
    std::size_t offset = 0;
    for (const Parameter& parameter : graph.parameters()) {
      const auto count = static_cast<std::size_t>(parameter.shape.count());
      values_.push_back(weights.subspan(offset, count));
      offset += count;
    }
    model_.set_ir_version(ir_version);
    model_.set_producer_name("microtome");
    model_.set_doc_string("images: N H W 3, RGB, 0 .. 255. score: the probability of class 1.");
    model_.add_opset_import()->set_version(opset);
    out_ = model_.mutable_graph();
    out_->set_name("network");
  }

  void add_property(const char* key, const std::string& value) {
    onnx::StringStringEntryProto& property = *model_.add_metadata_props();
    property.set_key(key), property.set_value(value);
  }

  const onnx::ModelProto& export_all() {
    for (std::size_t i = 0; i < graph_.ops().size(); ++i) {
      const GraphOp& op = graph_.ops()[i];
      const Row& row = graph_.rows()[static_cast<std::size_t>(op.row)];
      name_ = row.output == static_cast<int>(i) ? row.name : fmt::format("{}/{}", row.name, i);
      const int before = out_->node_size();
      std::string y = std::visit([&](const auto& kind) { return add(kind, op); }, op.kind);
      if (out_->node_size() > before) {  // the last node's result is the op's, and bears its name
        onnx::NodeProto& last = *out_->mutable_node(out_->node_size() - 1);
        last.set_name(name_), last.set_output(0, name_);
        y = name_;
      }
      flat_.push_back(is_flat(op));
      results_.push_back(y);
    }
    const auto output = static_cast<std::size_t>(graph_.output());
    const std::string logits = as_matrix(output);
    onnx::NodeProto* score = out_->add_node();
    score->set_op_type("Sigmoid"), score->set_name("score"), score->add_input(logits), score->add_output("score");
    declare(*out_->add_output(), "score", {graph_.ops()[output].output.c});
    return model_;
  }

 private:
  std::string add(const Input&, const GraphOp& op) {
    declare(*out_->add_input(), "images", {op.output.h, op.output.w, op.output.c});
    std::string x = node("Transpose", {"images"}, {{"perm", Longs{0, 3, 1, 2}}});
    if (pixels_.bgr) x = node("Gather", {x, longs("channels", {2, 1, 0})}, {{"axis", std::int64_t{1}}});
    return normalize(x, {pixels_.mean, pixels_.divisor});
  }

  std::string add(const Normalize& kind, const GraphOp& op) { return normalize(input(op), kind); }

  std::string add(const Conv& kind, const GraphOp& op) {
    std::vector<std::string> inputs{input(op), kernel(op.parameters[0], kind.p4m)};
    if (kind.bias) inputs.push_back(vector(op.parameters[1]));
    const std::string y = node("Conv", inputs, with_window(kind.window, {{"group", std::int64_t{kind.groups}}}));
    return activate(y, kind.activation);
  }

  std::string add(const Dense& kind, const GraphOp& op) {
    const Parameter& w = parameter(op.parameters[0]);
    std::vector<std::string> inputs{as_matrix(static_cast<std::size_t>(op.inputs[0])),
                                    tensor(full_name(graph_, w), {w.shape.w, w.shape.c}, values_[index(op.parameters[0])])};
    if (kind.bias) inputs.push_back(vector(op.parameters[1]));
    return activate(node("Gemm", inputs), kind.activation);
  }

  std::string add(const BatchNorm& kind, const GraphOp& op) {
    std::vector<std::string> inputs{input(op)};
    if (!kind.scale) {
      const std::vector<float> ones(static_cast<std::size_t>(op.output.c), 1.0f);
      inputs.push_back(tensor(name_ + "/gamma", {op.output.c}, ones));
    }
    for (const int p : op.parameters) inputs.push_back(vector(p));
    return activate(node("BatchNormalization", inputs, {{"epsilon", kind.epsilon}}), kind.activation);
  }

  std::string add(const Activate& kind, const GraphOp& op) { return activate(input(op), kind.function); }

  std::string add(const Pool& kind, const GraphOp& op) {
    const bool max = kind.kind == Pool::Kind::max;
    return activate(node(max ? "MaxPool" : "AveragePool", {input(op)}, with_window(kind.window, {})), kind.activation);
  }

  std::string add(const ZeroPad& kind, const GraphOp& op) {
    const Longs pads{0, 0, kind.before.h, kind.before.w, 0, 0, kind.after.h, kind.after.w};
    return node("Pad", {input(op), longs("pads", pads)});
  }

  std::string add(const Dropout&, const GraphOp& op) { return input(op); }

  std::string add(const Add& kind, const GraphOp& op) {
    return activate(node("Add", {input(op, 0), input(op, 1)}), kind.activation);
  }

  std::string add(const Multiply&, const GraphOp& op) { return node("Mul", {input(op, 0), input(op, 1)}); }

  std::string add(const Concat&, const GraphOp& op) {
    std::vector<std::string> inputs;
    for (std::size_t i = 0; i < op.inputs.size(); ++i) inputs.push_back(input(op, i));
    return node("Concat", inputs, {{"axis", std::int64_t{1}}});
  }

  std::string add(const Reshape&, const GraphOp& op) {
    const Shape &from = input_shape(op), &to = op.output;
    if (from == to) return input(op);
    if (!flattens(op)) {
      const std::string last = node("Transpose", {input(op)}, {{"perm", Longs{0, 2, 3, 1}}});
      const std::string shaped = node("Reshape", {last, longs("shape", {0, to.h, to.w, to.c})});
      return node("Transpose", {shaped}, {{"perm", Longs{0, 3, 1, 2}}});
    }
    const std::string rows = node("Transpose", {input(op)}, {{"perm", Longs{0, 2, 3, 1}}});
    return node("Flatten", {rows}, {{"axis", std::int64_t{1}}});
  }

  using Attribute = std::pair<const char*, std::variant<std::int64_t, float, Longs>>;

  /// Adds a node of the op that is being exported.
  std::string node(const char* type, const std::vector<std::string>& inputs, const std::vector<Attribute>& attributes = {}) {
    onnx::NodeProto& node = *out_->add_node();
    const std::string y = fmt::format("{}/{}", name_, type);
    node.set_op_type(type), node.set_name(y), node.add_output(y);
    for (const std::string& x : inputs) node.add_input(x);
    for (const auto& [key, value] : attributes) {
      onnx::AttributeProto& attribute = *node.add_attribute();
      attribute.set_name(key);
      if (const auto* number = std::get_if<std::int64_t>(&value)) {
        attribute.set_type(onnx::AttributeProto::INT), attribute.set_i(*number);
      } else if (const auto* real = std::get_if<float>(&value)) {
        attribute.set_type(onnx::AttributeProto::FLOAT), attribute.set_f(*real);
      } else {
        attribute.set_type(onnx::AttributeProto::INTS);
        for (const std::int64_t n : std::get<Longs>(value)) attribute.add_ints(n);
      }
    }
    return y;
  }

  std::vector<Attribute> with_window(const Window& window, std::vector<Attribute> attributes) const {
    attributes.push_back({"kernel_shape", Longs{window.kernel.h, window.kernel.w}});
    attributes.push_back({"strides", Longs{window.stride.h, window.stride.w}});
    attributes.push_back({"pads", Longs{window.before.h, window.before.w, window.after.h, window.after.w}});
    return attributes;
  }

  std::string activate(const std::string& x, Activation function) {
    switch (function) {
      case Activation::none: return x;
      case Activation::relu: return node("Relu", {x});
      case Activation::relu6: return node("Clip", {x, scalar("zero", 0), scalar("six", 6)});
      case Activation::swish: return node("Mul", {x, node("Sigmoid", {x})});
      case Activation::sigmoid: return node("Sigmoid", {x});
    }
    return x;
  }

  std::string normalize(const std::string& x, const Normalize& kind) {
    const std::string centred = node("Sub", {x, tensor(name_ + "/mean", {3, 1, 1}, kind.mean)});
    return node("Div", {centred, tensor(name_ + "/divisor", {3, 1, 1}, kind.divisor)});
  }

  std::string as_matrix(std::size_t op) {
    return flat_[op] ? results_[op] : node("Flatten", {results_[op]}, {{"axis", std::int64_t{1}}});
  }

  bool flattens(const GraphOp& op) const {
    return op.output.h == 1 && op.output.w == 1 && input_shape(op).count() != input_shape(op).c;
  }
  bool is_flat(const GraphOp& op) const {
    if (std::holds_alternative<Dense>(op.kind)) return true;
    if (std::holds_alternative<Input>(op.kind)) return false;
    return flat_[index(op.inputs[0])] || (std::holds_alternative<Reshape>(op.kind) && flattens(op));
  }

  const Shape& input_shape(const GraphOp& op) const { return graph_.ops()[index(op.inputs[0])].output; }
  const std::string& input(const GraphOp& op, std::size_t i = 0) const { return results_[index(op.inputs[i])]; }
  const Parameter& parameter(int p) const { return graph_.parameters()[index(p)]; }
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  std::string tensor(const std::string& name, const Longs& shape, std::span<const float> values) {
    onnx::TensorProto& tensor = *out_->add_initializer();
    tensor.set_name(name), tensor.set_data_type(onnx::TensorProto::FLOAT);
    for (const std::int64_t extent : shape) tensor.add_dims(extent);
    tensor.set_raw_data(values.data(), values.size_bytes());
    return name;
  }

  std::string vector(int p) { return tensor(full_name(graph_, parameter(p)), {parameter(p).shape.c}, values_[index(p)]); }

  /// K R S C to K C R S, of a group convolution in all eight symmetries.
  std::string kernel(int p, P4m p4m) {
    const Shape& s = parameter(p).shape;
    const int symmetries = p4m == P4m::none ? 1 : p4m_symmetries;
    std::vector<float> to;
    to.reserve(values_[index(p)].size() * index(symmetries));
    for (int g = 0; g < symmetries; ++g)
      for (int k = 0; k < s.n; ++k)
        for (int c = 0; c < s.c; ++c)
          for (int row = 0; row < s.h; ++row)
            for (int column = 0; column < s.w; ++column) {
              const int back = p4m_inverse(g), channel = p4m_channel(p4m, back, s.c, c);
              const P4mCell cell = p4m_moved(back, s.h, {row, column});
              to.push_back(values_[index(p)][index(((k * s.h + cell.row) * s.w + cell.column) * s.c + channel)]);
            }
    return tensor(full_name(graph_, parameter(p)), {symmetries * s.n, s.c, s.h, s.w}, to);
  }

  std::string scalar(const char* what, float value) { return tensor(fmt::format("{}/{}", name_, what), {}, {&value, 1}); }

  std::string longs(const char* what, const Longs& values) {
    onnx::TensorProto& tensor = *out_->add_initializer();
    tensor.set_name(fmt::format("{}/{}", name_, what)), tensor.set_data_type(onnx::TensorProto::INT64);
    tensor.add_dims(static_cast<std::int64_t>(values.size()));
    tensor.set_raw_data(values.data(), values.size() * sizeof values[0]);
    return tensor.name();
  }

  static void declare(onnx::ValueInfoProto& value, const char* name, const Longs& shape) {
    value.set_name(name);
    onnx::TypeProto_Tensor& type = *value.mutable_type()->mutable_tensor_type();
    type.set_elem_type(onnx::TensorProto::FLOAT);
    type.mutable_shape()->add_dim()->set_dim_param("N");
    for (const std::int64_t extent : shape) type.mutable_shape()->add_dim()->set_dim_value(extent);
  }

  const Graph& graph_;
  const Preprocessing& pixels_;
  std::vector<std::span<const float>> values_;  // of each parameter
  onnx::ModelProto model_;
  onnx::GraphProto* out_ = nullptr;
  std::vector<std::string> results_;  // of each op
  std::vector<bool> flat_;            // its result is N x C
  std::string name_;                  // of the op that is being exported
};

}  // namespace

void write_onnx(const std::filesystem::path& file, const Graph& graph, std::span<const float> weights,
                const Preprocessing& pixels, const std::optional<Provenance>& provenance) {
  Exporter exporter(graph, weights, pixels);
  if (provenance) {
    Provenance with_digest = *provenance;
    with_digest.tensors = tensors_digest(graph, weights);
    exporter.add_property(provenance_key, to_json(with_digest));
  }
  const std::string bytes = exporter.export_all().SerializeAsString();
  write_whole(file, std::vector<Bytes>{std::as_bytes(std::span(bytes))}, "the ONNX model");
}

}  // namespace microtome
