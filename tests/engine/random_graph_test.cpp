// Random networks of every kind of op, on the reference backend in double: the slope of the loss along a random direction is
// what the gradients say, whatever the planner fused, sliced, shared and copied.
#include "engine/model.h"
#include "engine/program.h"
#include "engine/random.h"
#include "kernels/reference/reference.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/concat.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/depthwise_conv.h"
#include "layers/dropout.h"
#include "layers/multiply.h"
#include "layers/p4m.h"
#include "layers/pool.h"
#include "layers/reshape.h"
#include "layers/zero_pad.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace microtome {
namespace {

class Dice {
 public:
  explicit Dice(int number) : number_(static_cast<std::uint64_t>(number)) {}
  int below(int count) { return static_cast<int>(random_word(number_, 4, index_++) % static_cast<std::uint32_t>(count)); }

 private:
  std::uint64_t number_, index_ = 0;
};

/// A dozen random stages, each on some node of the last few, then a head on all of them or, in odd graphs, on those that nobody
/// has read: others then lie in no concat, and share memory. All maps are 4x4.
Graph random_graph(int number) {
  Dice dice(number);
  Graph graph;
  std::vector<Node> nodes{graph.input(4) | conv(4, 3, {.padding = same})};
  std::vector<bool> is_read;
  const auto read = [&](std::size_t i) {
    is_read.resize(nodes.size());
    is_read[i] = true;
    return nodes[i];
  };
  const auto some = [&] {
    return read(nodes.size() - 1 - static_cast<std::size_t>(dice.below(std::min<int>(4, static_cast<int>(nodes.size())))));
  };
  const auto some_of = [&](int channels) {
    for (std::size_t i = nodes.size(); i-- > 0;)
      if (nodes[i].shape().c == channels && dice.below(2) == 0) return read(i);
    return some() | conv(channels, 1);
  };
  const auto any_of_them = [&] {
    constexpr Activation all[] = {Activation::none, Activation::relu, Activation::swish, Activation::sigmoid};
    return all[dice.below(4)];
  };
  for (int i = 0; i < 12; ++i) {
    const Node x = some();
    switch (dice.below(21)) {
      case 0: nodes.push_back(x | conv(1 + dice.below(5), 1)); break;
      case 1: nodes.push_back(x | conv(4, 3, {.padding = same, .bias = false, .activation = Activation::relu})); break;
      case 2: nodes.push_back(x | zero_pad(zeros(1)) | depthwise_conv(3)); break;
      case 3: nodes.push_back(x | batch_norm()); break;
      case 4: nodes.push_back(x | batch_norm({.scale = false}) | activation(Activation::swish)); break;
      case 5: nodes.push_back(x | activation(dice.below(2) ? Activation::relu : Activation::sigmoid)); break;
      case 6: nodes.push_back(x | average_pool(3, {.stride = 1, .padding = same})); break;
      case 7: nodes.push_back(x | dropout(0.3f, {.per_image = dice.below(2) == 0})); break;
      case 8: nodes.push_back(x + some_of(x.shape().c)); break;
      case 9: nodes.push_back((x + some_of(x.shape().c)) | relu()); break;
      case 10: nodes.push_back(concat({x, some()})); break;
      case 11:
        nodes.push_back(multiply(x, x | global_average_pool() | conv(x.shape().c, 1, {.activation = Activation::sigmoid})));
        break;
      case 12: nodes.push_back(x | batch_norm() | activation(any_of_them()) | conv(1 + dice.below(5), 1)); break;
      case 13:
        nodes.push_back(x | conv(4, 1) | batch_norm() | activation(any_of_them()) | zero_pad(zeros(1)) | depthwise_conv(3));
        break;
      case 14:
        nodes.push_back((x | conv(4, 1) | batch_norm() | dropout(0.3f)) + (some() | conv(4, 1) | batch_norm() | relu()));
        break;
      case 18: nodes.push_back(((x | conv(4, 1)) + (some() | conv(4, 1) | batch_norm() | relu())) | relu() | conv(3, 1)); break;
      case 19: nodes.push_back((x | conv(4, 1) | batch_norm() | relu() | dropout(0.3f)) | conv(3, 1)); break;
      case 15: {
        const Node y = x | batch_norm() | activation(any_of_them());
        nodes.push_back(multiply(y, y | global_average_pool() | conv(x.shape().c, 1)));
        break;
      }
      case 16:
        nodes.push_back(x | batch_norm() | activation(any_of_them()) | average_pool(3, {.stride = 1, .padding = same}));
        break;
      case 17: {  // a dense block's layer
        const Node y = concat({x, x | batch_norm() | relu() | conv(2, 1)});
        nodes.push_back(concat({y, y | batch_norm() | relu() | conv(2, 1)}));
        break;
      }
      case 20:  // over p4m and back
        nodes.push_back(x | p4m_lift(1 + dice.below(2), 3, {.padding = same}) | p4m_conv(1, 3, {.padding = same}) |
                        reshape({1, 4, 4, 8}));
        break;
    }
  }
  is_read.resize(nodes.size());
  std::vector<Node> ends;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (number % 2 == 0 || !is_read[i]) ends.push_back(nodes[i]);
  graph.output((ends.size() > 1 ? concat(ends) : ends[0]) | batch_norm() | relu() | max_pool(2) | global_average_pool() |
               logit());
  return graph;
}

/// The reference, planned for as if it ran several streams side by side.
class ManyStreamsReference final : public Reference<double> {
 public:
  explicit ManyStreamsReference(int streams) : streams_(streams) {}
  int streams() const override { return streams_; }

