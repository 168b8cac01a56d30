// What cuDNN would run, asked without a GPU: for descriptions of devices (devices/*.json) it ranks engines, checks their
// support and builds those that it ships compiled. Engines that it compiles at run time need a driver's library to be listed
// and a device to be built; the toolkit's stub of that library does for the list.
#include "engine/plan.h"
#include "kernels/cuda/conv.h"
#include "nets/nets.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace microtome::cuda {
namespace {

/// A driver, or the toolkit's stub of one, under the name by which cuDNN will ask for it.
bool has_driver_library() {
  static void* library = [] {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    return driver != nullptr ? driver : dlopen(CUDA_STUB, RTLD_NOW | RTLD_GLOBAL);
  }();
  return library != nullptr;
}

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

constexpr bool deterministic = true;  // the fewest engines

std::string describe(const ConvProblem& p) {
  return problem_of(p, deterministic).key;
}

/// A network's ops while it trains, or frozen, as far as they decide what cuDNN is asked for: slices and folded batch-norms and
/// all.
struct Program {
  Program(Graph network, Mode its_mode, int images, Precision its_precision)
      : graph(std::move(network)), mode(its_mode), batch(images), precision(its_precision) {
    if (mode == Mode::evaluate) graph.freeze();
    for (const GraphOp& op : graph.ops()) shapes.push_back(op.output);
    ops = lower(graph, {.mode = mode});
    fold_padding(graph, ops);
    fold_batch_norms(graph, ops);
    fuse_activations(ops, mode);
    copy_into_concats(ops, shapes);
    aliases = alias_values(ops, shapes);
  }

  Layout layout(int value) const {
    Shape own = shapes[static_cast<std::size_t>(value)];
    Shape root = shapes[static_cast<std::size_t>(aliases[static_cast<std::size_t>(value)].root)];
    if (own.h != root.h || own.w != root.w) root = own;  // the whole of it under another shape
    own.n = root.n = batch;
    return {own, precision == Precision::bf16 ? DType::bf16 : DType::f32, packed(root)};
  }

  Graph graph;
  Mode mode;
  int batch;
  Precision precision;
  std::vector<Shape> shapes;
  std::vector<PlannedOp> ops;
  std::vector<microtome::Alias> aliases;
};

/// The networks at both sizes of image.
std::vector<Program> programs(Mode mode, int batch, Precision precision) {
  std::vector<Program> result;
  for (const Network& network : networks()) {
    for (const int side : {96, 50}) {
      if (network.name == "inception_v3" && side == 50) continue;  // its images have 75 pixels or more
      result.emplace_back(network.build(side), mode, batch, precision);
    }
  }
  return result;
}

using Problems = std::map<std::string, ConvProblem>;  // by description: each once

void collect(Problems& problems, const Program& program) {
  const std::vector<PlannedOp>& ops = program.ops;
  const std::vector<bool> needs = needs_gradient(program.graph, ops, program.shapes.size());
  const std::vector<std::vector<Write>> writes = gradient_writes(ops, program.aliases, program.shapes);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto* conv = std::get_if<Conv>(&ops[i].kind);
    if (conv == nullptr || conv->groups > 1) continue;  // depthwise ones are kernels of ours
    const int input = ops[i].inputs[0];
    ConvProblem p{
        .conv = *conv, .x = program.layout(input), .y = program.layout(ops[i].output), .precision = program.precision};
    if (p.conv.activation != Activation::relu) p.conv.activation = Activation::none;  // declined
    problems.emplace(describe(p), p);
    if (program.mode != Mode::train) continue;
    p.conv.bias = false;
    p.conv.activation = Activation::none;
    p.pass = ConvPass::backward_filter;
    problems.emplace(describe(p), p);
    if (!needs[static_cast<std::size_t>(input)]) continue;
    p.pass = ConvPass::backward_data;
    p.adds = program.precision == Precision::bf16 && writes[i][0] == Write::accumulate;
    problems.emplace(describe(p), p);
  }
}

