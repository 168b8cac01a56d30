// Counts and shapes of the networks, as Keras' model.summary() gives them for the study's own code.
#include "nets/nets.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

namespace microtome {
namespace {

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

TEST(NetsTest, ParameterCountsAreKeras) {
  const std::vector<std::tuple<std::string_view, int, std::int64_t, std::int64_t>> expected{
      {"b2", 96, 9'491'393, 9'491'393},
      {"b2", 50, 2'413'505, 2'413'505},
      {"b6", 96, 2'386'689, 2'385'345},
      {"b6", 50, 420'609, 420'609 - 1'344},
  };
  for (const auto& [name, size, total, trainable] : expected) {
    const Graph graph = find_network(name).build(size);
    EXPECT_EQ(graph.parameter_count(), total) << name << " at " << size;
    EXPECT_EQ(graph.parameter_count(true), trainable) << name << " at " << size;
  }
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

TEST(NetsTest, WorkIsWhatTheLayersSay) {  // millions of multiply-accumulates a forward pass, to the digit printed in the study of floors
  EXPECT_EQ((find_network("b2").build(96).macs() + 50'000) / 100'000, 1495);
  EXPECT_EQ((find_network("b6").build(96).macs() + 50'000) / 100'000, 2577);
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

TEST(NetsTest, AnImageThatIsTooSmallFailsAtTheGuiltyRow) {
  try {
    find_network("b6").build(20);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(error.report().where.find("network b6 at 20x20, row conv2d_4"), std::string::npos) << error.report().where;
  }
}

}  // namespace
}  // namespace microtome
