#include "engine/plan.h"

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
#include "layers/pool.h"
#include "layers/zero_pad.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <utility>
#include <variant>
#include <vector>

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
  auto ops = lower(
      record([](Node x) { return x | conv(4, 3) | batch_norm() | relu() | flatten() | dense(5) | relu() | dense(1); }), {});
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

TEST(PlanTest, InTrainingWhatItsOutputDoesNotUndoFusesIntoBatchNormAlone) {
  for (const Activation f : {Activation::relu, Activation::relu6, Activation::swish, Activation::sigmoid}) {
    const bool undone = derivative_of(f) == DerivativeOf::y;
    const auto fuses = [&](const std::function<Node(Node)>& stage) {
      auto ops = lower(record([&](Node x) { return stage(x) | activation(f); }), {});
      fuse_activations(ops, Mode::train);
      return find<Activate>(ops) == nullptr;
    };
    EXPECT_EQ(fuses([](Node x) { return x | conv(4, 3); }), undone);
    EXPECT_EQ(fuses([](Node x) { return x | flatten() | dense(4); }), undone);
    EXPECT_EQ(fuses([](Node x) { return x + x; }), undone);
    EXPECT_TRUE(fuses([](Node x) { return x | batch_norm(); }));
    EXPECT_FALSE(fuses([](Node x) { return x | max_pool(2); }));
    EXPECT_FALSE(fuses([](Node x) { return x | dropout(0.5f); }));
  }
}

TEST(PlanTest, APlanIsWhatTheBackendTakes) {
  const Graph graph =
      record([](Node x) { return x | conv(4, 3) | batch_norm() | relu() | conv(4, 3) | batch_norm() | relu() | conv(4, 3); });
  const auto all = [](const Plan&, const PlannedOp&) { return true; };
  const auto none = [](const Plan&, const PlannedOp&) { return false; };
  const auto no_statistics = [](const Plan&, const PlannedOp& op) { return !leaves_statistics(op); };
  const auto count = [&](const PlanOptions& options, bool (*is)(const PlannedOp&)) {
    const Plan plan = make_plan(graph, options);
    return std::count_if(plan.ops.begin(), plan.ops.end(), is);
  };
  EXPECT_EQ(count({.takes = all}, is_deferred), 2);
  EXPECT_EQ(count({.takes = all}, takes_statistics), 2);
  EXPECT_EQ(count({.takes = no_statistics}, is_deferred), 2);
  EXPECT_EQ(count({.takes = no_statistics}, takes_statistics), 0);
  EXPECT_EQ(count({.takes = none}, is_deferred), 0);
  EXPECT_EQ(count({}, is_deferred), 0);
  EXPECT_EQ(count({}, leaves_statistics), 0);
  EXPECT_EQ(make_plan(graph, {.image_channels = 4}).image_channels, 4);
  EXPECT_EQ(make_plan(graph, {.image_channels = 3}).image_channels, 0) << "the image has as many";
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
  const auto aliases = alias_values(ops, shapes);
  const auto writes = gradient_writes(ops, aliases, shapes);
  // ops: input, conv, relu(y), flatten, relu, reshape, add: the relu behind the flatten runs backwards first.
  EXPECT_EQ(aliases[3], aliases[1]);
  EXPECT_EQ(writes[4][0], Write::overwrite);
  EXPECT_EQ(writes[2][0], Write::accumulate);
}

TEST(PlanTest, WhatAnOpReadsTwiceGetsBothGradients) {
  const Graph graph = record([](Node x) {
    const Node y = x | conv(3, 1), z = (y + y) | global_average_pool();
    return multiply(z, z);
  });
  const auto ops = lower(graph, {});
  const auto shapes = shapes_of(graph);
  const auto writes = gradient_writes(ops, alias_values(ops, shapes), shapes);
  // ops: input, conv, add, pool, multiply. The last input's gradient comes first (engine/kinds/traits.h).
  for (const int twice : {2, 4}) EXPECT_EQ(writes[twice], (std::vector<Write>{Write::accumulate, Write::overwrite}));
}

/// A plan up to the places of values.
struct Placed {
  std::vector<PlannedOp> ops;
  std::vector<Shape> shapes;
  std::vector<Alias> aliases;

  explicit Placed(const Graph& graph) : ops(lower(graph, {})), shapes(shapes_of(graph)) {
    fuse_activations(ops, Mode::train);
    copy_into_concats(ops, shapes);
    aliases = alias_values(ops, shapes);
    share_statistics(ops, aliases, shapes);
  }