 private:
  int streams_;
};

struct Bench {
  static constexpr int batch = 3;
  std::unique_ptr<Backend> backend;
  Model model;
  Buffer metrics = backend->allocate(sizeof(BatchMetrics));

  explicit Bench(Graph graph, int streams = 1)
      : backend(std::make_unique<ManyStreamsReference>(streams)), model(std::move(graph), *backend) {
    model.plan(std::vector<Model::Request>{{Mode::train, batch, batch}});
    // Not initialize(): where dropout has left nothing, a bias of 0 sits on the kink of the next relu.
    std::vector<float> weights(static_cast<std::size_t>(model.graph().parameter_count()));
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 2 * unit_float(random_word(14, 0, i)) - 1;
    model.set_weights(weights);
    Program& program = model.program(Mode::train, batch);
    std::vector<double> x(static_cast<std::size_t>(program.input().shape.count())), y{0, 1, 1};
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = unit_float(random_word(12, 0, i)) - 0.5;
    backend->write(program.input().data, x.data(), x.size() * sizeof(double));
    backend->write(program.labels().data, y.data(), y.size() * sizeof(double));
  }

  double loss() {
    model.program(Mode::train, batch).forward();
    return loss_of_logits();
  }

  double loss_of_logits() {
    Program& program = model.program(Mode::train, batch);
    program.loss(static_cast<BatchMetrics*>(metrics.data()), nullptr);
    BatchMetrics result;
    backend->read(&result, metrics.data(), sizeof result);
    return result.loss;
  }
};

TEST(RandomGraphTest, TheGraphsHaveDeferredBatchNormsAndOthers) {
  int deferred = 0, applied = 0;
  for (int number = 0; number < 200; ++number) {
    const Graph graph = random_graph(number);
    std::vector<PlannedOp> ops = lower(graph, {});
    std::vector<Shape> shapes;
    for (const GraphOp& op : graph.ops()) shapes.push_back(op.output);
    fuse_activations(ops, Mode::train);
    copy_into_concats(ops, shapes);
    defer_batch_norms(ops, alias_values(ops, shapes), shapes, {});
    for (const PlannedOp& op : ops) {
      const auto* norm = std::get_if<BatchNorm>(&op.kind);
      if (norm) (norm->deferred ? deferred : applied)++;
    }
  }
  EXPECT_GT(deferred, 200);
  EXPECT_GT(applied, 100);
}

TEST(RandomGraphTest, TheSlopeAlongARandomDirectionIsWhatTheGradientsSay) {
  for (int number = 0; number < 200; ++number) {
    SCOPED_TRACE(fmt::format("random_graph({})", number));
    Bench bench(random_graph(number));
    bench.loss();
    bench.model.program(Mode::train, Bench::batch).backward();
    const std::vector<float> gradients = bench.model.gradients(), weights = bench.model.weights();
    struct Slope {
      double measured, predicted;
    };
    const auto slope = [&](float h) {
      std::vector<float> up = weights, down = weights;
      double predicted = 0;
      std::size_t i = 0;
      for (const Parameter& parameter : bench.model.graph().parameters())
        for (std::int64_t j = 0; j < parameter.shape.count(); ++j, ++i) {
          if (!parameter.trainable) continue;
          const float step = h * (2 * unit_float(random_word(13, 0, i)) - 1);
          up[i] += step, down[i] -= step;
          predicted += gradients[i] * (double{up[i]} - down[i]);
        }
      bench.model.set_weights(up);
      const double above = bench.loss();
      bench.model.set_weights(down);
      return Slope{(above - bench.loss()) / h, predicted / h};
    };
    const float h = 0x1p-19f;
    const Slope coarse = slope(2 * h), fine = slope(h);
    // What a halving of the step changed bounds what is left of the third derivative; gradients are rounded to float, losses
    // of about 1 to double.
    const double truncation = std::abs((fine.measured - fine.predicted) - (coarse.measured - coarse.predicted));
    double size = 0;
    for (const float g : gradients) size += std::abs(g);
    const double bound =
        truncation + size * std::numeric_limits<float>::epsilon() + 1000 * std::numeric_limits<double>::epsilon() / h;
    EXPECT_NEAR(fine.measured, fine.predicted, bound);
    EXPECT_GT(size, 0);
  }
}

/// Runs a pass in one of the orders that its streams and waits allow.
void run_in_some_order(const std::vector<PlannedProgram::Call>& pass, int streams, Dice& dice) {
  std::vector<bool> done(pass.size());
  const auto next_in = [&](int stream) -> std::size_t {
    std::size_t i = 0;
    while (i < pass.size() && (done[i] || pass[i].stream != stream)) ++i;
    return i;
  };
  for (std::size_t count = 0; count < pass.size(); ++count) {
    std::vector<std::size_t> ready;
    for (int stream = 0; stream < streams; ++stream) {
      const std::size_t i = next_in(stream);
      if (i < pass.size() && std::all_of(pass[i].waits_for.begin(), pass[i].waits_for.end(), [&](int j) { return done[j]; }))
        ready.push_back(i);
    }
    ASSERT_FALSE(ready.empty()) << "the streams wait for each other";
    const std::size_t i = ready[static_cast<std::size_t>(dice.below(static_cast<int>(ready.size())))];
    pass[i].run();
    done[i] = true;
  }
}

/// What a step is yet to write must not be read before.
void poison(const PlannedProgram& program) {
  for (const auto* pass : {&program.forward_pass(), &program.backward_pass()})
    for (const PlannedProgram::Call& call : *pass)
      for (const Tensor* t : call.writes) {
        if (!t || !t->data) continue;
        const Shape& s = t->shape;
        const std::int64_t last = (s.n - 1) * t->strides.n + (s.h - 1) * t->strides.h + (s.w - 1) * t->strides.w + s.c;
        std::fill_n(t->as<double>(), last, std::numeric_limits<double>::quiet_NaN());
      }
}

TEST(RandomGraphTest, WhateverOrderTheStreamsAllowGivesTheSameBits) {
  constexpr int streams = 4;
  std::size_t beside = 0;  // calls in other streams than the first
  for (int number = 0; number < 100; ++number) {
    SCOPED_TRACE(fmt::format("random_graph({})", number));
    Bench bench(random_graph(number), streams);
    const double loss = bench.loss();
    const auto& program = dynamic_cast<const PlannedProgram&>(bench.model.program(Mode::train, Bench::batch));
    bench.model.program(Mode::train, Bench::batch).backward();
    const std::vector<float> gradients = bench.model.gradients();
    for (const auto* pass : {&program.forward_pass(), &program.backward_pass()})
      beside +=
          static_cast<std::size_t>(std::count_if(pass->begin(), pass->end(), [](const auto& call) { return call.stream > 0; }));
    Dice dice(1000 + number);
    for (int order = 0; order < 5; ++order) {
      poison(program);
      run_in_some_order(program.forward_pass(), streams, dice);
      EXPECT_EQ(bench.loss_of_logits(), loss);
      run_in_some_order(program.backward_pass(), streams, dice);
      ASSERT_EQ(bench.model.gradients(), gradients);
    }
  }
  EXPECT_GT(beside, 1000u);
}

}  // namespace
}  // namespace microtome