/// Every convolution.
Problems problems(int batch, Precision precision) {
  Problems result;
  for (const Mode mode : {Mode::train, Mode::evaluate})
    for (const Program& program : programs(mode, batch, precision)) collect(result, program);
  return result;
}

/// In bf16 cuDNN fuses by engines that it compiles at run time, and writes their sources to say whether it can: half a second
/// each.
bool is_slow(const ConvProblem& p) {
  return p.precision == Precision::bf16 && (p.conv.bias || p.adds || p.pass == ConvPass::backward_filter);
}

// Batch-norms as graphs of cuDNN's. Kernels of our own run them: this says against which of these cuDNN has engines.

enum class NormPass { forward, backward };

/// In the backward pass x and y also stand for their gradients, which lie as they do.
struct NormCase {
  Activation activation = Activation::none;
  Layout x, y;
  NormPass pass = NormPass::forward;
};

/// An operation graph round x, whose tensors number themselves.
class NormGraph {
 public:
  explicit NormGraph(const Layout& x) : x_(x) {}

  const Descriptor& in_memory(const Layout& layout) { return add(spec_of(0, layout, alignment)); }

  /// Its strides are x's, since cuDNN lets no batch-norm change them.
  const Descriptor& between(DType type) {
    TensorSpec spec = spec_of(0, {x_.shape, type, x_.strides}, alignment);
    spec.is_virtual = true;
    return add(spec);
  }

  /// One number a channel.
  const Descriptor& vector() {
    const Shape channels{1, 1, 1, x_.shape.c};
    return in_memory({channels, DType::f32, packed(channels)});
  }

  const Descriptor& number() { return add({.alignment = sizeof(float), .by_value = true}); }

  Descriptor& forward(cudnnBackendNormFwdPhase_t phase) {
    Descriptor& step = norm(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_NORM_FWD_MODE);
    step.set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &phase);
    return step;
  }

  Descriptor& backward() { return norm(CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_NORM_BWD_MODE); }

  Descriptor& activation_step(Activation activation, NormPass pass) {
    const bool forward = pass == NormPass::forward;
    const cudnnPointwiseMode_t mode = [&] {
      switch (activation) {
        case Activation::relu:
        case Activation::relu6: return forward ? CUDNN_POINTWISE_RELU_FWD : CUDNN_POINTWISE_RELU_BWD;
        case Activation::swish: return forward ? CUDNN_POINTWISE_SWISH_FWD : CUDNN_POINTWISE_SWISH_BWD;
        case Activation::sigmoid: return forward ? CUDNN_POINTWISE_SIGMOID_FWD : CUDNN_POINTWISE_SIGMOID_BWD;
        case Activation::none: break;
      }
      return CUDNN_POINTWISE_IDENTITY;
    }();
    Descriptor& function = graph_.part(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    function.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    constexpr double most = 6;
    if (activation == Activation::relu6) function.set(CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, 1, &most);
    function.finalize();
    Descriptor& step = graph_.part(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    step.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
    return step;
  }

  void operation(Descriptor& step) {
    step.finalize();
    graph_.operation(step);
  }

  OperationGraph take() { return std::move(graph_); }

 private:
  static constexpr std::int64_t alignment = 16;

  const Descriptor& add(TensorSpec spec) {
    spec.id = ++last_;
    return graph_.tensor(spec);
  }

  Descriptor& norm(cudnnBackendDescriptorType_t type, cudnnBackendAttributeName_t mode_of_type) {
    constexpr cudnnBackendNormMode_t mode = CUDNN_BATCH_NORM;
    Descriptor& step = graph_.part(type);
    step.set(mode_of_type, CUDNN_TYPE_NORM_MODE, 1, &mode);
    return step;
  }

  Layout x_;
  std::int64_t last_ = 0;
  OperationGraph graph_;
};

OperationGraph forward_graph(const NormCase& p) {
  NormGraph graph(p.x);
  const bool activates = p.activation != Activation::none;
  const Descriptor& y = graph.in_memory(p.y);
  const Descriptor& normalised = activates ? graph.between(DType::f32) : y;
  Descriptor& norm = graph.forward(CUDNN_NORM_FWD_TRAINING);
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, graph.in_memory(p.x));
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, graph.number());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC, graph.number());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, normalised);
  graph.operation(norm);
  if (activates) {
    Descriptor& step = graph.activation_step(p.activation, p.pass);
    step.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, normalised);
    step.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    graph.operation(step);
  }
  return graph.take();
}

