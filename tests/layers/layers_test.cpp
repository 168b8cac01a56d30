// What each layer records: row, ops, parameters in Keras' order, output shape.
#include "engine/check.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/flatten.h"
#include "layers/pool.h"

#include <gtest/gtest.h>

#include <set>

namespace microtome {
namespace {

struct LayerTest : testing::Test {
  Graph graph;
  Node image = graph.input({9, 12});

  const Row& row() const { return graph.rows().back(); }
  std::vector<std::string> parameters() const {
    std::vector<std::string> names;
    for (const int p : row().parameters) names.push_back(graph.parameters()[p].name);
    return names;
  }
};

TEST_F(LayerTest, ConvIsKerasConv2D) {
  const Node y = image | conv(5, {3, 2}, {.stride = 2, .padding = same, .activation = Activation::relu});
  EXPECT_EQ(y.shape(), (Shape{1, 5, 6, 5}));
  EXPECT_EQ(row().kind, "conv2d");
  EXPECT_EQ(row().activation, "relu");
  EXPECT_EQ(parameters(), (std::vector<std::string>{"kernel", "bias"}));
  const Parameter& kernel = graph.parameters()[row().parameters[0]];
  EXPECT_EQ(kernel.shape, (Shape{5, 3, 2, 3}));
  EXPECT_EQ(kernel.keras_shape, (std::vector{3, 2, 3, 5}));
  EXPECT_EQ(kernel.init.fan_in, 18);   // 3 x 2 x 3
  EXPECT_EQ(kernel.init.fan_out, 30);  // 3 x 2 x 5
  EXPECT_EQ(graph.macs(), 5 * 6 * 5 * 18);
}

TEST_F(LayerTest, ConvWithoutBiasHasAKernelAlone) {
  image | conv(5, 3, {.bias = false});
  EXPECT_EQ(parameters(), (std::vector<std::string>{"kernel"}));
}

TEST_F(LayerTest, BatchNormHasKerasOrderAndTwoThatAreNotTrained) {
  image | batch_norm();
  EXPECT_EQ(parameters(), (std::vector<std::string>{"gamma", "beta", "moving_mean", "moving_variance"}));
  EXPECT_EQ(graph.parameter_count(), 12);
  EXPECT_EQ(graph.parameter_count(true), 6);
  image | batch_norm({.scale = false});
  EXPECT_EQ(parameters(), (std::vector<std::string>{"beta", "moving_mean", "moving_variance"}));
}

TEST_F(LayerTest, DenseTakesAVectorOnly) {
  const Node y = image | flatten() | dense(7);
  EXPECT_EQ(y.shape(), (Shape{1, 1, 1, 7}));
  EXPECT_EQ(graph.parameters()[row().parameters[0]].keras_shape, (std::vector{324, 7}));
  EXPECT_EQ(graph.macs(), 324 * 7);
  EXPECT_THROW(image | dense(7), Error);
}

TEST_F(LayerTest, TheLogitIsADenseRowWithKerasSigmoidAndYieldsLogits) {
  const Node z = image | flatten() | logit();
  EXPECT_EQ(row().kind, "dense");
  EXPECT_EQ(row().activation, "sigmoid");
  EXPECT_TRUE(std::holds_alternative<Dense>(graph.ops()[z.op].kind));
}

TEST_F(LayerTest, PoolingStridesByItsKernelUnlessTold) {
  EXPECT_EQ((image | max_pool(2)).shape(), (Shape{1, 4, 6, 3}));
  EXPECT_EQ(row().kind, "max_pooling2d");
  EXPECT_EQ((image | average_pool(3, {.stride = 1, .padding = same})).shape(), (Shape{1, 9, 12, 3}));
  EXPECT_EQ(row().kind, "average_pooling2d");
}

TEST_F(LayerTest, RowsGetKerasAutomaticNames) {
  image | conv(2, 1) | relu() | conv(2, 1, {.name = "stem"}) | conv(2, 1) | relu();
  std::vector<std::string> names;
  for (const Row& r : graph.rows()) names.push_back(r.name);
  EXPECT_EQ(names, (std::vector<std::string>{"input_layer", "conv2d", "activation", "stem", "conv2d_1", "activation_1"}));
}

TEST_F(LayerTest, TwoRowsOfOneNameAreRefused) { EXPECT_THROW(image | relu("a") | relu("a"), Error); }

TEST_F(LayerTest, EveryDropoutDrawsFromAStreamOfItsOwn) {
  image | dropout(0.1f) | dropout(0.1f) | relu() | dropout(0.1f);
  std::set<std::uint64_t> streams;
  for (const GraphOp& op : graph.ops())
    if (const auto* d = std::get_if<Dropout>(&op.kind)) streams.insert(d->stream);
  EXPECT_EQ(streams.size(), 3u);
  EXPECT_THROW(image | dropout(1.0f), Error);
}

TEST_F(LayerTest, AddNeedsEqualShapes) {
  EXPECT_EQ((image + (image | relu())).shape(), image.shape());
  EXPECT_THROW(image + (image | max_pool(2)), Error);
}

}  // namespace
}  // namespace microtome