  int copies() const {
    return static_cast<int>(std::count_if(ops.begin(), ops.end(), [](const PlannedOp& op) {
      const auto* activate = std::get_if<Activate>(&op.kind);
      return activate && activate->function == Activation::none;
    }));
  }
};

Stage dense_layer() {
  return [](Node x) { return concat({x, x | batch_norm() | relu() | conv(4, 1)}); };
}

TEST(PlanTest, ADenseBlockLiesInOneBufferAndCopiesNothing) {
  const Graph graph =
      record([](Node x) { return x | conv(8, 3) | dense_layer() | dense_layer() | dense_layer() | batch_norm(); });
  const Placed plan(graph);
  EXPECT_EQ(plan.copies(), 0);
  int root = -1, slices = 0;
  for (const PlannedOp& op : plan.ops) root = std::holds_alternative<Concat>(op.kind) ? op.output : root;
  for (const PlannedOp& op : plan.ops) {
    if (!std::holds_alternative<Conv>(op.kind)) continue;
    EXPECT_EQ(plan.aliases[op.output], (Alias{root, slices == 0 ? 0 : 4 + 4 * slices}));
    ++slices;
  }
  EXPECT_EQ(slices, 4);
}

TEST(PlanTest, BatchStatisticsOfADenseBlockAreComputedOnceAChannel) {
  const Graph graph =
      record([](Node x) { return x | conv(8, 3) | dense_layer() | dense_layer() | dense_layer() | batch_norm(); });
  const Placed plan(graph);
  std::vector<int> computed;
  for (const PlannedOp& op : plan.ops)
    if (const auto* norm = std::get_if<BatchNorm>(&op.kind)) {
      EXPECT_TRUE(norm->shared_statistics);
      computed.push_back(plan.shapes[op.inputs[0]].c - norm->known_channels);
    }
  EXPECT_EQ(computed, (std::vector{8, 4, 4, 4}));
}

TEST(PlanTest, BatchNormsOverOneMemoryInTwoShapesShareNoStatistics) {
  const Placed plan(record([](Node x) {
    const Node y = x | conv(8, 1), z = y.graph->op(Reshape{{1, 8, 64, 1}}, {y});
    return (y | batch_norm() | flatten() | dense(1)) + (z | batch_norm() | flatten() | dense(1));
  }));
  int norms = 0;
  for (const PlannedOp& op : plan.ops)
    if (const auto* norm = std::get_if<BatchNorm>(&op.kind)) {
      EXPECT_EQ(plan.aliases[op.inputs[0]], plan.aliases[1]);
      EXPECT_FALSE(norm->shared_statistics);
      ++norms;
    }
  EXPECT_EQ(norms, 2);
}

TEST(PlanTest, WhatASecondConcatReadsIsCopiedIntoTheFirst) {
  const Graph graph = record([](Node x) {
    const Node y = x | conv(3, 1), first = concat({y, y | conv(2, 1)});
    const Node z = first | conv(4, 1);  // its gradient of `first` comes after that of the second concat's y
    return concat({y, z});
  });
  const Plan plan = make_plan(graph, {.lower = {.mode = Mode::train}});
  const auto writes = gradient_writes(plan.ops, plan.aliases, plan.shapes);  // throws where a slice comes before the whole
  EXPECT_EQ(std::count_if(plan.ops.begin(), plan.ops.end(),
                          [](const PlannedOp& op) { return std::holds_alternative<Activate>(op.kind); }),
            1);
  EXPECT_EQ(plan.aliases[1].root, graph.output()) << "y lies in the second";
  EXPECT_EQ(writes.size(), plan.ops.size());
}

TEST(PlanTest, WhatCannotBeASliceIsCopiedIntoAConcat) {
  const auto copies = [](const std::function<Node(Node)>& stages) { return Placed(record(stages)).copies(); };
  EXPECT_EQ(copies([](Node x) { return concat({x | conv(2, 1), x | conv(3, 1)}); }), 0);
  EXPECT_EQ(copies([](Node x) { return concat({x, x | conv(3, 1)}); }), 1);  // the image
  EXPECT_EQ(copies([](Node x) {
              const Node y = x | conv(2, 1);
              return concat({y, y});
            }),
            1);
  EXPECT_EQ(copies([](Node x) {
              const Node y = x | conv(2, 1);
              return concat({concat({y, x | conv(1, 1)}), concat({x | conv(1, 1), y})});
            }),
            1);
  EXPECT_EQ(copies([](Node x) {  // read as a vector too
              const Node y = x | conv(2, 1);
              return concat({y, x | conv(2, 1)}) | conv(4, 8) | flatten() | dense(y.shape().c) |
                     [=](Node z) { return z + (y | flatten() | dense(2)); };
            }),
            1);
  EXPECT_EQ(copies([](Node x) {  // read after the concat
              const Node y = x | conv(4, 1), both = concat({y, x | conv(4, 1)});
              return (both | conv(4, 1)) + (y | relu());
            }),
            1);
}

