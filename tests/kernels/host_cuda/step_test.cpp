// A training step of a small network with every structure that the twelve have, by the CUDA backend's ops as the planner puts
// them together: deferred batch-norms, slices, statistics from convolutions, streams. What single ops are held to stands in
// their own tests; here a row that reads the wrong memory shows.
#include "engine/model.h"
#include "engine/program.h"
#include "engine/random.h"
#include "kernels/harness.h"
#include "kernels/host_cuda/backend.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/concat.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/depthwise_conv.h"
#include "layers/dropout.h"
#include "layers/multiply.h"
#include "layers/pool.h"
#include "nets/nets.h"

#include <algorithm>
#include <cmath>

namespace microtome::test {
namespace {

Stage cbr(int filters, Extent kernel, Activation function = Activation::relu) {
  return
      [=](Node x) { return x | conv(filters, kernel, {.padding = same, .bias = false}) | batch_norm() | activation(function); };
}

/// [Tan2021]
Node mb_conv(Node x) {
  const Node y =
      x | cbr(32, 1, Activation::swish) | depthwise_conv(3, {.padding = same}) | batch_norm() | activation(Activation::swish);
  const Node gate = y | global_average_pool() | conv(8, 1, {.activation = Activation::swish}) |
                    conv(32, 1, {.activation = Activation::sigmoid});
  return (multiply(y, gate) | conv(24, 1, {.bias = false}) | batch_norm() | dropout(0.2f, {.per_image = true})) + x;
}

/// [He2016]
Node bottleneck(Node x) {
  const Node y = x | cbr(16, 1) | cbr(16, 3) | conv(40, 1, {.bias = false}) | batch_norm();
  return ((x | conv(40, 1, {.bias = false}) | batch_norm()) + y) | relu();
}

/// [Huang2017]
Node dense_layer(Node x) {
  return concat({x, x | batch_norm() | relu() | cbr(16, 1) | conv(8, 3, {.padding = same, .bias = false})});
}

Graph small_network() {
  Graph graph;
  Node x = graph.input(16) | cbr(16, 3) | max_pool(2);
  x = x | depthwise_conv(3, {.padding = same}) | batch_norm() | activation(Activation::relu6) | cbr(24, 1, Activation::relu6);
  x = bottleneck(mb_conv(x));
  x = dense_layer(dense_layer(x)) | batch_norm() | relu() | conv(24, 1) | average_pool(2);
  x = concat({x | cbr(8, 1), x | cbr(8, 1) | cbr(16, {1, 3}), x | average_pool(3, {.stride = 1, .padding = same}) | cbr(8, 1)});
  graph.output(x | batch_norm() | relu() | global_average_pool() | dense(16) | relu() | logit());
  return graph;
}

struct Step {
  std::vector<float> gradients;
  int deferred = 0;  // batch-norms
};

Step step_on(Backend& backend) {
  constexpr int batch = 4;
  Model model(small_network(), backend);
  model.plan(std::vector<Model::Request>{{Mode::train, batch, batch}});
  model.initialize(3);
  Program& program = model.program(Mode::train, batch);
  EXPECT_EQ(program.logits().dtype, backend.parameter_type()) << "where bf16 computes, a loss is of logits in f32 all the same";
  std::vector<std::uint8_t> pixels(batch * 16 * 16 * 3), labels{0, 1, 1, 0};
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(random_word(5, 0, i) % 256);
  const Layout images{{batch, 16, 16, 3}, DType::u8};
  const Buffer on_device = backend.resident(pixels.data(), pixels.size()),
               of_labels = backend.resident(labels.data(), labels.size());
  const Buffer metrics = backend.allocate(sizeof(BatchMetrics));
  const auto gather = backend.gather({.images = batch, .batch_size = batch}, images, program.input());
  const auto recording = backend.record([&] {
    gather->forward({images, on_device.data()}, {{{1, 1, 1, batch}, DType::u8}, of_labels.data()}, model.device_state(),
                    program.input(), program.labels());
    program.forward();
    program.loss(static_cast<BatchMetrics*>(metrics.data()), nullptr);
    program.backward();
  });
  model.initialize(3);  // moving averages as well
  recording->run();
  const std::vector<PlannedOp>& ops = dynamic_cast<PlannedProgram&>(program).ops();
  return {model.gradients(), static_cast<int>(std::count_if(ops.begin(), ops.end(), is_deferred))};
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double off = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) off += std::pow(double{a[i]} - b[i], 2), size += std::pow(double{b[i]}, 2);
  return std::sqrt(off / size);
}

class StepTest : public testing::TestWithParam<Precision> {};

TEST_P(StepTest, BatchNormsThatReadersApplyAreAsGoodAsAppliedOnes) {
  Reference<double> reference;
  const Step exact = step_on(reference);
  const auto on_host = [](BackendOptions options) {
    return step_on(*make_host_cuda_backend(GetParam(), host_cuda::Order::ascending, options));
  };
  const Step applied = on_host({.defer = false}), deferred = on_host({}), in_order = on_host({.streams = 1});
  EXPECT_EQ(exact.deferred, 17);
  EXPECT_EQ(applied.deferred, 0);
  EXPECT_EQ(deferred.deferred, GetParam() == Precision::bf16 ? 13 : 7);
  EXPECT_LE(distance(deferred.gradients, exact.gradients), 1.25 * distance(applied.gradients, exact.gradients));
  EXPECT_EQ(in_order.gradients, deferred.gradients);
}

INSTANTIATE_TEST_SUITE_P(Precisions, StepTest, testing::Values(Precision::f32, Precision::bf16),
                         [](const auto& precision) { return precision.param == Precision::bf16 ? "bf16" : "f32"; });

/// What a training program of batch 32 on 96x96 in bf16 does with its batch-norms.
struct Norms {
  std::string_view network;
  int all, deferred, with_statistics;  // with_statistics: from the convolution before them
  double memory;                       // of the arena, beside the one without deferral; at most
};

TEST(EveryNetworkTest, DeferTheBatchNormsWhoseReadersAreKernelsOfOurs) {
  constexpr Norms table[] = {
      {"b2", 0, 0, 0, 1},
      {"b6", 6, 3, 0, 1.05},
      {"inception_v3", 94, 2, 14, 1.01},
      {"vgg19", 0, 0, 0, 1},
      {"resnet50", 53, 28, 14, 0.96},
      {"mobilenet", 27, 19, 18, 0.61},
      {"densenet121", 121, 62, 58, 0.55},
      {"densenet169", 169, 86, 82, 0.5},
      {"densenet201", 201, 102, 98, 0.45},
      {"efficientnet_v2_b0", 59, 54, 37, 0.7},
      {"efficientnet_v2_b1", 73, 68, 46, 0.7},
      {"efficientnet_v2_b2", 76, 71, 47, 0.7},
      {"p4m_densenet", 10, 1, 0, 1},
  };
  const Model::Request request{Mode::train, 32, 32};
  ASSERT_EQ(networks().size(), std::size(table));
  for (const Norms& expected : table) {
    SCOPED_TRACE(expected.network);
    const auto backend = make_host_cuda_backend(Precision::bf16, host_cuda::Order::ascending);
    const auto applying = make_host_cuda_backend(Precision::bf16, host_cuda::Order::ascending, {.defer = false});
    Model model(find_network(expected.network).build(96), *backend),
        applied(find_network(expected.network).build(96), *applying);
    model.plan({&request, 1});
    applied.plan({&request, 1});
    Norms found{expected.network, 0, 0, 0,
                static_cast<double>(model.arena_bytes()) / static_cast<double>(applied.arena_bytes())};
    for (const PlannedOp& op : dynamic_cast<PlannedProgram&>(model.program(request.mode, request.batch)).ops())
      if (const auto* norm = std::get_if<BatchNorm>(&op.kind))
        ++found.all, found.deferred += norm->deferred, found.with_statistics += norm->partial_statistics;
    EXPECT_EQ(found.all, expected.all);
    EXPECT_EQ(found.deferred, expected.deferred);
    EXPECT_EQ(found.with_statistics, expected.with_statistics);
    EXPECT_LE(found.memory, expected.memory);
  }
}

}  // namespace
}  // namespace microtome::test