/// What went into the activation is made again from x and the saved statistics. cuDNN matches this only where it is normalised
/// by an operation in the inference phase and the gradient that comes out of the activation has x's type.
OperationGraph backward_graph(const NormCase& p) {
  NormGraph graph(p.x);
  const Descriptor& x = graph.in_memory(p.x);
  const Descriptor& mean = graph.vector();
  const Descriptor& inverse_deviation = graph.vector();
  const Descriptor& scale = graph.vector();
  const Descriptor* gradient = &graph.in_memory(p.y);
  if (p.activation != Activation::none) {
    const Descriptor& normalised = graph.between(DType::f32);
    Descriptor& again = graph.forward(CUDNN_NORM_FWD_INFERENCE);
    again.set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, x);
    again.set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, mean);
    again.set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, inverse_deviation);
    again.set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, scale);
    again.set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, graph.vector());
    again.set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, normalised);
    graph.operation(again);
    const Descriptor& before = graph.between(p.x.dtype);
    Descriptor& step = graph.activation_step(p.activation, p.pass);
    step.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, normalised);
    step.set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, *gradient);
    step.set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, before);
    graph.operation(step);
    gradient = &before;
  }
  Descriptor& norm = graph.backward();
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, x);
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, mean);
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, inverse_deviation);
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, *gradient);
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, scale);
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, graph.vector());
  norm.set(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, graph.in_memory(p.x));
  graph.operation(norm);
  return graph.take();
}

std::string_view behind_the_norm(Activation function) {
  switch (function) {
    case Activation::none: return "";
    case Activation::relu: return " relu";
    case Activation::relu6: return " relu6";
    case Activation::swish: return " swish";
    case Activation::sigmoid: return " sigmoid";
  }
  return " ?";
}

Problem norm_problem(const NormCase& p) {
  const auto tensor = [](const Layout& t) {
    return fmt::format("{} {} by {},{},{}", name(t.dtype), to_string(t.shape), t.strides.n, t.strides.h, t.strides.w);
  };
  const bool forward = p.pass == NormPass::forward;
  return {.key = fmt::format("batch norm {}{} x {} y {}", forward ? "forward" : "backward", behind_the_norm(p.activation),
                             tensor(p.x), tensor(p.y)),
          .graph = [p, forward] { return forward ? forward_graph(p) : backward_graph(p); },
          .limits = {.tensor_cores = false, .deterministic = deterministic}};
}

/// As wanted, or backward on packed copies of x and dx: cuDNN 9.19 makes no activation again from a slice.
std::vector<NormCase> norm_ways(const NormCase& wanted) {
  std::vector<NormCase> result{wanted};
  if (wanted.pass == NormPass::backward) result.emplace_back(wanted).x.strides = packed(wanted.x.shape);
  return result;
}

/// Every batch-norm of a batch's statistics, those too that readers apply or that share statistics.
std::map<std::string, NormCase> norm_cases(int batch, Precision precision) {
  std::map<std::string, NormCase> result;
  for (const Program& program : programs(Mode::train, batch, precision)) {
    for (const PlannedOp& op : program.ops) {
      const auto* norm = std::get_if<BatchNorm>(&op.kind);
      if (norm == nullptr || !norm->batch_statistics) continue;
      NormCase p{.activation = norm->activation, .x = program.layout(op.inputs[0]), .y = program.layout(op.output)};
      for (const NormPass pass : {NormPass::forward, NormPass::backward}) {
        p.pass = pass;
        result.emplace(norm_problem(p).key, p);
      }
    }
  }
  return result;
}

struct Device {
  std::string name;
  int batch;
  std::size_t every, every_slow = 1;  // of the problems in the order of their descriptions; the first is always one
};