TEST(PlanTest, ZeroPaddingGoesIntoTheWindowThatReadsIt) {
  const Graph graph = record([](Node x) {
    return x | zero_pad(zeros({1, 2}, {3, 4})) | conv(4, 3, {.stride = 2}) | relu() | zero_pad(zeros(1)) |
           max_pool(3, {.stride = 2});
  });
  auto ops = lower(graph, {});
  fold_padding(graph, ops);
  EXPECT_EQ(find<ZeroPad>(ops), nullptr);
  EXPECT_EQ(find<Conv>(ops)->window, (Window{3, 2, {1, 2}, {3, 4}}));
  EXPECT_EQ(find<Pool>(ops)->window, (Window{3, 2, 1, 1}));
}

TEST(PlanTest, ZeroPaddingThatWouldChangeAMeanOrAMaximumIsRefused) {
  for (const bool average : {true, false}) {
    const Graph graph =
        record([=](Node x) { return x | conv(4, 3) | zero_pad(zeros(1)) | (average ? average_pool(3) : max_pool(3)); });
    auto ops = lower(graph, {});
    EXPECT_THROW(fold_padding(graph, ops), Error);
  }
}

TEST(PlanTest, AFrozenBatchNormGoesIntoTheFrozenConvolutionBeforeIt) {
  Graph graph = record(
      [](Node x) { return x | conv(4, 3, {.bias = false}) | batch_norm() | relu() | flatten() | dense(3) | batch_norm(); });
  auto learnt = lower(graph, {Mode::evaluate});
  fold_batch_norms(graph, learnt);
  EXPECT_NE(find<BatchNorm>(learnt), nullptr);  // its weights may change between two evaluations
  graph.freeze();
  auto ops = lower(graph, {Mode::train});
  fold_batch_norms(graph, ops);
  EXPECT_EQ(find<BatchNorm>(ops), nullptr);
  EXPECT_TRUE(find<Conv>(ops)->bias);
  EXPECT_TRUE(ops[1].norm.has_value());
  fuse_activations(ops, Mode::train);
  EXPECT_EQ(find<Conv>(ops)->activation, Activation::relu);
}

TEST(PlanTest, ABatchNormWhoseConvolutionSomebodyElseReadsIsNotFolded) {
  Graph graph = record([](Node x) {
    const Node y = x | conv(4, 3);
    return y + (y | batch_norm());
  });
  graph.freeze();
  auto ops = lower(graph, {Mode::evaluate});
  fold_batch_norms(graph, ops);
  EXPECT_NE(find<BatchNorm>(ops), nullptr);
}

TEST(PlanTest, ABatchNormThatLearnsIsNotFoldedIntoAFrozenLayer) {
  Graph graph = record([](Node x) {
    const Node y = x | flatten() | dense(3);
    y.graph->features(y);
    return y | batch_norm();
  });
  graph.freeze_base();
  auto ops = lower(graph, {Mode::evaluate});
  fold_batch_norms(graph, ops);
  EXPECT_NE(find<BatchNorm>(ops), nullptr);
}

TEST(PlanTest, ABatchNormIsNotFoldedIntoFiltersThatAreDerivedFromOthers) {
  Graph graph = record([](Node x) {  // without the reshape that a layer has behind it
    x.graph->row("p4m_lift");
    const int w = x.graph->parameter("kernel", {2, 3, 3, 3}, {3, 3, 3, 2}, {Initializer::Rule::he_normal, 0, 27, 18});
    return x.graph->op(Conv{.window = resolve(x.shape(), 3, 1, same), .p4m = P4m::lift}, {x}, {w}) | batch_norm();
  });
  graph.freeze();
  auto ops = lower(graph, {Mode::evaluate});
  fold_batch_norms(graph, ops);
  EXPECT_NE(find<BatchNorm>(ops), nullptr);
}

