// What each layer records: row, ops, parameters in Keras' order, output shape.
#include "engine/check.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/concat.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/depthwise_conv.h"
#include "layers/dropout.h"
#include "layers/flatten.h"
#include "layers/multiply.h"
#include "layers/normalization.h"
#include "layers/pool.h"
#include "layers/reshape.h"
#include "layers/squeeze_excite.h"
#include "layers/zero_pad.h"

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

TEST_F(LayerTest, AConvolutionIsInitialisedAsToldWithItsOwnFans) {
  image | conv(5, {3, 2}, {.init = {Initializer::Rule::variance_scaling_fan_out, 2}});
  const Initializer& init = graph.parameters()[row().parameters[0]].init;
  EXPECT_EQ(init.rule, Initializer::Rule::variance_scaling_fan_out);
  EXPECT_EQ(init.value, 2);
  EXPECT_EQ(init.fan_out, 30);
}

TEST_F(LayerTest, DepthwiseConvIsKerasDepthwiseConv2D) {
  const Node y = image | depthwise_conv({3, 2}, {.stride = 2, .padding = same});
  EXPECT_EQ(y.shape(), (Shape{1, 5, 6, 3}));
  EXPECT_EQ(row().kind, "depthwise_conv2d");
  EXPECT_EQ(parameters(), (std::vector<std::string>{"kernel"}));
  const Parameter& kernel = graph.parameters()[row().parameters[0]];
  EXPECT_EQ(kernel.shape, (Shape{3, 3, 2, 1}));
  EXPECT_EQ(kernel.keras_shape, (std::vector{3, 2, 3, 1}));
  EXPECT_EQ(kernel.init.fan_in, 18);  // 3 x 2 x 3, as of a convolution with one output channel
  EXPECT_EQ(kernel.init.fan_out, 6);  // 3 x 2
  EXPECT_EQ(graph.macs(), 5 * 6 * 3 * 6);
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

TEST_F(LayerTest, GlobalPoolingAveragesTheWholeImage) {
  const Node y = image | global_average_pool();
  EXPECT_EQ(y.shape(), (Shape{1, 1, 1, 3}));
  EXPECT_EQ(row().kind, "global_average_pooling2d");
  const Pool& pool = std::get<Pool>(graph.ops()[y.op].kind);
  EXPECT_EQ(pool.kind, Pool::Kind::average);
  EXPECT_EQ(pool.window.kernel, Extent(9, 12));
}

TEST_F(LayerTest, ZeroPadGrowsTheImageByWhatItIsTold) {
  EXPECT_EQ((image | zero_pad(zeros(0, 1))).shape(), (Shape{1, 10, 13, 3}));
  EXPECT_EQ(row().kind, "zero_padding2d");
  EXPECT_EQ((image | zero_pad(zeros(3))).shape(), (Shape{1, 15, 18, 3}));
  EXPECT_THROW(image | zero_pad(same), Error);
}

TEST_F(LayerTest, ConcatPutsChannelsSideBySide) {
  EXPECT_EQ(concat({image, image | conv(5, 1), image}).shape(), (Shape{1, 9, 12, 11}));
  EXPECT_EQ(row().kind, "concatenate");
  EXPECT_THROW(concat({image, image | max_pool(2)}), Error);
}

TEST_F(LayerTest, MultiplyTakesAGateAChannel) {
  EXPECT_EQ(multiply(image, image | global_average_pool()).shape(), image.shape());
  EXPECT_EQ(row().kind, "multiply");
  EXPECT_THROW(multiply(image, image), Error);
}

TEST_F(LayerTest, SqueezeExciteIsFiveRowsAndKeepsTheShape) {
  const Node y = image | squeeze_excite(2, {.prefix = "se_"});
  EXPECT_EQ(y.shape(), image.shape());
  std::vector<std::string> rows;
  for (const Row& r : graph.rows()) rows.push_back(r.name + " " + r.kind + " " + r.activation);
  EXPECT_EQ(rows,
            (std::vector<std::string>{"input_layer input_layer ", "se_squeeze global_average_pooling2d ", "se_reshape reshape ",
                                      "se_reduce conv2d silu", "se_expand conv2d sigmoid", "se_excite multiply "}));
  EXPECT_EQ(graph.ops()[y.op].inputs[0], image.op);
}

TEST_F(LayerTest, ReshapeKeepsTheElements) {
  EXPECT_EQ((image | reshape({1, 1, 27, 12})).shape(), (Shape{1, 1, 27, 12}));
  EXPECT_EQ(row().kind, "reshape");
  EXPECT_THROW(image | reshape({1, 1, 27, 13}), Error);
}

TEST_F(LayerTest, RescalingAndNormalizationAreOfTheKindThatFillersOfTheInputApply) {
  const Node scaled = image | rescaling(255);
  EXPECT_EQ(row().kind, "rescaling");
  EXPECT_EQ(std::get<Normalize>(graph.ops()[scaled.op].kind).divisor, (std::array{255.f, 255.f, 255.f}));
  const Node y = scaled | normalization({1, 2, 3}, {4, 5, 6});
  EXPECT_EQ(row().kind, "normalization");
  EXPECT_EQ(std::get<Normalize>(graph.ops()[y.op].kind).mean, (std::array{1.f, 2.f, 3.f}));
}

TEST_F(LayerTest, ActivationsAreTheRowsThatKerasHas) {
  image | relu6();
  EXPECT_EQ(row().kind + " " + row().activation, "re_lu relu6");
  image | swish();
  EXPECT_EQ(row().kind + " " + row().activation, "activation silu");
  const Node y = image | softmax();
  EXPECT_EQ(row().kind + " " + row().activation, "activation softmax");
  EXPECT_TRUE(std::holds_alternative<Reshape>(graph.ops()[y.op].kind)) << "logits leave it unchanged";
}

TEST_F(LayerTest, RowsGetKerasAutomaticNames) {
  image | conv(2, 1) | relu() | conv(2, 1, {.name = "stem"}) | conv(2, 1) | relu();
  std::vector<std::string> names;
  for (const Row& r : graph.rows()) names.push_back(r.name);
  EXPECT_EQ(names, (std::vector<std::string>{"input_layer", "conv2d", "activation", "stem", "conv2d_1", "activation_1"}));
}

TEST_F(LayerTest, TwoRowsOfOneNameAreRefused) {
  EXPECT_THROW(image | relu("a") | relu("a"), Error);
}

TEST_F(LayerTest, EveryDropoutDrawsFromAStreamOfItsOwn) {
  image | dropout(0.1f) | dropout(0.1f) | relu() | dropout(0.1f);
  std::set<std::uint64_t> streams;
  for (const GraphOp& op : graph.ops())
    if (const auto* d = std::get_if<Dropout>(&op.kind)) streams.insert(d->stream);
  EXPECT_EQ(streams.size(), 3u);
  EXPECT_THROW(image | dropout(1.0f), Error);
}

TEST_F(LayerTest, StochasticDepthDropsWholeImages) {
  const Node y = image | dropout(0.1f, {.per_image = true});
  EXPECT_EQ(row().kind, "dropout");
  EXPECT_TRUE(std::get<Dropout>(graph.ops()[y.op].kind).per_image);
}

TEST_F(LayerTest, AddNeedsEqualShapes) {
  EXPECT_EQ((image + (image | relu())).shape(), image.shape());
  EXPECT_THROW(image + (image | max_pool(2)), Error);
}

}  // namespace
}  // namespace microtome