void PrintTo(const Device& device, std::ostream* out) {
  *out << device.name;
}

using Case = std::tuple<Device, Precision>;

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const auto& [device, precision] = info.param;
  constexpr std::string_view precisions[] = {"f32", "tf32", "bf16"};
  return fmt::format("{}_{}_n{}", device.name, precisions[static_cast<int>(precision)], device.batch);
}

class CudnnPlanTest : public testing::TestWithParam<Case> {
 protected:
  CudnnPlanTest() : properties_(device_properties(text_of(fmt::format("{}/{}.json", DEVICES_FOLDER, device().name)))) {}

  void SetUp() override {
    if (!has_driver_library()) GTEST_SKIP() << "neither a driver nor the CUDA toolkit's stub of one: " << dlerror();
  }

  static const Device& device() { return std::get<0>(GetParam()); }

  /// An engine that cuDNN ships compiled is built, or it has one to compile on the device.
  bool has_plan(const Problem& problem) const {
    const Target target{.properties = &properties_};
    const auto& [key, graph, limits] = problem;
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      bool left_to_the_device = false;
      for (Candidate& candidate : candidates(target, graph(), limits, mode)) {
        left_to_the_device = left_to_the_device || candidate.runtime_compiled;
        if (!candidate.runtime_compiled && ExecutionPlan::build(target, std::move(candidate), limits)) return true;
      }
      if (left_to_the_device) return true;
    }
    return false;
  }

  /// As wanted, or on packed and padded copies, but never in another type.
  void expect_plans(ConvPass pass) {
    std::size_t number = 0, slow = 0, asked = 0;
    for (const auto& [description, problem] : problems(device().batch, std::get<1>(GetParam()))) {
      if (problem.pass != pass) continue;
      const bool is_sampled = is_slow(problem) ? slow++ % device().every_slow == 0 : number++ % device().every == 0;
      if (!is_sampled && std::getenv("MICROTOME_ALL_PLANS") == nullptr) continue;
      ++asked;
      const std::vector<ConvProblem> tries = alternatives(problem);
      EXPECT_TRUE(std::any_of(
          tries.begin(), tries.end(),
          [&](const ConvProblem& way) { return way.x.dtype == problem.x.dtype && has_plan(problem_of(way, deterministic)); }))
          << "no engine that supports it, or none that builds: " << description;
    }
    EXPECT_GT(asked, 0u);
  }

  Descriptor properties_;
};

TEST_P(CudnnPlanTest, ForwardRuns) {
  expect_plans(ConvPass::forward);
}

TEST_P(CudnnPlanTest, BackwardDataRuns) {
  expect_plans(ConvPass::backward_data);
}

TEST_P(CudnnPlanTest, BackwardFilterRuns) {
  expect_plans(ConvPass::backward_filter);
}

/// All problems of one device, but those that are slow to ask for; a sample of these and of the other devices'. All of all
/// devices with MICROTOME_ALL_PLANS set.
INSTANTIATE_TEST_SUITE_P(Devices, CudnnPlanTest,
                         testing::Combine(testing::Values(Device{"h200", 32, 1, 24}, Device{"a100", 256, 6, 96},
                                                          Device{"b200", 256, 6, 96}),
                                          testing::Values(Precision::f32, Precision::tf32, Precision::bf16)),
                         name_of);

class CudnnBatchNormPlanTest : public CudnnPlanTest {
 protected:
  void expect_plans(NormPass pass) {
    std::size_t number = 0, asked = 0;
    for (const auto& [description, wanted] : norm_cases(device().batch, std::get<1>(GetParam()))) {
      if (wanted.pass != pass) continue;
      if (number++ % device().every != 0 && std::getenv("MICROTOME_ALL_PLANS") == nullptr) continue;
      ++asked;
      const std::vector<NormCase> tries = norm_ways(wanted);
      EXPECT_TRUE(std::any_of(tries.begin(), tries.end(), [&](const NormCase& way) { return has_plan(norm_problem(way)); }))
          << "no engine that supports it, or none that builds: " << description;
    }
    EXPECT_GT(asked, 0u);
  }
};