TEST(PlanTest, AGradientThatALaterReaderWritesFirstIsNotThatOfAnElementWiseOp) {
  const Graph graph = record([](Node x) {
    const Node y = x | conv(4, 1);                                                 // op 1
    return ((y | activation(Activation::swish)) + (y | conv(4, 1))) | conv(1, 1);  // 2, 3; 4; 5
  });
  const Placed plan(graph);
  const std::vector<int> storage = share_gradients(plan.ops, plan.aliases, plan.shapes, graph.output());
  EXPECT_EQ(storage[2], storage[4]);
  EXPECT_NE(storage[1], storage[2]) << "the convolution writes y's gradient while swish's is yet to be read";
}

TEST(PlanTest, ASideOfAnAdditionThatSomebodyAddsToDoesNotShareItsGradientWithTheOther) {
  const Graph graph = record([](Node x) {
    const Node y = x | conv(4, 1), z = x | conv(4, 1), side = y | conv(4, 1);  // ops 1, 2, 3
    return (((z + y) | conv(4, 1)) + side) | conv(1, 1);                       // 4, 5; 6; 7
  });
  const Placed plan(graph);
  const std::vector<int> storage = share_gradients(plan.ops, plan.aliases, plan.shapes, graph.output());
  EXPECT_EQ(storage[2], storage[4]);
  EXPECT_NE(storage[1], storage[2]) << "op 3 adds to y's before op 2 has read z's";
}

TEST(PlanTest, AnAdditionTakesAnActivationAndPassesItsGradientToBothSides) {
  const Graph graph = record([](Node x) {
    const Node y = x | conv(4, 1) | batch_norm();                        // ops 1, 2
    return (y + (y | conv(4, 1) | batch_norm())) | relu() | conv(2, 1);  // 3, 4; 5, 6; 7
  });
  const Placed plan(graph);
  EXPECT_EQ(find<Add>(plan.ops)->activation, Activation::relu);
  const std::vector<int> storage = share_gradients(plan.ops, plan.aliases, plan.shapes, graph.output());
  EXPECT_EQ(storage[2], storage[6]);
  EXPECT_EQ(storage[4], storage[6]);  // read by its batch-norm before the convolution on the side adds to it
  EXPECT_NE(storage[3], storage[6]);  // so that batch-norm must not write over it
  EXPECT_EQ(storage[1], storage[6]);  // but the first one may
}

TEST(PlanTest, SidesOfAnAdditionShareAGradientUnlessTheOneReadFirstUndoesAnActivationInIt) {
  const auto homes_of_sides = [](Activation function) {
    const Graph graph = record([=](Node x) {
      return ((x | conv(4, 1, {.activation = function})) + (x | conv(4, 1, {.activation = function}))) | conv(1, 1);
    });
    const Placed plan(graph);
    const auto add = std::find_if(plan.ops.begin(), plan.ops.end(),
                                  [](const PlannedOp& op) { return std::holds_alternative<Add>(op.kind); });
    EXPECT_EQ(find<Activate>(plan.ops), nullptr);
    const std::vector<int> storage = share_gradients(plan.ops, plan.aliases, plan.shapes, graph.output());
    return std::pair(storage[add->inputs[0]], storage[add->inputs[1]]);
  };
  const auto plain = homes_of_sides(Activation::none), clamped = homes_of_sides(Activation::relu);
  EXPECT_EQ(plain.first, plain.second);
  EXPECT_NE(clamped.first, clamped.second);
}

/// A graph's plan with its batch-norms deferred, as far as the passes go.
struct DeferredPlan : Placed {
  explicit DeferredPlan(const Graph& graph) : Placed(graph) {
    const int kept[] = {graph.output()};
    defer_batch_norms(ops, aliases, shapes, kept);
    aliases = alias_values(ops, shapes);
  }
  int deferred() const { return static_cast<int>(std::count_if(ops.begin(), ops.end(), is_deferred)); }
};

int deferred_in(const std::function<Node(Node)>& stages) {
  return DeferredPlan(record(stages)).deferred();
}

TEST(PlanTest, ABatchNormIsDeferredToTheReadersThatCanApplyIt) {
  const DeferredPlan plan(record([](Node x) {
    const Node y = x | conv(4, 3) | batch_norm() | activation(Activation::swish);
    return multiply(y, y | global_average_pool() | conv(4, 1)) | conv(2, 1);
  }));
  EXPECT_EQ(plan.deferred(), 1);
  const auto norm = std::find_if(plan.ops.begin(), plan.ops.end(), is_deferred);
  EXPECT_EQ(plan.aliases[norm->output], plan.aliases[norm->inputs[0]]);
  EXPECT_EQ(find<Multiply>(plan.ops)->deferred, Activation::swish);
  EXPECT_EQ(find<Pool>(plan.ops)->deferred, Activation::swish);
  EXPECT_EQ(std::get<Conv>(plan.ops.back().kind).deferred, DeferredNorm());  // reads the product
}

