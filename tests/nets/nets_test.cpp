// Counts, shapes, names and order of the networks' layers: the published figures, and golden/layers.json, in which Keras
// describes itself (golden/make_layers.py).
#include "nets/nets.h"

#include "engine/check.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <tuple>

namespace microtome {
namespace {

using nlohmann::json;
using namespace std::string_literals;

std::vector<std::string> column(const Graph& graph, std::string Row::*member) {
  std::vector<std::string> values;
  for (const Row& row : graph.rows()) values.push_back(row.*member);
  return values;
}

/// Heights of the images from row to row, where they change.
std::vector<int> sizes(const Graph& graph) {
  std::vector<int> heights;
  for (const Row& row : graph.rows()) heights.push_back(graph.ops()[row.output].output.h);
  heights.erase(std::unique(heights.begin(), heights.end()), heights.end());
  return heights;
}

std::ptrdiff_t layers_with_weights(const Graph& graph) {
  return std::count_if(graph.rows().begin(), graph.rows().end(), [](const Row& row) { return !row.parameters.empty(); });
}

struct Count {
  std::int64_t total, not_trainable;
};

void expect_count(const Graph& graph, const Count& expected, const char* what) {
  EXPECT_EQ(graph.parameter_count(), expected.total) << what;
  EXPECT_EQ(graph.parameter_count(true), expected.total - expected.not_trainable) << what;
}

TEST(NetsTest, ParameterCountsOfTheStudysOwnAreKeras) {
  const std::vector<std::tuple<std::string_view, int, Count>> expected{
      {"b2", 96, {9'491'393, 0}},
      {"b2", 50, {2'413'505, 0}},
      {"b6", 96, {2'386'689, 1'344}},
      {"b6", 50, {420'609, 1'344}},
  };
  for (const auto& [name, size, count] : expected) expect_count(find_network(name).build(size), count, name.data());
}

/// What Keras' documentation and model.summary() say of a published network: parameters with 1000 classes, without them, with
/// the study's head; those that transfer learning trains; layers likewise; layers with weights in the base, their tensors.
struct Published {
  std::int64_t imagenet, base, study, not_trainable, head;
  int imagenet_layers, base_layers, weight_layers, tensors;
};
const std::vector<std::pair<const char*, Published>> published{
    {"inception_v3", {23'851'784, 21'802'784, 22'327'585, 34'432, 524'801, 313, 311, 188, 376}},
    {"vgg19", {143'667'240, 20'024'384, 20'155'969, 0, 131'585, 26, 22, 16, 32}},
    {"resnet50", {25'636'712, 23'587'712, 24'112'513, 53'120, 524'801, 177, 175, 106, 318}},
    {"mobilenet", {4'253'864, 3'228'864, 3'491'521, 21'888, 262'657, 91, 86, 54, 135}},
    {"densenet121", {8'062'504, 7'037'504, 7'300'161, 83'648, 262'657, 429, 427, 241, 604}},
    {"densenet169", {14'307'880, 12'642'880, 13'069'377, 158'400, 426'497, 597, 595, 337, 844}},
    {"densenet201", {20'242'984, 18'321'984, 18'814'017, 229'056, 492'033, 709, 707, 401, 1004}},
    {"efficientnet_v2_b0", {7'200'312, 5'919'312, 6'247'505, 60'608, 328'193, 273, 270, 150, 359}},
    {"efficientnet_v2_b1", {8'212'124, 6'931'124, 7'259'317, 71'072, 328'193, 337, 334, 184, 441}},
    {"efficientnet_v2_b2", {10'178'374, 8'769'374, 9'130'335, 82'288, 360'961, 352, 349, 192, 460}},
};

struct PublishedTest : testing::TestWithParam<std::pair<const char*, Published>> {
  const Network& network = find_network(GetParam().first);
  const Published& expected = GetParam().second;
};

TEST_P(PublishedTest, ParameterCountsAreKeras) {
  const int size = network.published_size;
  expect_count(network.build(size, Head::imagenet), {expected.imagenet, expected.not_trainable}, "with 1000 classes");
  expect_count(network.build(size, Head::none), {expected.base, expected.not_trainable}, "without a head");
  Graph graph = network.build(96);
  expect_count(graph, {expected.study, expected.not_trainable}, "with the study's head");
  graph.freeze_base();
  EXPECT_EQ(graph.parameter_count(true), expected.head) << "transfer learning";
}

TEST_P(PublishedTest, LayerCountsAreKeras) {
  const Graph base = network.build(96, Head::none);
  EXPECT_EQ(base.rows().size(), static_cast<std::size_t>(expected.base_layers));
  EXPECT_EQ(layers_with_weights(base), expected.weight_layers);
  EXPECT_EQ(base.parameters().size(), static_cast<std::size_t>(expected.tensors));
  EXPECT_EQ(network.build(96).rows().size(), static_cast<std::size_t>(expected.base_layers + 3));
  const Graph imagenet = network.build(network.published_size, Head::imagenet);
  EXPECT_EQ(imagenet.rows().size(), static_cast<std::size_t>(expected.imagenet_layers));
}

json described_by_keras(std::string_view network) {
  const std::string path = fmt::format("{}/layers.json", GOLDEN_FOLDER);
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return json::parse(file)[std::string(network)];
}

/// A row as make_layers.py writes one, with the outputs it has in each of these graphs.
json described(const std::vector<Graph>& graphs, int row) {
  const Graph& graph = graphs[0];
  const Row& r = graph.rows()[row];
  json line{r.name, r.kind, r.activation};
  for (const Graph& g : graphs) {
    const Shape& y = g.ops()[g.rows()[row].output].output;
    line.push_back({y.h, y.w, y.c});
  }
  line.push_back(json::array());
  for (const int p : r.parameters) line.back().push_back({graph.parameters()[p].name, graph.parameters()[p].keras_shape});
  return line;
}

void expect_layers(const std::vector<Graph>& graphs, std::size_t first, const json& expected) {
  const std::vector<int> order = keras_order(graphs[0]);
  ASSERT_EQ(order.size() - first, expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(described(graphs, order[first + i]), expected[i]) << "layer " << first + i;
}

TEST_P(PublishedTest, EveryLayerIsKerasInItsOrder) {
  const json keras = described_by_keras(network.name);
  std::vector<Graph> graphs;
  for (const int size : {96, keras["small"].get<int>()}) graphs.push_back(network.build(size));
  expect_layers(graphs, 0, keras["layers"]);
}

TEST_P(PublishedTest, TheTopIsKeras) {
  const json keras = described_by_keras(network.name);
  EXPECT_EQ(network.published_size, keras["size"]);
  std::vector<Graph> graphs;
  graphs.push_back(network.build(network.published_size, Head::imagenet));
  expect_layers(graphs, static_cast<std::size_t>(expected.base_layers), keras["top"]);
}

TEST_P(PublishedTest, TheFeaturesAreThePooledBase) {
  const Graph graph = network.build(96);
  const GraphOp& features = graph.ops()[graph.features()];
  EXPECT_EQ(graph.rows()[features.row].kind, "global_average_pooling2d");
  EXPECT_EQ(features.row, static_cast<int>(graph.rows().size()) - 3);
}

INSTANTIATE_TEST_SUITE_P(Nets, PublishedTest, testing::ValuesIn(published), [](const auto& it) { return it.param.first; });

TEST(NetsTest, TheTableIsThePapersAndOneMore) {
  std::vector<std::string_view> names;
  for (const Network& network : networks()) names.push_back(network.short_name);
  EXPECT_EQ(names, (std::vector<std::string_view>{"b2", "b6", "iv3", "vgg19", "rn50", "mn", "dn121", "dn169", "dn201", "enb0",
                                                  "enb1", "enb2", "p4m"}));
}

TEST(NetsTest, LayersOfTheStudysSequentialAreTheDepthOfItsTable1) {
  EXPECT_EQ(find_network("b2").build(96).rows().size(), 10u + 1);  // and the input, which a Sequential does not count
  EXPECT_EQ(find_network("b6").build(96).rows().size(), 28u + 1);
}

TEST(NetsTest, SizesShrinkAsInTheStudy) {
  EXPECT_EQ(sizes(find_network("b2").build(96)), (std::vector{96, 48, 24, 1}));
  EXPECT_EQ(sizes(find_network("b6").build(96)), (std::vector{96, 94, 92, 46, 44, 42, 21, 19, 17, 8, 1}));
  EXPECT_EQ(sizes(find_network("b6").build(50)), (std::vector{50, 48, 46, 23, 21, 19, 9, 7, 5, 2, 1}));
}

TEST(NetsTest, RowsAreNamedAsKerasNamesThem) {
  EXPECT_EQ(column(find_network("b2").build(96), &Row::name),
            (std::vector<std::string>{"input_layer", "conv2d", "activation", "max_pooling2d", "conv2d_1", "activation_1",
                                      "max_pooling2d_1", "flatten", "dense", "activation_2", "dense_1"}));
}

// Millions of multiply-accumulates a forward pass, to the digit printed in the study of floors.
TEST(NetsTest, WorkIsWhatTheLayersSay) {
  EXPECT_EQ((find_network("b2").build(96).macs() + 50'000) / 100'000, 1495);
  EXPECT_EQ((find_network("b6").build(96).macs() + 50'000) / 100'000, 2577);
}

TEST(NetsTest, StochasticDepthGrowsWithTheBlock) {
  const Graph graph = find_network("efficientnet_v2_b1").build(96);
  std::vector<Dropout> drops;
  for (const GraphOp& op : graph.ops())
    if (const auto* drop = std::get_if<Dropout>(&op.kind)) drops.push_back(*drop);
  ASSERT_EQ(drops.size(), 21u);
  for (const Dropout& drop : drops) EXPECT_TRUE(drop.per_image);
  EXPECT_FLOAT_EQ(drops.front().rate, 0.2f * 1 / 21);  // block1b: a second block, of 21 before the depth was scaled
  EXPECT_FLOAT_EQ(drops.back().rate, 0.2f * 26 / 21);  // block6i
  EXPECT_TRUE(random_before_features(graph));
  EXPECT_FALSE(random_before_features(find_network("mobilenet").build(96)));
}

TEST(NetsTest, EveryNetworkIsFoundByBothNames) {
  for (const Network& network : networks()) {
    EXPECT_EQ(&find_network(network.name), &network);
    EXPECT_EQ(&find_network(network.short_name), &network);
  }
}

TEST(NetsTest, AMisspeltNameGetsTheNearest) {
  try {
    find_network("b66");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_EQ(error.report().next, "did you mean b6?");
  }
}

TEST(NetsTest, TheStudysOwnHaveNoOtherHead) {
  for (const Head head : {Head::imagenet, Head::none}) {
    try {
      find_network("b2").build(96, head);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_STREQ(error.what(), head == Head::none ? "b2 has no head \"none\"" : "b2 has no head \"imagenet\"");
    }
  }
}

/// The guilty row and the smallest side that would do, as the error of an image of this size says.
std::pair<std::string, std::string> refusal(std::string_view network, Extent image) {
  try {
    find_network(network).build(image);
    return {"built", ""};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return {error.report().where, error.report().expected};
  }
}

TEST(NetsTest, AnImageThatIsTooSmallFailsAtTheGuiltyRowAndLearnsWhatWouldDo) {
  EXPECT_EQ(refusal("inception_v3", 50), std::pair("network inception_v3 at 50x50, row conv2d_71 (conv2d)"s,
                                                   "at least 3x3 here, from images of at least 75x75"s));
  EXPECT_EQ(refusal("inception_v3", 74).first, "network inception_v3 at 74x74, row conv2d_71 (conv2d)");
  EXPECT_EQ(refusal("inception_v3", {200, 74}).second, "at least 3x3 here, from images of at least 75x75");
  EXPECT_EQ(refusal("inception_v3", 75).first, "built");
  EXPECT_NE(refusal("b6", 20).first.find("network b6 at 20x20, row conv2d_4"), std::string::npos);
}

TEST(NetsTest, TheSmallestImagesAreThoseOfKeras) {
  const std::vector<std::pair<std::string_view, int>> expected{{"vgg19", 32}, {"mobilenet", 31}, {"densenet121", 29}};
  for (const auto& [name, side] : expected) {
    EXPECT_NE(refusal(name, side - 1).second.find(fmt::format("images of at least {0}x{0}", side)), std::string::npos) << name;
    EXPECT_EQ(refusal(name, side).first, "built") << name;
  }
  for (const char* name : {"resnet50", "efficientnet_v2_b2"}) EXPECT_EQ(refusal(name, 1).first, "built") << name;
}

}  // namespace
}  // namespace microtome