TEST_P(CudnnBatchNormPlanTest, ForwardRuns) {
  expect_plans(NormPass::forward);
}

TEST_P(CudnnBatchNormPlanTest, BackwardRuns) {
  expect_plans(NormPass::backward);
}

TEST_P(CudnnBatchNormPlanTest, ChannelsThatDoNotFillVectorsAreRefused) {
  const DType type = std::get<1>(GetParam()) == Precision::bf16 ? DType::bf16 : DType::f32;
  const int vector = type == DType::bf16 ? 8 : 4;
  for (const NormPass pass : {NormPass::forward, NormPass::backward})
    for (const int channels : {8 * vector, 8 * vector + vector / 2}) {
      const Layout layout{{device().batch, 24, 24, channels}, type};
      const Problem problem = norm_problem({Activation::relu, layout, layout, pass});
      EXPECT_EQ(has_plan(problem), channels % vector == 0) << problem.key;
    }
}

INSTANTIATE_TEST_SUITE_P(Devices, CudnnBatchNormPlanTest,
                         testing::Combine(testing::Values(Device{"h200", 32, 6}, Device{"a100", 256, 36},
                                                          Device{"b200", 256, 36}),
                                          testing::Values(Precision::f32, Precision::bf16)),
                         name_of);

/// What a line of the plan cache rests on.
class EngineChoiceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_driver_library()) GTEST_SKIP() << "neither a driver nor the CUDA toolkit's stub of one: " << dlerror();
  }

  static Problem problem(ConvPass pass, DType type) {
    const Layout layout{{32, 24, 24, 64}, type};
    const Precision precision = type == DType::bf16 ? Precision::bf16 : Precision::f32;
    return problem_of({.conv = {.window = {.kernel = 3, .before = 1, .after = 1}},
                       .x = layout,
                       .y = layout,
                       .precision = precision,
                       .pass = pass},
                      deterministic);
  }

  const Descriptor properties_ = device_properties(text_of(std::string(DEVICES_FOLDER) + "/h200.json"));
  const Target target_{.properties = &properties_};
};

/// bf16's filter gradients are fused, so that theirs are compiled at run time and cannot be built here.
TEST_F(EngineChoiceTest, APlanThatWasWrittenDownIsBuiltAgain) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const ConvPass pass : {ConvPass::forward, ConvPass::backward_data, ConvPass::backward_filter}) {
      const auto [key, graph, limits] = problem(pass, type);
      SCOPED_TRACE(key);
      std::size_t built = 0, knobs = 0;
      for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B}) {
        for (const Candidate& wanted : candidates(target_, graph(), limits, mode)) {
          const auto line = parsed_line(line_of(key, {wanted.choice(), 0, 1.5}));
          ASSERT_TRUE(line);
          auto again = candidate(target_, graph(), limits, line->second.choice);
          ASSERT_TRUE(again) << line_of(key, {wanted.choice(), 0, 1.5});
          EXPECT_EQ(again->choice(), wanted.choice());
          EXPECT_EQ(again->runtime_compiled, wanted.runtime_compiled);
          knobs += wanted.choice().knobs.size();
          if (again->runtime_compiled) continue;
          const auto plan = ExecutionPlan::build(target_, std::move(*again), limits);
          EXPECT_TRUE(plan) << line_of(key, {wanted.choice(), 0, 1.5});
          built += plan.has_value();
        }
      }
      EXPECT_GT(knobs, 0u);
      EXPECT_EQ(built > 0, type == DType::f32 || pass != ConvPass::backward_filter);
    }
}

