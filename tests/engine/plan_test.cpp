#include "engine/plan.h"

#include "engine/random.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/flatten.h"
#include "layers/pool.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

Graph record(const std::function<Node(Node)>& stages, Extent image = 8) {
  Graph graph;
  graph.output(stages(graph.input(image)));
  return graph;
}

std::vector<Shape> shapes_of(const Graph& graph) {
  std::vector<Shape> shapes;
  for (const GraphOp& op : graph.ops()) shapes.push_back(op.output);
  return shapes;
}

template <class Kind>
const Kind* find(const std::vector<PlannedOp>& ops) {
  for (const PlannedOp& op : ops)
    if (const auto* kind = std::get_if<Kind>(&op.kind)) return kind;
  return nullptr;
}

TEST(PlanTest, EvaluationUsesMovingStatisticsAndNoDropout) {
  const Graph graph = record([](Node x) { return x | conv(4, 3) | batch_norm() | dropout(0.5f); });
  const auto train = lower(graph, {Mode::train}), evaluate = lower(graph, {Mode::evaluate});
  EXPECT_TRUE(find<BatchNorm>(train)->batch_statistics);
  EXPECT_FALSE(find<BatchNorm>(evaluate)->batch_statistics);
  EXPECT_NE(find<Dropout>(train), nullptr);
  EXPECT_EQ(find<Dropout>(evaluate), nullptr);
  EXPECT_EQ(find<Dropout>(lower(graph, {Mode::train, false})), nullptr);
}

TEST(PlanTest, BesselsCorrectionIsForImagesAndCanBeTurnedOff) {
  const Graph image = record([](Node x) { return x | conv(4, 8) | batch_norm(); });  // 1x1, yet an image
  const Graph vector = record([](Node x) { return x | flatten() | dense(4) | batch_norm(); });
  EXPECT_TRUE(find<BatchNorm>(lower(image, {}))->bessel);
  EXPECT_FALSE(find<BatchNorm>(lower(vector, {}))->bessel);
  EXPECT_FALSE(find<BatchNorm>(lower(image, {.bessel = false}))->bessel);
}

TEST(PlanTest, CalibrationLeavesABatchsOwnUnbiasedStatisticsAndDropsNothing) {
  const Graph graph = record([](Node x) { return x | flatten() | dense(4) | batch_norm() | dropout(0.5f); });
  const auto ops = lower(graph, {.mode = Mode::calibrate, .bessel = false});
  const BatchNorm& norm = *find<BatchNorm>(ops);
  EXPECT_TRUE(norm.batch_statistics);
  EXPECT_TRUE(norm.bessel);
  EXPECT_EQ(norm.momentum, 0);
  EXPECT_EQ(find<Dropout>(ops), nullptr);
}

TEST(PlanTest, AReluBeforeMaxPoolingMovesIntoIt) {
  auto ops = lower(record([](Node x) { return x | conv(4, 3) | relu() | max_pool(2); }), {});
  move_relu_behind_max_pool(ops);
  ASSERT_EQ(ops.size(), 3u);  // input, conv, pool
  EXPECT_EQ(find<Pool>(ops)->activation, Activation::relu);
  EXPECT_EQ(ops[2].inputs[0], ops[1].output);
}

TEST(PlanTest, AReluThatIsReadTwiceOrAnAveragePoolStaysWhereItIs) {
  auto twice = lower(record([](Node x) {
                       const Node y = x | conv(4, 3, {.padding = same}) | relu();
                       return (y | max_pool({1, 1})) + y;
                     }),
                     {});
  move_relu_behind_max_pool(twice);
  EXPECT_EQ(find<Pool>(twice)->activation, Activation::none);
  auto average = lower(record([](Node x) { return x | conv(4, 3) | relu() | average_pool(2); }), {});
  move_relu_behind_max_pool(average);
  EXPECT_EQ(find<Pool>(average)->activation, Activation::none);
}

TEST(PlanTest, AnActivationFusesIntoWhatAloneFeedsIt) {
  auto ops = lower(record([](Node x) { return x | conv(4, 3) | batch_norm() | relu() | flatten() | dense(5) | relu() | dense(1); }), {});
  const int values = static_cast<int>(ops.size());
  fuse_activations(ops, Mode::train);
  EXPECT_EQ(find<BatchNorm>(ops)->activation, Activation::relu);
  EXPECT_EQ(find<Dense>(ops)->activation, Activation::relu);
  EXPECT_EQ(find<Activate>(ops), nullptr);
  EXPECT_EQ(static_cast<int>(ops.size()), values - 2);
  for (std::size_t i = 2; i < ops.size(); ++i) EXPECT_EQ(ops[i].inputs[0], ops[i - 1].output);  // still one chain
}

