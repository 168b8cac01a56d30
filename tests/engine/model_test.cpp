// Whole small networks on the reference backend: gradients against finite differences in double, and what the planner's
// sharing of memory must not change.
#include "engine/model.h"

#include "engine/check.h"
#include "engine/random.h"
#include "kernels/backend.h"
#include "kernels/reference/reference.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/flatten.h"
#include "layers/normalization.h"
#include "layers/pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace microtome {
namespace {

Graph record(const std::function<Node(Node)>& stages, Extent image = 6) {
  Graph graph;
  graph.output(stages(graph.input(image)));
  return graph;
}

/// Fan-out, a residual, every in-place op, a fused and an unfused activation, pooling behind a relu.
Graph branching() {
  return record([](Node x) {
    const Node y = x | conv(4, 3, {.padding = same, .activation = Activation::relu}) | batch_norm() | dropout(0.25f);
    const Node z = y + (y | conv(4, 3, {.padding = same, .bias = false}) | batch_norm() | activation(Activation::swish));
    const Node pooled = (z | relu() | max_pool(2)) + (z | average_pool(2));
    return pooled | flatten() | dense(5) | batch_norm() | activation(Activation::sigmoid) | dropout(0.5f) | logit();
  });
}

struct Bench {
  std::unique_ptr<Backend> backend = make_backend("reference", Precision::f32);
  Model model;
  Buffer metrics = backend->allocate(sizeof(BatchMetrics));
  int batch;

  explicit Bench(Graph graph, int images = 5, ModelOptions options = {})
      : model(std::move(graph), *backend, options), batch(images) {
    model.plan(std::vector<Model::Request>{{Mode::train, batch, batch}, {Mode::evaluate, batch, batch}});
    model.initialize(3);
    for (const Mode mode : {Mode::train, Mode::evaluate}) fill(model.program(mode, batch));
  }

  void fill(Program& program) {
    std::vector<double> x(program.input().shape.count()), y(batch);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = unit_float(random_word(11, 0, i)) - 0.5;
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<double>(i % 2);
    backend->write(program.input().data, x.data(), x.size() * sizeof(double));
    backend->write(program.labels().data, y.data(), y.size() * sizeof(double));
  }

