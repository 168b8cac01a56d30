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

using Problems = std::map<std::string, ConvProblem>;  // by description: each once

/// What a program of this network asks cuDNN for, slices and folded batch-norms and all: while it trains, or frozen.
void collect(Problems& problems, Graph graph, Mode mode, int batch, Precision precision) {
  if (mode == Mode::evaluate) graph.freeze();
  std::vector<Shape> shapes;
  for (const GraphOp& op : graph.ops()) shapes.push_back(op.output);
  std::vector<PlannedOp> ops = lower(graph, {.mode = mode});
  fold_padding(graph, ops);
  fold_batch_norms(graph, ops);
  fuse_activations(ops, mode);
  copy_into_concats(ops, shapes);
  const std::vector<microtome::Place> places = place_values(ops, shapes);
  const std::vector<bool> needs = needs_gradient(graph, ops, shapes.size());
  const std::vector<std::vector<Write>> writes = gradient_writes(ops, places, shapes);
  const auto layout = [&](int value) {
    Shape own = shapes[static_cast<std::size_t>(value)];
    Shape root = shapes[static_cast<std::size_t>(places[static_cast<std::size_t>(value)].root)];
    own.n = root.n = batch;
    return Layout{own, precision == Precision::bf16 ? DType::bf16 : DType::f32, packed(root)};
  };
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto* conv = std::get_if<Conv>(&ops[i].kind);
    if (conv == nullptr || conv->groups > 1) continue;  // depthwise ones are kernels of ours
    const int input = ops[i].inputs[0];
    ConvProblem p{.conv = *conv, .x = layout(input), .y = layout(ops[i].output), .precision = precision};
    if (p.conv.activation != Activation::relu) p.conv.activation = Activation::none;  // declined
    problems.emplace(describe(p), p);
    if (mode != Mode::train) continue;
    p.conv.bias = false;
    p.conv.activation = Activation::none;
    p.pass = ConvPass::backward_filter;
    problems.emplace(describe(p), p);
    if (!needs[static_cast<std::size_t>(input)]) continue;
    p.pass = ConvPass::backward_data;
    p.adds = precision == Precision::bf16 && writes[i][0] == Write::accumulate;
    problems.emplace(describe(p), p);
  }
}

/// Every convolution of the twelve networks, at both sizes of image.
Problems problems(int batch, Precision precision) {
  Problems result;
  for (const Network& network : networks()) {
    for (const int side : {96, 50}) {
      if (network.name == "inception_v3" && side == 50) continue;  // its images have 75 pixels or more
      const Graph graph = network.build(side);
      for (const Mode mode : {Mode::train, Mode::evaluate}) collect(result, graph, mode, batch, precision);
    }
  }
  return result;
}

/// In bf16 cuDNN fuses by engines that it compiles at run time, and writes their sources to say whether it can: half a second
/// each.
bool is_slow(const ConvProblem& p) {
  return p.precision == Precision::bf16 && (p.conv.bias || p.adds || p.pass == ConvPass::backward_filter);
}

struct Device {
  std::string name;
  int batch;
  std::size_t every, every_slow;  // of the problems in the order of their descriptions; the first is always one
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
  bool has_plan(const ConvProblem& problem) const {
    const Target target{.properties = &properties_};
    const auto [key, graph, limits] = problem_of(problem, deterministic);
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      bool left_to_the_device = false;
      for (Candidate& candidate : candidates(target, graph(), limits, mode)) {
        left_to_the_device = left_to_the_device || candidate.runtime_compiled;
        if (!candidate.runtime_compiled && Plan::build(target, std::move(candidate), limits)) return true;
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
      const std::vector<ConvProblem> tries = ways(problem);
      EXPECT_TRUE(std::any_of(tries.begin(), tries.end(),
                              [&](const ConvProblem& way) { return way.x.dtype == problem.x.dtype && has_plan(way); }))
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
          const auto plan = Plan::build(target_, std::move(*again), limits);
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
  EXPECT_EQ(ways(problem).front().x.shape.c, 8);
  EXPECT_EQ(ways(problem).front().x.strides, image.strides);
  problem.alignment = 2;
  EXPECT_EQ(ways(problem).front().x.shape.c, 3);
  problem.alignment = 16;
  problem.conv.zero_padded_channels = false;
  EXPECT_EQ(ways(problem).front().x.shape.c, 3);
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