TEST(PlanTest, ABatchNormThatIsReadFromOutsideIsNotDeferred) {
  const Graph graph = record([](Node x) { return x | conv(4, 3) | batch_norm() | conv(4, 1); });
  for (const bool kept : {false, true}) {
    Placed plan(graph);
    const int values[] = {kept ? 2 : graph.output()};
    defer_batch_norms(plan.ops, plan.aliases, plan.shapes, values);
    EXPECT_EQ(is_deferred(plan.ops[2]), !kept);
  }
}

TEST(PlanTest, AnAdditionTakesDeferredBatchNormsOnBothSides) {
  const DeferredPlan plan(record([](Node x) {
    return ((x | conv(4, 1) | batch_norm()) + (x | conv(4, 1) | batch_norm() | relu())) | relu() | conv(1, 1);
  }));
  EXPECT_EQ(plan.deferred(), 2);
  EXPECT_EQ(find<Add>(plan.ops)->deferred, (std::array<DeferredNorm, 2>{Activation::none, Activation::relu}));
}

TEST(PlanTest, ABatchNormThatSomebodyCannotApplyIsNotDeferred) {
  EXPECT_EQ(deferred_in([](Node x) { return x | conv(4, 1) | batch_norm() | conv(4, 1); }), 1);
  EXPECT_EQ(deferred_in([](Node x) { return x | conv(4, 1) | batch_norm(); }), 0);                              // the output
  EXPECT_EQ(deferred_in([](Node x) { return x | batch_norm() | conv(4, 1); }), 0);                              // of the image
  EXPECT_EQ(deferred_in([](Node x) { return x | conv(4, 1) | batch_norm() | batch_norm() | conv(4, 1); }), 1);  // the second
  EXPECT_EQ(deferred_in([](Node x) { return x | conv(4, 1) | batch_norm() | flatten() | dense(1); }), 0);
  EXPECT_EQ(deferred_in([](Node x) {
              const Node y = x | conv(4, 1) | batch_norm();
              return (y + y) | conv(1, 1);
            }),
            0);
  EXPECT_EQ(deferred_in([](Node x) {
              const Node y = x | conv(4, 1);
              return concat({y | batch_norm(), x | conv(4, 1)}) | conv(1, 1);
            }),
            0);
}

TEST(PlanTest, ABatchNormWhoseInputJoinsAConcatBeforeItIsAppliedIsNotDeferred) {
  const auto applied = [](bool after) {
    return [=](Node x) {
      const Node y = x | conv(4, 1), z = y | batch_norm() | relu();
      const Node before = z | conv(4, 1);
      const Node both = concat({y, before});
      return (both | conv(4, 1)) + ((after ? z : before) | conv(4, 1));
    };
  };
  EXPECT_EQ(deferred_in(applied(false)), 1);
  EXPECT_EQ(deferred_in(applied(true)), 0);
}

TEST(PlanTest, EveryBatchNormOfADenseBlockIsDeferredAndAddsItsCorrectionToTheOthers) {
  const DeferredPlan plan(record([](Node x) {
    return x | conv(8, 3) | dense_layer() | dense_layer() | dense_layer() | batch_norm() | relu() | conv(4, 1);
  }));
  EXPECT_EQ(plan.deferred(), 4);
  const std::vector<Write> writes = correction_writes(plan.ops, plan.aliases, plan.shapes);
  std::vector<Write> of_norms;
  for (std::size_t i = 0; i < plan.ops.size(); ++i)
    if (is_deferred(plan.ops[i])) of_norms.push_back(writes[i]);
  EXPECT_EQ(of_norms, (std::vector{Write::accumulate, Write::accumulate, Write::accumulate, Write::overwrite}));
}