  double loss(Mode mode = Mode::train) {
    Program& program = model.program(mode, batch);
    program.forward();
    program.loss(static_cast<BatchMetrics*>(metrics.data()), nullptr);
    BatchMetrics result;
    backend->read(&result, metrics.data(), sizeof result);
    return result.loss;
  }
};

TEST(GraphTest, MultiplyAddsAreThoseOfEachPixel) {
  const Graph graph = record([](Node x) { return x | conv(2, 1); }, {4, 6});
  EXPECT_EQ(graph.macs(), 4 * 6 * 2 * 3);
}

TEST(ModelTest, GradientsOfABranchingNetworkMatchFiniteDifferences) {
  Bench bench(branching());
  bench.loss();
  bench.model.program(Mode::train, bench.batch).backward();
  const std::vector<float> gradients = bench.model.gradients();
  const std::vector<float> weights = bench.model.weights();
  // Batch statistics do not depend on the moving ones, so the loss is a function of the trainable weights alone.
  const auto slope = [&](std::size_t i, float h) {
    std::vector<float> moved = weights;
    moved[i] = weights[i] + h;
    const double above = moved[i];
    bench.model.set_weights(moved);
    const double up = bench.loss();
    moved[i] = weights[i] - h;
    const double below = moved[i];
    bench.model.set_weights(moved);
    return (up - bench.loss()) / (above - below);
  };
  std::size_t begin = 0;
  for (const Parameter& parameter : bench.model.graph().parameters()) {
    const auto count = static_cast<std::size_t>(parameter.shape.count());
    for (std::size_t i = begin; parameter.trainable && i < begin + count; i += 1 + count / 9) {
      const float h = 0x1p-18f;  // small enough that no relu changes its mind
      const double coarse = slope(i, 2 * h), fine = slope(i, h);
      const double extrapolated = (4 * fine - coarse) / 3;
      // Richardson: what is left is well under what the last halving changed, but for the rounding of two losses of about 1,
      // accumulated over some hundred terms; gradients() rounds to float.
      const double rounding = 100 * std::numeric_limits<double>::epsilon() / h;
      const double bound = std::abs(fine - coarse) + std::abs(gradients[i]) * std::numeric_limits<float>::epsilon() + rounding;
      EXPECT_NEAR(gradients[i], extrapolated, bound) << full_name(bench.model.graph(), parameter) << " element " << i - begin;
    }
    begin += count;
  }
}

TEST(ModelTest, EveryTrainableParameterGetsAGradient) {
  Bench bench(branching());
  bench.loss();
  bench.model.program(Mode::train, bench.batch).backward();
  const std::vector<float> gradients = bench.model.gradients();
  std::size_t begin = 0;
  for (const Parameter& parameter : bench.model.graph().parameters()) {
    double sum = 0;
    for (std::int64_t i = 0; i < parameter.shape.count(); ++i) sum += std::abs(gradients[begin++]);
    EXPECT_EQ(sum > 0, parameter.trainable) << full_name(bench.model.graph(), parameter);
  }
}

TEST(ModelTest, AnEvaluationDoesNotChangeTheModel) {
  Bench bench(branching());
  const std::vector<float> before = bench.model.weights();
  bench.loss(Mode::evaluate);
  EXPECT_EQ(bench.model.weights(), before);
  bench.loss(Mode::train);
  EXPECT_NE(bench.model.weights(), before);  // moving statistics
}

TEST(ModelTest, TheSameStepTwiceGivesTheSameBits) {
  std::vector<float> results[2];
  for (std::vector<float>& result : results) {
    Bench bench(branching());
    bench.loss();
    bench.model.program(Mode::train, bench.batch).backward();
    bench.model.update();
    result = bench.model.weights();
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(ModelTest, WeightsAndMomentsReadBackAsWritten) {
  Bench bench(branching());
  std::vector<float> weights = bench.model.weights();
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i) * 0.5f;
  bench.model.set_weights(weights);
  EXPECT_EQ(bench.model.weights(), weights);
  std::vector<float> moments(weights.size());
  std::size_t i = 0;
  for (const Parameter& parameter : bench.model.graph().parameters())
    for (std::int64_t k = 0; k < parameter.shape.count(); ++k, ++i)
      moments[i] = parameter.trainable ? static_cast<float>(i) : 0;
  const std::vector<float> zeros(weights.size());
  bench.model.set_moments(moments, zeros);
  auto begin = moments.begin();
  for (int p = 0; p < static_cast<int>(bench.model.graph().parameters().size()); ++p) {
    const auto end = begin + bench.model.graph().parameters()[p].shape.count();
    EXPECT_EQ(bench.model.first_moment(p), std::vector<float>(begin, end));
    EXPECT_EQ(bench.model.second_moment(p), std::vector<float>(end - begin));
    begin = end;
  }
}

TEST(ModelTest, KerasOrderOfAFilterIsRowsColumnsInputsOutputs) {
  const Graph graph = record([](Node x) { return x | conv(2, {1, 2}, {.bias = false}); });
  const Parameter& kernel = graph.parameters()[0];  // K 2, R 1, S 2, C 3
  std::vector<float> stored(12);
  for (int k = 0; k < 2; ++k)
    for (int s = 0; s < 2; ++s)
      for (int c = 0; c < 3; ++c) stored[(k * 2 + s) * 3 + c] = static_cast<float>(100 * k + 10 * s + c);
  const std::vector<float> keras = to_keras(kernel, stored);
  EXPECT_EQ(keras, (std::vector<float>{0, 100, 1, 101, 2, 102, 10, 110, 11, 111, 12, 112}));
  EXPECT_EQ(from_keras(kernel, keras), stored);
}

TEST(ModelTest, TheFirstRowThatIsNotFiniteIsNamed) {
  Bench bench(branching());
  const Graph& graph = bench.model.graph();
  const std::vector<float> good = bench.model.weights();
  std::size_t begin = 0;
  for (const Parameter& parameter : graph.parameters()) {
    std::vector<float> bad = good;
    bad[begin] = std::numeric_limits<float>::quiet_NaN();
    bench.model.set_weights(bad);
    EXPECT_EQ(bench.model.program(Mode::evaluate, bench.batch).first_not_finite(), full_name(graph, parameter));
    begin += static_cast<std::size_t>(parameter.shape.count());
  }
  bench.model.set_weights(good);
  EXPECT_EQ(bench.model.program(Mode::train, bench.batch).first_not_finite(), "");
}

/// The reference on a device with so much memory left.
struct SmallDevice final : Reference<double> {
  explicit SmallDevice(std::size_t bytes) : free_bytes(bytes) {}
  Device device() const override {
    Device device = Reference::device();
    device.available_bytes = free_bytes;
    return device;
  }
  std::size_t free_bytes;
};

TEST(ModelTest, ABatchThatDoesNotFitSaysWhichWould) {
  const auto next = [](Backend& backend, int batch) -> std::string {
    Model model(branching(), backend);
    try {
      model.plan(
          std::vector<Model::Request>{{Mode::train, batch, batch}, {Mode::train, 3, batch}, {Mode::evaluate, batch, batch}});
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::memory);
      return error.report().next;
    }
  };
  for (const std::size_t bytes : {60'000, 200'000}) {
    SmallDevice device(bytes);
    const std::string says = next(device, 500);
    const int fits = std::stoi(says.substr(std::string("a batch size of ").size()));
    EXPECT_EQ(says, fmt::format("a batch size of {} would fit", fits));
    EXPECT_GT(fits, 3);
    EXPECT_EQ(next(device, fits), "");
    EXPECT_NE(next(device, fits + fits / 32 + 2), "") << fits << ", and a thirty-second is left free";
  }
  SmallDevice none(1000);
  EXPECT_NE(next(none, 4).find("more memory, or fewer images"), std::string::npos);
}

TEST(ModelTest, AProgramSaysWhereItsMemoryGoes) {
  const auto backend = make_backend("reference", Precision::f32);
  Model model(record([](Node x) {
                return x | conv(2, 3, {.padding = same, .bias = false, .name = "wide"}) | max_pool(2, {.name = "half"}) |
                       flatten() | logit();
              }),
              *backend);
  model.prepare(std::vector<Model::Request>{{Mode::train, 4, 4}});
  EXPECT_EQ(model.arena_bytes(), 0u) << "nothing is allocated";
  const ProgramMemory memory = model.program(Mode::train, 4).memory();
  const auto row = [&](std::string_view name) {
    return *std::find_if(memory.rows.begin(), memory.rows.end(), [&](const auto& r) { return r.name == name; });
  };
  const std::size_t wide = 4 * 6 * 6 * 2 * sizeof(double), half = wide / 4;
  EXPECT_EQ(row("wide").passing + row("wide").kept, wide);
  EXPECT_EQ(row("wide").gradients, wide);
  EXPECT_EQ(row("half").kept, half) << "the dense layer's gradient reads it";
  EXPECT_EQ(row("half").gradients, half);
  EXPECT_LT(memory.arena, memory.unshared);
}

TEST(ModelTest, AnErrorInAnOpNamesItsRowAndShapes) {
  try {
    record([](Node x) { return x | conv(4, 3) | conv(4, 5, {.name = "too_big"}); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(error.report().where.find("too_big"), std::string::npos);
    EXPECT_EQ(error.report().found, "4x4");
  }
}

/// Convolutions with and without a bias, a dense layer, gamma and none, each before a batch-norm.
Graph normalised() {
  return record([](Node x) {
    return x | conv(4, 3, {.bias = false}) | batch_norm() | relu() | conv(3, 2) | batch_norm({.scale = false}) | flatten() |
           dense(5) | batch_norm() | logit();
  });
}

TEST(ModelTest, SeveralNormalisationsOfTheImageBecomeOne) {
  Bench bench(record([](Node x) { return x | rescaling(10) | normalization({1, 2, 3}, {4, 5, 6}) | flatten() | logit(); }));
  const Normalize all = bench.model.program(Mode::evaluate, 5).normalization();
  EXPECT_EQ(all.mean, (std::array{10.f, 20.f, 30.f})) << "of x, where 1, 2 and 3 are of x / 10";
  EXPECT_EQ(all.divisor, (std::array{40.f, 50.f, 60.f}));
}

TEST(ModelTest, ASideOfAnAdditionThatIsAddedToCostsItsReadingToo) {
  Bench bench(record([](Node x) {
    const Node y = x | conv(4, 1), sum = (x | conv(4, 1)) + y;  // backward comes to the addition when y's gradient has begun
    return (sum + (y | conv(4, 1))) | flatten() | logit();
  }));
  const double tensor = 5 * 6 * 6 * 4 * sizeof(double);
  int added = 0;
  for (const ScopedCost& one : bench.model.program(Mode::train, 5).step_costs()) {
    if (one.scope != Scope{"add", Pass::backward}) continue;
    EXPECT_EQ(one.cost.bytes, 3 * tensor) << "dy, and y's gradient twice; the other side's is dy";
    ++added;
  }
  EXPECT_EQ(added, 1);
}

TEST(ModelTest, AFrozenNetworkWithFoldedBatchNormsGivesTheSameLogits) {
  Graph graph = normalised();
  graph.freeze();
  Bench folded(std::move(graph)), plain(normalised());
  for (const std::uint64_t draw : {1, 2}) {  // the second set of weights comes after folding: it must be folded again
    std::vector<float> weights(plain.model.weights().size());
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.5f + unit_float(random_word(draw, 0, i));
    for (Bench* bench : {&folded, &plain}) {
      bench->model.set_weights(weights);
      bench->loss(Mode::evaluate);
    }
    const auto logits = [](Bench& bench) {
      std::vector<double> z(static_cast<std::size_t>(bench.batch));
      bench.backend->read(z.data(), bench.model.program(Mode::evaluate, bench.batch).logits().data, z.size() * sizeof(double));
      return z;
    };
    const std::vector<double> expected = logits(plain), found = logits(folded);
    for (std::size_t i = 0; i < found.size(); ++i) {
      // Folded weights are rounded to float; some hundred products of them make a logit.
      EXPECT_NEAR(found[i], expected[i], 200 * std::numeric_limits<float>::epsilon() * std::abs(expected[i]));
      EXPECT_NE(found[i], expected[i]) << "nothing was folded";
    }
  }
}

}  // namespace
}  // namespace microtome
