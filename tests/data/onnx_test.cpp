#include "data/onnx.h"

#include "data/support.h"
#include "data/weights.h"
#include "nets/nets.h"

#include <onnx/checker.h>
#include <onnx/shape_inference/implementation.h>

#include <algorithm>
#include <set>

namespace microtome {
namespace {

std::vector<float> ramp(const Graph& graph) {
  std::vector<float> weights(static_cast<std::size_t>(graph.parameter_count()));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i);
  return weights;
}

onnx::ModelProto written(const Graph& graph, const Preprocessing& pixels = {},
                         const std::optional<Provenance>& provenance = {}) {
  TemporaryFolder folder;
  write_onnx(folder / "model.onnx", graph, ramp(graph), pixels, provenance);
  const std::vector<char> bytes = read_bytes(folder / "model.onnx");
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  return model;
}

const onnx::TensorProto& initializer(const onnx::ModelProto& model, std::string_view name) {
  const auto& all = model.graph().initializer();
  const auto found = std::ranges::find_if(all, [&](const auto& tensor) { return tensor.name() == name; });
  if (found == all.end()) throw std::runtime_error("no initializer " + std::string(name));
  return *found;
}

TEST(OnnxTest, EveryNetworkIsAValidModelWhoseInferredShapesAreOurs) {
  for (const Network& network : networks()) {
    const Graph graph = network.build(96);
    onnx::ModelProto model = written(graph);
    EXPECT_NO_THROW(onnx::checker::check_model(model)) << network.name;
    onnx::ShapeInferenceOptions strict(true, 1);
    EXPECT_NO_THROW(onnx::shape_inference::InferShapes(model, onnx::OpSchemaRegistry::Instance(), strict)) << network.name;
    int compared = 0;
    for (const onnx::ValueInfoProto& value : model.graph().value_info()) {
      const auto row = std::ranges::find(graph.rows(), value.name(), &Row::name);
      const auto& shape = value.type().tensor_type().shape();
      if (row == graph.rows().end() || shape.dim_size() != 4) continue;
      const Shape& ours = graph.ops()[static_cast<std::size_t>(row->output)].output;
      EXPECT_EQ((std::vector<std::int64_t>{shape.dim(1).dim_value(), shape.dim(2).dim_value(), shape.dim(3).dim_value()}),
                (std::vector<std::int64_t>{ours.c, ours.h, ours.w}))
          << network.name << " " << row->name;
      ++compared;
    }
    EXPECT_GE(compared, 4) << network.name;
  }
}

TEST(OnnxTest, BatchNormsKeepTheirEpsilons) {
  std::set<float> seen;
  for (const char* name : {"b6", "resnet50", "densenet121"}) {
    const Graph graph = find_network(name).build(96);
    std::vector<float> ours, theirs;
    for (const GraphOp& op : graph.ops())
      if (const auto* norm = std::get_if<BatchNorm>(&op.kind)) ours.push_back(norm->epsilon);
    const onnx::ModelProto model = written(graph);
    for (const onnx::NodeProto& node : model.graph().node()) {
      if (node.op_type() != "BatchNormalization") continue;
      for (const onnx::AttributeProto& attribute : node.attribute())
        if (attribute.name() == "epsilon") theirs.push_back(attribute.f());
    }
    EXPECT_EQ(theirs, ours) << name;
    seen.insert(ours.begin(), ours.end());
  }
  EXPECT_GT(seen.size(), 1u) << "one for all would pass";
}

TEST(OnnxTest, AFilterIsTurnedFromKRSCToKCRS) {
  const Graph graph = find_network("b2").build(8);
  const onnx::TensorProto kernel = initializer(written(graph), "conv2d/kernel");
  ASSERT_EQ((std::vector<std::int64_t>{kernel.dims().begin(), kernel.dims().end()}), (std::vector<std::int64_t>{32, 3, 5, 5}));
  const auto* values = reinterpret_cast<const float*>(kernel.raw_data().data());
  EXPECT_EQ(values[1], 3);           // the next column: three channels on
  EXPECT_EQ(values[5 * 5], 1);       // the next channel
  EXPECT_EQ(values[3 * 5 * 5], 75);  // the next filter
}

TEST(OnnxTest, ProvenanceIsAPropertyOfTheMetadata) {
  const Graph graph = find_network("b2").build(8);
  Provenance provenance{.network = "b2", .image = 8, .preprocess = "native"};
  const onnx::ModelProto model = written(graph, {}, provenance);
  ASSERT_EQ(model.metadata_props_size(), 1);
  EXPECT_EQ(model.metadata_props(0).key(), provenance_key);
  provenance.tensors = tensors_digest(graph, ramp(graph));
  EXPECT_EQ(parse_provenance(model.metadata_props(0).value(), "model.onnx"), provenance);
  EXPECT_EQ(written(graph).metadata_props_size(), 0);
}

TEST(OnnxTest, PixelsAreTurnedAsTheOptionsSay) {
  const Graph graph = find_network("b2").build(8);
  const onnx::ModelProto rgb = written(graph), bgr = written(graph, {.mean = {1, 2, 3}, .divisor = {4, 5, 6}, .bgr = true});
  const auto gathers = [](const onnx::ModelProto& model) {
    return std::ranges::count_if(model.graph().node(), [](const auto& node) { return node.op_type() == "Gather"; });
  };
  EXPECT_EQ(gathers(rgb), 0);
  EXPECT_EQ(gathers(bgr), 1);
  const std::string mean = initializer(bgr, "input_layer/mean").raw_data();
  EXPECT_EQ(reinterpret_cast<const float*>(mean.data())[2], 3);
  const std::string divisor = initializer(rgb, "input_layer/divisor").raw_data();
  EXPECT_EQ(reinterpret_cast<const float*>(divisor.data())[0], 255);
}

}  // namespace
}  // namespace microtome