TEST(PlanTest, AReaderThatDeclinesHasTheBatchNormAppliedForAll) {
  DeferredPlan plan(record([](Node x) {
    const Node y = x | conv(4, 3) | batch_norm() | relu();
    return (y | conv(4, 1)) + (y | max_pool(1) | conv(4, 1));
  }));
  ASSERT_EQ(plan.deferred(), 1);
  const auto pool =
      std::find_if(plan.ops.begin(), plan.ops.end(), [](const PlannedOp& op) { return std::holds_alternative<Pool>(op.kind); });
  apply_batch_norms(plan.ops, static_cast<int>(pool - plan.ops.begin()));
  EXPECT_EQ(plan.deferred(), 0);
  for (const PlannedOp& op : plan.ops) EXPECT_FALSE(deferred_norm(op, 0));
}

TEST(PlanTest, ABatchNormThatTheBackendCannotDeferIsAppliedAndItsReadersLearnOfIt) {
  DeferredPlan plan(record([](Node x) { return x | conv(4, 3) | batch_norm() | relu() | conv(4, 1); }));
  const auto norm = std::find_if(plan.ops.begin(), plan.ops.end(), is_deferred);
  apply_batch_norms(plan.ops, static_cast<int>(norm - plan.ops.begin()));
  EXPECT_EQ(plan.deferred(), 0);
  for (const PlannedOp& op : plan.ops) EXPECT_FALSE(deferred_norm(op, 0));
}

TEST(PlanTest, StatisticsComeFromTheConvolutionWhoseWholeOutputIsNormalised) {
  const auto left = [](const std::function<Node(Node)>& stages) {
    DeferredPlan plan(record(stages));
    leave_statistics(plan.ops, plan.aliases, plan.shapes);
    int norms = 0;
    for (std::size_t i = 0; i < plan.ops.size(); ++i) {
      const auto* norm = std::get_if<BatchNorm>(&plan.ops[i].kind);
      norms += norm && norm->partial_statistics;
    }
    for (std::size_t i = 0; i < plan.ops.size(); ++i) {
      const auto* conv = std::get_if<Conv>(&plan.ops[i].kind);
      if (conv && conv->statistics) keep_no_statistics(plan.ops, static_cast<int>(i));
    }
    EXPECT_FALSE(std::any_of(plan.ops.begin(), plan.ops.end(), [](const PlannedOp& op) {
      const auto* norm = std::get_if<BatchNorm>(&op.kind);
      return norm && norm->partial_statistics;
    }));
    return norms;
  };
  EXPECT_EQ(left([](Node x) { return x | conv(4, 3) | batch_norm() | relu() | conv(4, 1) | batch_norm(); }), 2);
  EXPECT_EQ(left([](Node x) { return x | conv(4, 3) | max_pool(2) | batch_norm(); }), 0);
  EXPECT_EQ(left([](Node x) { return x | conv(4, 3) | dense_layer() | batch_norm(); }), 0);  // a slice
  EXPECT_EQ(left([](Node x) {  // shared: the second batch-norm reads the first one's statistics
              const Node y = x | conv(4, 3);
              return (y | batch_norm()) + (y | batch_norm() | relu());
            }),
            0);
}

TEST(PlanTest, AnImageGetsRoomForMoreChannelsWhereOnlyConvolutionsReadIt) {
  const auto given = [](const std::function<Node(Node)>& stages) {
    Placed plan(record(stages));
    const bool room = give_image_room(plan.ops, plan.aliases);
    for (const PlannedOp& op : plan.ops) {
      const auto* conv = std::get_if<Conv>(&op.kind);
      if (conv) {
        EXPECT_EQ(conv->zero_padded_channels, room && plan.aliases[op.inputs[0]].root == plan.ops[0].output);
      }
    }
    return room;
  };
  EXPECT_TRUE(given([](Node x) { return x | conv(4, 3) | conv(4, 3); }));
  EXPECT_TRUE(given([](Node x) { return (x | conv(4, 1)) + (x | conv(4, 1)); }));
  EXPECT_FALSE(given([](Node x) { return x | max_pool(2) | conv(4, 3); }));
  EXPECT_FALSE(given([](Node x) { return x + (x | conv(3, 3, {.padding = same})); }));
  EXPECT_FALSE(given([](Node x) { return x | depthwise_conv(3); })) << "a channel more would be a group more";
  EXPECT_FALSE(given([](Node x) { return x | flatten() | dense(3); }));
}

TEST(PlanTest, NothingBeforeTheFirstParameterNeedsAGradient) {
  const Graph graph = record([](Node x) { return x | max_pool(2) | conv(3, 3) | relu(); });
  const auto ops = lower(graph, {});
  EXPECT_EQ(needs_gradient(graph, ops, 4), (std::vector{false, false, true, true}));
}

}  // namespace
}  // namespace microtome
