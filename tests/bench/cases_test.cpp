// A case of every op runs and is right; one that is broken on purpose is found out, and ends the program with 7.
#include "bench/cases.h"
#include "bench/case_name.h"
#include "bench/listing.h"
#include "bench/machine.h"
#include "bench/runner.h"
#include "engine/check.h"
#include "kernels/backend.h"
#include "kernels/host_cuda/backend.h"
#include "kernels/reference/reference.h"

#include <benchmark/benchmark.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>

namespace microtome::bench {
namespace {

constexpr int batch = 4;

double elements(const Problem& problem) {
  double sum = static_cast<double>(problem.output.count());
  for (const Shape& x : problem.inputs) sum += static_cast<double>(x.count());
  return sum;
}

/// Of each op its smallest problem that has some size, plain and deferred.
Problems representatives() {
  constexpr double some_size = 1000;
  std::map<std::string, Problem> smallest;
  for (const Problem& problem : enumerate({50}).all) {
    if (elements(problem) < some_size && problem.op != "loss" && problem.op != "dense") continue;
    const auto [found, fresh] = smallest.try_emplace(problem.op + (problem.deferred ? "/deferred" : ""), problem);
    if (!fresh && elements(problem) < elements(found->second)) found->second = problem;
  }
  Problems problems;
  for (auto& [op, problem] : smallest) problems.all.push_back(problem);
  return problems;
}

std::vector<Case> cases_of(Backend& backend, int factor_bits = 24) {
  std::vector<Case> cases = op_cases(representatives(), {"f32", factor_bits, {batch}, 100'000}, backend);
  std::erase_if(cases, [&](const Case& one) { return !one.exists(backend); });
  return cases;
}

struct Subject {
  const char* name;
  std::function<std::unique_ptr<Backend>()> make;
  int factor_bits = 24;
  bool defers = false;
};

class CasesTest : public testing::TestWithParam<Subject> {};

TEST_P(CasesTest, EveryOpIsRight) {
  const std::unique_ptr<Backend> backend = GetParam().make();
  const std::vector<Case> cases = cases_of(*backend, GetParam().factor_bits);
  EXPECT_GT(cases.size(), 40u);
  for (const Case& one : cases) {
    const Prepared prepared = one.prepare(*backend, true);
    EXPECT_EQ(prepared.checked.wrong, 0u) << one.name << ": " << prepared.checked.first;
    EXPECT_GT(prepared.checked.elements, 0u) << one.name;
    EXPECT_GT(prepared.cost.bytes, 0) << one.name;
    if (one.cold) {
      EXPECT_GE((prepared.instances.size() - 1) * prepared.bytes, 100'000u) << one.name << ": before an instance runs again";
    }
  }
}

TEST_P(CasesTest, ADeferredCaseStandsWhereTheBackendDefers) {
  const std::vector<Case> cases = cases_of(*GetParam().make());
  EXPECT_EQ(
      std::any_of(cases.begin(), cases.end(), [](const Case& one) { return one.name.find("/deferred") != std::string::npos; }),
      GetParam().defers);
}

using test::make_host_cuda_backend;
constexpr auto in_order = host_cuda::Order::ascending;

INSTANTIATE_TEST_SUITE_P(
    Backends, CasesTest,
    testing::Values(Subject{"reference", [] { return make_backend("reference", Precision::f32); }, 24, true},
                    Subject{"cpu", [] { return make_backend("cpu", Precision::f32); }},
                    Subject{"host_cuda_f32", [] { return make_host_cuda_backend(Precision::f32, in_order); }, 24, true},
                    Subject{"host_cuda_bf16", [] { return make_host_cuda_backend(Precision::bf16, in_order); }, 8, true}),
    [](const auto& subject) { return subject.param.name; });

TEST(CasesTest, TheLargeCaseIsThatOfTheLargestProblem) {
  Problems additions;
  double largest = 0;
  for (const Problem& problem : enumerate({50, 96}).all)
    if (problem.op == "add" && !problem.deferred) {
      additions.all.push_back(problem);
      largest = std::max(largest, elements(problem));
    }
  ASSERT_GT(additions.all.size(), 2u);
  Reference<double> backend;
  for (const bool reversed : {false, true}) {
    if (reversed) std::reverse(additions.all.begin(), additions.all.end());
    int large = 0;
    for (const Case& one : op_cases(additions, {"f32", 24, {batch}, 100'000}, backend)) {
      if (!one.name.starts_with("add_forward/") || !one.name.ends_with("/large")) continue;
      ++large;
      const auto chosen = std::find_if(additions.all.begin(), additions.all.end(), [&](const Problem& problem) {
        return one.name.starts_with("add_forward/" + problem.label + "/");
      });
      ASSERT_NE(chosen, additions.all.end()) << one.name;
      EXPECT_EQ(elements(*chosen), largest) << one.name;
    }
    EXPECT_EQ(large, 1);
  }
}

/// Adds a little to one element of what a convolution, an addition and a batch-norm write.
class Broken : public Reference<double> {
 public:
  std::unique_ptr<ConvOp> conv(const Conv& kind, const Layout& x, const Layout& y) override {
    struct Wrong final : ConvOp {
      std::unique_ptr<ConvOp> right;
      Reads backward_reads() const override { return right->backward_reads(); }
      std::string implementation() const override { return "broken"; }
      int sum_rows() const override { return right->sum_rows(); }
      int statistics_rows() const override { return right->statistics_rows(); }
      void forward(const Tensor& x, const Deferred* deferred, const Tensor& w, const Tensor* b, const Tensor& y,
                   const Tensor* statistics) override {
        right->forward(x, deferred, w, b, y, statistics);
        at<double>(y, y.shape.n - 1, 0, 0, y.shape.c - 1) += 1;
      }
      void backward_data(const Tensor& dy, const Tensor& w, const Deferred* deferred, const Tensor& dx, Write write) override {
        right->backward_data(dy, w, deferred, dx, write);
      }
      /// Forgets an image in the middle of the batch.
      void backward_filter(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dw, const Tensor* db,
                           Write write) override {
        double* image = &at<double>(dy, 1, 0, 0, 0);
        const std::vector<double> kept(image, image + dy.strides.n);
        std::fill_n(image, dy.strides.n, 0.0);
        right->backward_filter(x, deferred, dy, dw, db, write);
        std::copy(kept.begin(), kept.end(), image);
      }
    };
    auto wrong = std::make_unique<Wrong>();
    wrong->right = Reference<double>::conv(kind, x, y);
    return wrong;
  }

  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) override {
    struct Wrong final : BatchNormOp {
      std::unique_ptr<BatchNormOp> right;
      Reads backward_reads() const override { return right->backward_reads(); }
      std::string implementation() const override { return "broken"; }
      void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& mean, const Tensor& variance,
                   const Tensor* statistics, const Tensor* partial, const Tensor& y) override {
        right->forward(x, gamma, beta, mean, variance, statistics, partial, y);
      }
      void backward(const Tensor& x, const Tensor& dy, const Tensor* gamma, const Tensor& beta, const Tensor& dx,
                    const Tensor* dgamma, const Tensor& dbeta, Write write) override {
        right->backward(x, dy, gamma, beta, dx, dgamma, dbeta, write);
        at<double>(dx, 0, 0, 0, 0) += 1e-4;
      }
    };
    auto wrong = std::make_unique<Wrong>();
    wrong->right = Reference<double>::batch_norm(kind, x, y);
    return wrong;
  }
};

CheckResult check_of(const std::string& op_and_pass) {
  Broken backend;
  for (const Case& one : cases_of(backend))
    if (one.name.starts_with(op_and_pass + "/") && !one.name.ends_with("deferred")) return one.prepare(backend, true).checked;
  ADD_FAILURE() << "no case " << op_and_pass;
  return {};
}

TEST(CaseNameTest, SaysWhatItIsMadeOf) {
  const CaseName plain{"conv_backward_data", "resnet50@50:conv1_conv", "cuda", "bf16", "n64"};
  const CaseName chain{"chain_step", "resnet50:conv1_conv/fused", "cpu", "f32", "n2"};
  EXPECT_EQ(case_name(plain), "conv_backward_data/resnet50@50:conv1_conv/cuda/bf16/n64");
  EXPECT_EQ(plain.images(), 64);
  for (CaseName name : {plain, chain, CaseName{"adam_update", "b2:update", "cpu", "f32", "all"}})
    for (const bool deferred : {false, true})
      for (const bool cold : {false, true}) {
        name.deferred = deferred, name.cold = cold;
        EXPECT_EQ(case_name(case_name(name)), name) << case_name(name);
      }
  EXPECT_EQ((CaseName{.batch = "all"}).images(), 0);
  EXPECT_EQ((CaseName{.batch = "narrow"}).images(), 0);
  for (const char* text : {"", "cold", "deferred/cold", "conv_forward/net:row/cuda/n64"})
    EXPECT_EQ(case_name(std::string_view(text)), std::nullopt) << text;
}

TEST(CasesTest, ABatchNormOfFewPixelsIsRightInOddBatches) {
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  Problems problems;
  for (const Problem& problem : enumerate({50}).all)
    if (problem.op == "batch_norm" && problem.output.h * problem.output.w == 1 && !problem.deferred)
      problems.all.push_back(problem);
  ASSERT_FALSE(problems.all.empty());
  for (const Case& one : op_cases(problems, {"f32", 24, {3, 7, 9, 31}, 100'000}, *cpu)) {
    if (one.cold || one.judged) continue;
    const CheckResult checked = one.prepare(*cpu, true).checked;
    EXPECT_EQ(checked.wrong, 0u) << one.name << ": " << checked.first;
  }
}

TEST(BrokenTest, OneElementOfAnExactResultIsFound) {
  EXPECT_EQ(check_of("conv_forward").wrong, 1u);
  EXPECT_NE(check_of("conv_forward").first.find("y[n=3"), std::string::npos) << check_of("conv_forward").first;
}

TEST(BrokenTest, OneElementOfARoundedResultIsFound) {
  EXPECT_EQ(check_of("batch_norm_backward").wrong, 1u);
}

TEST(BrokenTest, AnImageThatIsLeftOutOfASumIsFound) {
  EXPECT_GT(check_of("conv_backward_filter").wrong, 0u);
}

TEST(BrokenTest, WhatIsRightBesideItPasses) {
  EXPECT_EQ(check_of("conv_backward_data").wrong, 0u);
  EXPECT_EQ(check_of("batch_norm_forward").wrong, 0u);
}

int exit_code(Backend& backend, const std::string& beginning, const Roofs& roofs = {1e9, 1e9, 1e9},
              const Running& running = {1}) {
  std::vector<Case> cases = cases_of(backend);
  std::erase_if(cases, [&](const Case& one) { return !one.name.starts_with(beginning); });
  EXPECT_FALSE(cases.empty()) << beginning;
  return run_cases(backend, cases, roofs, running);
}

TEST(BrokenTest, TheProgramEndsWithSeven) {
  Broken broken;
  EXPECT_EQ(exit_code(broken, "conv_forward"), 7);
  EXPECT_EQ(exit_code(broken, "conv_backward_data"), 0);
}

TEST(RunnerTest, RepetitionsAreCheckedOnceAndAStopLeavesOutTheRest) {
  Reference<double> backend;
  std::vector<Case> cases = cases_of(backend);
  cases.resize(2);
  int checks = 0, done = 0;
  for (Case& one : cases)
    one.prepare = [&checks, prepare = one.prepare](Backend& b, bool checked) {
      checks += checked;
      return prepare(b, checked);
    };
  Running running{.samples = 1, .progress = [&](int now, int) { done = now; }};
  EXPECT_EQ(run_cases(backend, cases, {1e9, 1e9, 1e9}, running), 0);
  EXPECT_EQ(checks, 2);
  EXPECT_EQ(done, 2);
  running.stop = [&] { return done == 1; };
  EXPECT_EQ(run_cases(backend, cases, {1e9, 1e9, 1e9}, running), 0);
  EXPECT_EQ(done, 1);
}

TEST(RunnerTest, AColdCaseIsHeldAgainstMemoryAndAWarmOneAgainstTheCache) {
  Reference<double> backend;
  std::vector<Case> cases = op_cases(representatives(), {"f32", 24, {64}, 100'000}, backend);  // images enough for cold ones
  std::erase_if(cases, [](const Case& one) { return !one.name.starts_with("add_forward/"); });
  constexpr double slow = 1e-3, fast = 1e30;  // bytes a second: a share far above 1, and one far below
  testing::internal::CaptureStdout();
  EXPECT_EQ(
      run_cases(backend, cases, {.copy = slow, .resident_copy = fast, .product = fast}, {.samples = 1, .prints_json = true}),
      0);
  int cold = 0, warm = 0;
  const nlohmann::json printed = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  for (const nlohmann::json& one : printed.at("benchmarks")) {
    const std::string name = one.at("name");
    const bool is_cold = name.ends_with("/cold");
    ++(is_cold ? cold : warm);
    EXPECT_EQ(one.at("roof").get<double>() > 1, is_cold) << name;
  }
  EXPECT_GT(cold, 0);
  EXPECT_GT(warm, 0);
}

TEST(RunnerTest, ACaseThatFailsWhileItIsTimedLeavesTheOthers) {
  Reference<double> backend;
  std::vector<Case> cases = cases_of(backend);
  cases.resize(2);
  int runs = 0, done = 0;
  cases[0].prepare = [&runs, prepare = cases[0].prepare](Backend& b, bool checked) {
    Prepared prepared = prepare(b, checked);
    prepared.instances = {[&runs, run = prepared.instances[0]] {
      constexpr int before_it_is_timed = 1000;  // at most
      if (++runs > before_it_is_timed) fail(ExitCode::machine, "the device is gone");
      run();
    }};
    return prepared;
  };
  EXPECT_EQ(run_cases(backend, cases, {1e9, 1e9, 1e9}, {.samples = 2000, .progress = [&](int now, int) { done = now; }}),
            static_cast<int>(ExitCode::machine));
  EXPECT_EQ(done, 2);
}

TEST(VerdictTest, ALargeCaseSlowerThanAskedForEndsWithSeven) {
  Reference<double> backend;
  const Roofs beyond_reach{1e18, 1e18, 1e18};
  EXPECT_EQ(exit_code(backend, "add_forward", beyond_reach, {.samples = 1, .at_least = 0.8, .judges = true}), 7);
  EXPECT_EQ(exit_code(backend, "add_forward", beyond_reach, {.samples = 1, .at_least = 0.8}), 0);
  EXPECT_EQ(exit_code(backend, "add_forward", {1, 1, 1}, {.samples = 1, .at_least = 0.8, .judges = true}), 0);
}

TEST(PlansTest, AConvolutionsEnginesAndWorkspacesAreSaid) {
  const std::unique_ptr<Backend> backend = make_host_cuda_backend(Precision::bf16, in_order);
  const std::string text = table(choices(
      enumerate({50}), {batch}, [](const std::string& name) { return name == "conv/b6@50:conv2d_1/n4"; }, *backend));
  for (const char* part : {"conv/b6@50:conv2d_1/n4: forward cudnn engine ", ", backward_data cudnn engine ",
                           ", backward_filter cudnn engine ", " workspace "})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
}

TEST(MachineTest, ALineOfNvidiaSmiIsReadAndAnotherIsNot) {
  const auto gpu = parse_gpu_state("1980, 3201, 700.00, 41, 0x0000000000000004, 580.65.06, GPU-1b2c\n");
  ASSERT_TRUE(gpu);
  EXPECT_EQ(gpu->sm_mhz, 1980);
  EXPECT_EQ(gpu->power_limit_watt, 700);
  EXPECT_EQ(gpu->throttle_reasons, "0x0000000000000004");
  EXPECT_EQ(gpu->uuid, "GPU-1b2c");
  EXPECT_FALSE(parse_gpu_state("No devices were found\n"));
  EXPECT_FALSE(parse_gpu_state(""));
  EXPECT_FALSE(gpu_state("cpu"));
}

TEST(MachineTest, TheGpuIsTheOneThatCudaSees) {
  EXPECT_EQ(nvidia_smi_id(0, ""), "0");
  EXPECT_EQ(nvidia_smi_id(1, "3,5"), "5");
  EXPECT_EQ(nvidia_smi_id(0, "GPU-1b2c"), "GPU-1b2c");
  EXPECT_EQ(nvidia_smi_id(2, "3,5"), "");
  EXPECT_EQ(nvidia_smi_id(0, "0; echo"), "");
}

}  // namespace
}  // namespace microtome::bench

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::string program = argv[0], once = "--benchmark_min_time=0";
  char* words[] = {program.data(), once.data(), nullptr};
  int count = 2;
  benchmark::Initialize(&count, words);
  return RUN_ALL_TESTS();
}
