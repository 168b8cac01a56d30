// What cuDNN would run, asked without a GPU: for descriptions of devices (devices/*.json) it ranks engines, checks their
// support and builds those that it ships compiled. Engines that it compiles at run time need a driver's library to be listed
// and a device to be built; the toolkit's stub of that library does for the list.
#include "kernels/cuda/conv.h"
#include "nets/nets.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
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

/// Every convolution of B2 and B6 once, at both sizes of image.
std::vector<ConvProblem> problems(int batch, Precision precision) {
  std::set<std::tuple<int, int, int, int, int>> seen;
  std::vector<ConvProblem> result;
  for (const std::string_view net : {"b2", "b6"}) {
    for (const int side : {96, 50}) {
      const Graph graph = find_network(net).build(side);
      for (const GraphOp& op : graph.ops()) {
        const auto* conv = std::get_if<Conv>(&op.kind);
        if (conv == nullptr) continue;
        Shape x = graph.ops()[static_cast<std::size_t>(op.inputs[0])].output, y = op.output;
        if (!seen.emplace(x.h, x.c, y.h, y.c, conv->window.kernel.h).second) continue;
        x.n = y.n = batch;
        const DType type = precision == Precision::bf16 ? DType::bf16 : DType::f32;
        result.push_back({.conv = *conv, .x = {x, type, packed(x)}, .y = {y, type, packed(y)}, .precision = precision});
      }
    }
  }
  return result;
}

using Case = std::tuple<std::string, int, Precision>;

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const auto& [device, batch, precision] = info.param;
  constexpr std::string_view precisions[] = {"f32", "tf32", "bf16"};
  return fmt::format("{}_{}_n{}", device, precisions[static_cast<int>(precision)], batch);
}

class CudnnPlanTest : public testing::TestWithParam<Case> {
 protected:
  CudnnPlanTest()
      : properties_(device_properties(text_of(fmt::format("{}/{}.json", DEVICES_FOLDER, std::get<0>(GetParam()))))),
        problems_(problems(std::get<1>(GetParam()), std::get<2>(GetParam()))) {}

  void SetUp() override {
    ASSERT_EQ(problems_.size(), 16u);  // 2 + 6 convolutions at 96 x 96, as many at 50 x 50
    if (!has_driver_library()) GTEST_SKIP() << "neither a driver nor the CUDA toolkit's stub of one: " << dlerror();
  }

  bool is_bf16() const { return std::get<2>(GetParam()) == Precision::bf16; }

  /// An engine that cuDNN ships compiled is built, or it has one to compile on the device.
  void expect_plan(const ConvProblem& problem) {
    SCOPED_TRACE(fmt::format("x {} y {} kernel {}x{} bias {} relu {} pass {}", to_string(problem.x.shape),
                             to_string(problem.y.shape), problem.conv.window.kernel.h, problem.conv.window.kernel.w,
                             problem.conv.bias, problem.conv.activation == Activation::relu, static_cast<int>(problem.pass)));
    const Target target{.properties = &properties_};
    const EngineLimits limits = limits_of(problem);
    for (const cudnnBackendHeurMode_t mode : heuristic_modes) {
      bool left_to_the_device = false;
      for (Candidate& candidate : Plan::candidates(target, operations_of(problem), limits, mode)) {
        left_to_the_device = left_to_the_device || candidate.runtime_compiled;
        if (!candidate.runtime_compiled && Plan::build(target, std::move(candidate), limits)) return;
      }
      if (left_to_the_device) return;
    }
    ADD_FAILURE() << "no engine that supports it, or none that builds";
  }

  Descriptor properties_;
  std::vector<ConvProblem> problems_;
};

TEST_P(CudnnPlanTest, ForwardRuns) {
  for (ConvProblem p : problems_) {
    p.conv.bias = false;
    expect_plan(p);
  }
}

TEST_P(CudnnPlanTest, ForwardFusesBiasAndRelu) {
  for (ConvProblem p : problems_) {
    p.conv.bias = true;
    expect_plan(p);
    p.conv.activation = Activation::relu;
    expect_plan(p);
  }
}

TEST_P(CudnnPlanTest, BackwardDataRuns) {
  for (ConvProblem p : problems_) {
    p.pass = ConvPass::backward_data;
    expect_plan(p);
  }
}

/// Not into images, whose three channels are no vector: nobody wants their gradient, still less twice.
TEST_P(CudnnPlanTest, BackwardDataAddsInBf16) {
  if (!is_bf16()) GTEST_SKIP() << "float32 is added by a kernel of ours";
  for (ConvProblem p : problems_) {
    p.pass = ConvPass::backward_data;
    p.adds = true;
    if (p.x.shape.c % 8 == 0) expect_plan(p);
  }
}

TEST_P(CudnnPlanTest, BackwardFilterRunsWithChannelsPaddedToVectorsInBf16) {
  for (ConvProblem p : problems_) {
    p.pass = ConvPass::backward_filter;
    expect_plan(is_bf16() && p.x.shape.c % 8 != 0 ? ways(p).at(1) : p);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, CudnnPlanTest,
                         testing::Combine(testing::Values("h200", "a100", "b200"), testing::Values(32, 256),
                                          testing::Values(Precision::f32, Precision::tf32, Precision::bf16)),
                         name_of);

TEST(CudnnPlanLimitsTest, Float32StaysAwayFromTensorCores) {
  const Descriptor properties = device_properties(text_of(std::string(DEVICES_FOLDER) + "/h200.json"));
  const ConvProblem problem = problems(32, Precision::f32).at(1);
  const auto engines = [&](bool tensor_cores) {
    return Plan::candidates({.properties = &properties}, operations_of(problem), {.tensor_cores = tensor_cores},
                            CUDNN_HEUR_MODE_A)
        .size();
  };
  EXPECT_GT(engines(false), 0u);
  EXPECT_LT(engines(false), engines(true));
}

}  // namespace
}  // namespace microtome::cuda
