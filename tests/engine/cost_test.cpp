#include "engine/cost.h"

#include <gtest/gtest.h>

#include <vector>

namespace microtome {
namespace {

constexpr DType bf16 = DType::bf16, f32 = DType::f32;

Layout layout(const Shape& shape, DType type = bf16) {
  return {shape, type};
}

Cost cost_of(const GraphOp::Kind& kind, Pass pass, const std::vector<Layout>& inputs, const Layout& output,
             bool accumulate = false) {
  return cost(kind, pass, inputs, output, f32, accumulate);
}

// 2 images of 4 x 6 x 3, a 3 x 3 kernel, 5 channels out: 2*4*6 pixels, 5*3*3*3 weights.
const Shape image{2, 4, 6, 3}, features{2, 4, 6, 5};
const Window window = resolve(image, 3, 1, same);
constexpr double pixels = 2 * 4 * 6, weights = 5 * 3 * 3 * 3;

TEST(CostTest, AConvolutionReadsAndWritesEachTensorOnce) {
  const Conv conv{.window = window, .bias = true};
  const std::vector<Layout> x{layout(image)};
  const Layout y = layout(features);
  EXPECT_EQ(cost_of(conv, Pass::forward, x, y), (Cost{2 * pixels * weights, 2 * (pixels * 3 + pixels * 5 + weights) + 4 * 5}));
  EXPECT_EQ(cost_of(conv, Pass::backward_data, x, y), (Cost{2 * pixels * weights, 2 * (pixels * 3 + pixels * 5 + weights)}));
  EXPECT_EQ(cost_of(conv, Pass::backward_filter, x, y),
            (Cost{2 * pixels * weights, 2 * (pixels * 3 + pixels * 5) + 4 * (weights + 5)}));
}

TEST(CostTest, AccumulatingReadsTheGradientToo) {
  const Conv conv{.window = window};
  const std::vector<Layout> x{layout(image)};
  const Layout y = layout(features);
  const Cost overwrite = cost_of(conv, Pass::backward_data, x, y), accumulate = cost_of(conv, Pass::backward_data, x, y, true);
  EXPECT_EQ(accumulate.bytes - overwrite.bytes, 2 * pixels * 3);
  EXPECT_EQ(accumulate.flop, overwrite.flop);
}

TEST(CostTest, BothGradientsAtOnceReadDyOnce) {
  const Conv conv{.window = window, .bias = true};
  const std::vector<Layout> x{layout(image)};
  const Layout y = layout(features);
  Cost apart = cost_of(conv, Pass::backward_data, x, y);
  apart += cost_of(conv, Pass::backward_filter, x, y);
  const Cost together = cost_of(conv, Pass::backward, x, y);
  EXPECT_EQ(together.flop, apart.flop);
  EXPECT_EQ(together.bytes, apart.bytes - 2 * pixels * 5);
}

TEST(CostTest, GroupsDivideTheWeights) {
  const Shape wide{2, 4, 6, 6};
  const Conv conv{.window = resolve(wide, 3, 1, same), .groups = 6};
  EXPECT_EQ(cost_of(conv, Pass::forward, {layout(wide)}, layout(wide)),
            (Cost{2 * pixels * 9 * 6, 2 * (2 * pixels * 6 + 9 * 6)}));
}

TEST(CostTest, ADenseLayersLogitsAreParametersAndTheirGradientIsNot) {
  const std::vector<Layout> x{layout({8, 1, 1, 256})};
  const Layout logits = layout({8, 1, 1, 1}, f32);
  EXPECT_EQ(cost_of(Dense{}, Pass::forward, x, logits), (Cost{2 * 8 * 256, 2 * (8 * 256 + 256) + 4 * 8}));
  EXPECT_EQ(cost_of(Dense{}, Pass::backward_data, x, logits), (Cost{2 * 8 * 256, 2 * (8 + 256 + 8 * 256)}));
}

TEST(CostTest, BatchStatisticsTakeAPassOfTheirOwn) {
  const std::vector<Layout> x{layout(image)};
  const double size = 2 * pixels * 3, vectors = 4 * 3;
  const BatchNorm norm{}, frozen{.batch_statistics = false}, served{.partial_statistics = true};
  EXPECT_EQ(cost_of(norm, Pass::forward, x, x[0]).bytes, 3 * size + (2 + 4) * vectors);
  EXPECT_EQ(cost_of(norm, Pass::backward, x, x[0]).bytes, 5 * size + 4 * vectors);
  EXPECT_EQ(cost_of(frozen, Pass::forward, x, x[0]).bytes, 2 * size + (2 + 2) * vectors);
  EXPECT_EQ(cost_of(frozen, Pass::backward, x, x[0]).bytes, 3 * size + 4 * vectors);
  EXPECT_EQ(cost_of(served, Pass::forward, x, x[0]).bytes, 2 * size + (2 + 4 + 3) * vectors);
}

TEST(CostTest, KnownChannelsAreNotMeasuredAgain) {
  const BatchNorm norm{.shared_statistics = true, .known_channels = 2};
  EXPECT_EQ(cost_of(norm, Pass::forward, {layout(image)}, layout(image)).bytes, 2 * pixels * (3 + 3 + 1) + 6 * 4 * 3);
}

TEST(CostTest, ADeferredBatchNormWritesVectorsAndItsReaderReadsXAgainBackward) {
  const std::vector<Layout> x{layout(image)};
  const Layout y = layout(features);
  const double vectors = 4 * 3;
  const BatchNorm norm{.deferred = true, .partial_statistics = true};
  EXPECT_EQ(cost_of(norm, Pass::forward, x, x[0]).bytes, (3 + 2 + 4 + 3) * vectors);
  EXPECT_EQ(cost_of(norm, Pass::backward, x, x[0]).bytes, (4 + 5) * vectors);
  const Conv plain{.window = window}, reader{.window = window, .deferred = Activation::relu};
  const auto more = [&](Pass pass) { return cost_of(reader, pass, x, y).bytes - cost_of(plain, pass, x, y).bytes; };
  EXPECT_EQ(more(Pass::forward), 3 * vectors);
  EXPECT_EQ(more(Pass::backward_filter), 3 * vectors);
  EXPECT_EQ(more(Pass::backward_data), 2 * pixels * 3 + 5 * vectors);
  EXPECT_EQ(cost_of(plain, Pass::norm_correction, x, y).bytes, 3 * 2 * pixels * 5 + 3 * 4 * 5);
}

TEST(CostTest, ElementWiseOpsMoveTheirTensors) {
  const std::vector<Layout> x{layout(image)}, two{layout(image), layout(image)};
  const double size = 2 * pixels * 3;
  for (const GraphOp::Kind& kind : {GraphOp::Kind(Activate{}), GraphOp::Kind(Dropout{})})
    EXPECT_EQ(cost_of(kind, Pass::forward, x, x[0]), (Cost{0, 2 * size}));
  EXPECT_EQ(cost_of(Activate{}, Pass::backward, x, x[0]), (Cost{0, 3 * size}));
  EXPECT_EQ(cost_of(Dropout{}, Pass::backward, x, x[0]), (Cost{0, 2 * size}));
  EXPECT_EQ(cost_of(Add{}, Pass::forward, two, x[0]), (Cost{0, 3 * size}));
  EXPECT_EQ(cost_of(Add{}, Pass::backward, two, x[0], true), (Cost{0, 3 * size}));
}

TEST(CostTest, AGateIsSmall) {
  const std::vector<Layout> x{layout(image), layout({2, 1, 1, 3})};
  const double size = 2 * pixels * 3, gate = 2 * 2 * 3;
  EXPECT_EQ(cost_of(Multiply{}, Pass::forward, x, x[0]), (Cost{0, 2 * size + gate}));
  EXPECT_EQ(cost_of(Multiply{}, Pass::backward_data, x, x[0]), (Cost{0, 2 * size + gate}));
  EXPECT_EQ(cost_of(Multiply{}, Pass::backward_filter, x, x[0]), (Cost{0, 2 * size + gate}));
  EXPECT_EQ(cost_of(Multiply{}, Pass::backward, x, x[0]), (Cost{0, 3 * size + 2 * gate}));
}

TEST(CostTest, WhatOnlyNamesMemoryCostsNothing) {
  for (const GraphOp::Kind& kind : {GraphOp::Kind(Concat{}), GraphOp::Kind(Reshape{}), GraphOp::Kind(ZeroPad{})})
    EXPECT_EQ(cost_of(kind, Pass::forward, {layout(image)}, layout(image)), Cost{});
  EXPECT_EQ(cost_of(Activate{}, Pass::loss, {layout(image)}, layout(image)), Cost{});
}

TEST(CostTest, AStepsOwnOps) {
  const Layout packed_x = layout(image), roomy{image, bf16, packed({2, 4, 6, 8})};
  EXPECT_EQ(cost(Gather{}, DType::u8, packed_x, f32), (Cost{0, pixels * 3 + 2 * pixels * 3 + 2 * (1 + 4)}));
  EXPECT_EQ(cost(Gather{}, DType::u8, roomy, f32), (Cost{0, pixels * 3 + 2 * pixels * 8 + 2 * (1 + 4)}));
  const Layout z = layout({8, 1, 1, 1}, f32);
  EXPECT_EQ(cost(Loss{}, Pass::forward, z), (Cost{0, 8 * (4 + 4 + 4)}));
  EXPECT_EQ(cost(Loss{}, Pass::backward, z), (Cost{0, 8 * (4 + 4 + 4)}));
  EXPECT_EQ(cost(Adam{}, 1000, f32, f32), (Cost{0, 28000}));
  EXPECT_EQ(cost(Adam{}, 1000, f32, bf16), (Cost{0, 30000}));
}

}  // namespace
}  // namespace microtome