TEST(PlanTest, SwishFusesIntoAConvolutionOnlyWhereNothingIsLearnt) {
  const Graph graph = record([](Node x) { return x | conv(4, 3, {.activation = Activation::swish}); });
  auto train = lower(graph, {Mode::train}), evaluate = lower(graph, {Mode::evaluate});
  fuse_activations(train, Mode::train);
  fuse_activations(evaluate, Mode::evaluate);
  EXPECT_NE(find<Activate>(train), nullptr);
  EXPECT_EQ(find<Conv>(evaluate)->activation, Activation::swish);
}

TEST(PlanTest, SplittingUndoesAFusion) {
  auto ops = lower(record([](Node x) { return x | conv(4, 3, {.activation = Activation::relu}); }), {});
  fuse_activations(ops, Mode::train);
  ASSERT_EQ(ops.size(), 2u);
  const int output = ops[1].output;
  const PlannedOp activate = split_activation(ops[1], 77);
  EXPECT_EQ(fused_activation(ops[1].kind), Activation::none);
  EXPECT_EQ(ops[1].output, 77);
  EXPECT_EQ(activate.inputs, std::vector{77});
  EXPECT_EQ(activate.output, output);
  EXPECT_EQ(std::get<Activate>(activate.kind).function, Activation::relu);
}

TEST(PlanTest, TheLastReaderWritesAGradientFirstAndTheOthersAccumulate) {
  const Graph graph = record([](Node x) {
    const Node y = x | conv(3, 3, {.padding = same});
    const Node left = y | relu();
    const Node flat = y | flatten() | relu();
    return left + y.graph->op(Reshape{{1, 8, 8, 3}}, {flat});
  });
  const auto ops = lower(graph, {});
  const auto shapes = shapes_of(graph);
  const auto places = place_values(ops, shapes);
  const auto writes = gradient_writes(ops, places, shapes);
  // ops: input, conv, relu(y), flatten, relu, reshape, add: the relu behind the flatten runs backwards first.
  EXPECT_EQ(places[3], places[1]);
  EXPECT_EQ(writes[4][0], Write::overwrite);
  EXPECT_EQ(writes[2][0], Write::accumulate);
}

TEST(PlanTest, NothingBeforeTheFirstParameterNeedsAGradient) {
  const Graph graph = record([](Node x) { return x | max_pool(2) | conv(3, 3) | relu(); });
  const auto ops = lower(graph, {});
  EXPECT_EQ(needs_gradient(graph, ops, 4), (std::vector{false, false, true, true}));
}

TEST(PlanTest, NoTwoLiveTensorsOverlapInTheArena) {
  for (std::uint64_t trial = 0; trial < 300; ++trial) {
    std::uint64_t drawn = 0;
    const auto draw = [&](int below) { return static_cast<int>(random_word(trial, 1, drawn++) % below); };
    std::vector<Lifetime> lifetimes(1 + draw(60));
    for (Lifetime& life : lifetimes) {
      life.first = draw(40);
      life.last = life.first + draw(12);
      life.bytes = draw(8) == 0 ? 0 : 1 + draw(5000);
    }
    const Arena arena = assign_offsets(lifetimes);
    std::size_t sum = 0;
    for (std::size_t i = 0; i < lifetimes.size(); ++i) {
      sum += (lifetimes[i].bytes + 255) / 256 * 256;
      EXPECT_EQ(arena.offsets[i] % 256, 0u);
      EXPECT_LE(arena.offsets[i] + lifetimes[i].bytes, arena.bytes);
      for (std::size_t j = 0; j < i; ++j) {
        const bool together = lifetimes[i].first <= lifetimes[j].last && lifetimes[j].first <= lifetimes[i].last;
        const bool apart = arena.offsets[i] + lifetimes[i].bytes <= arena.offsets[j] ||
                           arena.offsets[j] + lifetimes[j].bytes <= arena.offsets[i];
        ASSERT_TRUE(!together || apart) << "trial " << trial << ": " << i << " and " << j;
      }
    }
    EXPECT_LE(arena.bytes, sum);
  }
}

TEST(PlanTest, TensorsThatNeverMeetShareOnePlace) {
  const Arena arena = assign_offsets(std::vector<Lifetime>{{0, 1, 1000}, {2, 3, 1000}, {4, 5, 900}});
  EXPECT_EQ(arena.bytes, 1024u);
}

}  // namespace
}  // namespace microtome
