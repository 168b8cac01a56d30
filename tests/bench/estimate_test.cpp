#include "bench/estimate.h"

#include "bench/problems.h"
#include "engine/check.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace microtome {
namespace {

/// Every case of every network at 96 and 50, each taking a millisecond; depthwise gradients one by one.
Results everything(int batch) {
  Results results{.file = "all.json", .context = {{"sizes", "96,50"}}};
  for (const bench::Problem& problem : bench::enumerate({96, 50}).all)
    for (const std::string& pass : bench::passes_of(problem)) {
      if (problem.op == "depthwise_conv" && pass == "backward") continue;
      const std::string images = problem.op == "adam" ? "/all" : "/n" + std::to_string(batch);
      const std::string behind = problem.deferred ? "/deferred" : "";
      results.cases.push_back(
          {.name = problem.op + "_" + pass + "/" + problem.label + "/cpu/f32" + images + behind, .seconds = {9, 1e-3, 1e-4}});
    }
  return results;
}

TEST(EstimateTest, AStepIsTheSumOfItsPiecesEachAsOftenAsTheNetworkHasIt) {
  const Results results = everything(32);
  // By hand: gather, loss twice, Adam; of 2 convolutions and 2 dense layers three passes each, but for the image's gradient;
  // two poolings with a relu before or behind them, and one relu, both ways.
  const StepEstimate b2 = estimate_step(results, "b2", 96, 32);
  EXPECT_EQ(b2.measured, b2.pieces);
  EXPECT_NEAR(b2.seconds, 1e-3 * b2.pieces, 1e-9) << "the median of the repetitions";
  EXPECT_TRUE(b2.missing.empty());
  EXPECT_GE(b2.pieces, 4 + 11 + 4);
  const StepEstimate resnet = estimate_step(results, "resnet50", 50, 32);
  EXPECT_TRUE(resnet.missing.empty());
  EXPECT_NEAR(resnet.seconds, 1e-3 * resnet.pieces, 1e-9) << "a problem that it has several times counts as often";
  EXPECT_GT(resnet.pieces, 53 * 3 - 1 + 53 * 2 + 16 * 2) << "convolutions, batch-norms, joins";
}

TEST(EstimateTest, WhatIsMissingIsNamedAndNotCounted) {
  Results results = everything(32);
  const StepEstimate whole = estimate_step(results, "b6", 96, 32);
  std::erase_if(results.cases, [](const BenchCase& one) { return one.name.starts_with("adam_update/b6"); });
  const StepEstimate less = estimate_step(results, "b6", 96, 32);
  EXPECT_EQ(less.missing, std::vector<std::string>{"adam_update/b6:update/cpu/f32/all"});
  EXPECT_EQ(less.measured, whole.measured - 1);
  EXPECT_NEAR(less.seconds, whole.seconds - 1e-3, 1e-9);
  EXPECT_FALSE(less.whole());
  EXPECT_TRUE(whole.whole());
  EXPECT_EQ(estimate_step(results, "b6", 96, 64).measured, 0) << "another batch was never benchmarked";
}

TEST(EstimateTest, SizesThatAreNoNumbersAreTheFilesMistake) {
  for (const char* sizes : {"96;50", "wide", "0,50", "7", "4097", "2000000000", "99999999999999", ""}) {
    Results results = everything(32);
    results.context["sizes"] = sizes;
    try {
      estimate_step(results, "b6", 96, 32);
      ADD_FAILURE() << sizes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::data) << sizes;
    }
  }
}

}  // namespace
}  // namespace microtome