TEST_F(EngineChoiceTest, AStaleChoiceIsNone) {
  const auto [key, graph, limits] = problem(ConvPass::forward, DType::bf16);
  const EngineChoice good = candidates(target_, graph(), limits, CUDNN_HEUR_MODE_A).at(0).choice();
  ASSERT_TRUE(candidate(target_, graph(), limits, good));
  EXPECT_FALSE(candidate(target_, graph(), limits, {100000, good.knobs}));
  EXPECT_FALSE(candidate(target_, graph(), limits, {-1, good.knobs}));
  EngineChoice unknown_knob = good;
  unknown_knob.knobs.emplace_back(100000, 1);
  EXPECT_FALSE(candidate(target_, graph(), limits, unknown_knob));
  EngineChoice odd_value = good;
  odd_value.knobs.at(0).second = 1 << 30;
  EXPECT_FALSE(candidate(target_, graph(), limits, odd_value));
}

TEST_F(EngineChoiceTest, WhatMaySumInAnyOrderIsLeftOutOnRequest) {
  const auto [key, graph, limits] = problem(ConvPass::backward_filter, DType::f32);
  const auto engines = [&](bool only_deterministic) {
    EngineLimits own = limits;
    own.deterministic = only_deterministic;
    return candidates(target_, graph(), own, CUDNN_HEUR_MODE_A).size();
  };
  EXPECT_GT(engines(true), 0u);
  EXPECT_LT(engines(true), engines(false));
}

TEST(ConvWaysTest, AnImageWithRoomForEightChannelsIsTakenAsSuch) {
  const Layout image{{4, 96, 96, 3}, DType::bf16, packed({4, 96, 96, 8})}, y{{4, 96, 96, 32}, DType::bf16};
  ConvProblem problem{.conv = {.window = {.kernel = 3, .before = 1, .after = 1}, .zero_padded_channels = true},
                      .x = image,
                      .y = y,
                      .precision = Precision::bf16};
  EXPECT_EQ(alternatives(problem).front().x.shape.c, 8);
  EXPECT_EQ(alternatives(problem).front().x.strides, image.strides);
  problem.alignment = 2;
  EXPECT_EQ(alternatives(problem).front().x.shape.c, 3);
  problem.alignment = 16;
  problem.conv.zero_padded_channels = false;
  EXPECT_EQ(alternatives(problem).front().x.shape.c, 3);
}

TEST(ConvWaysTest, ATensorLiesAtLeastAsItsTypeMust) {
  const Descriptor properties = device_properties(text_of(std::string(DEVICES_FOLDER) + "/h200.json"));
  const Layout layout{{4, 24, 24, 64}, DType::bf16};
  for (const ConvPass pass : {ConvPass::forward, ConvPass::backward_data, ConvPass::backward_filter}) {
    for (const bool adds : {false, true}) {
      const bool forward = pass == ConvPass::forward;
      if (adds && pass != ConvPass::backward_data) continue;
      const ConvProblem uneven{.conv = {.window = {.kernel = 3, .before = 1, .after = 1}, .bias = forward},
                               .x = layout,
                               .y = layout,
                               .precision = Precision::bf16,
                               .pass = pass,
                               .alignment = 2,
                               .adds = adds};
      std::size_t engines = 0;
      for (const ConvProblem& way : alternatives(uneven)) {
        const Problem problem = problem_of(way, false);
        for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
          engines += candidates({.properties = &properties}, problem.graph(), problem.limits, mode).size();
      }
      EXPECT_GT(engines, 0u) << static_cast<int>(pass) << (adds ? " adds" : "");
    }
  }
}

TEST(CudnnPlanLimitsTest, Float32StaysAwayFromTensorCores) {
  const Descriptor properties = device_properties(text_of(std::string(DEVICES_FOLDER) + "/h200.json"));
  const Layout layout{{32, 24, 24, 64}};
  const auto engines = [&](Precision precision) {
    const Problem problem = problem_of(
        {.conv = {.window = {.kernel = 3, .before = 1, .after = 1}}, .x = layout, .y = layout, .precision = precision},
        deterministic);
    return candidates({.properties = &properties}, problem.graph(), problem.limits, CUDNN_HEUR_MODE_A).size();
  };
  EXPECT_GT(engines(Precision::f32), 0u);
  EXPECT_LT(engines(Precision::f32), engines(Precision::tf32));
}

}  // namespace
}  // namespace microtome::cuda
