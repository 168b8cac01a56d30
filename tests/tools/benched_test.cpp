#include "tools/benched.h"

#include "bench/problems.h"
#include "engine/check.h"
#include "tools/process.h"
#include "tools/run_folder.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>

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

TEST(BenchedTest, AStepIsTheSumOfItsPiecesEachAsOftenAsTheNetworkHasIt) {
  const Results results = everything(32);
  // By hand: gather, loss twice, Adam; of 2 convolutions and 2 dense layers three passes each, but for the image's gradient;
  // two poolings with a relu before or behind them, and one relu, both ways.
  const BenchedStep b2 = benched_step(results, "b2", 96, 32);
  EXPECT_EQ(b2.measured, b2.pieces);
  EXPECT_NEAR(b2.seconds, 1e-3 * b2.pieces, 1e-9) << "the median of the repetitions";
  EXPECT_TRUE(b2.missing.empty());
  EXPECT_GE(b2.pieces, 4 + 11 + 4);
  const BenchedStep resnet = benched_step(results, "resnet50", 50, 32);
  EXPECT_TRUE(resnet.missing.empty());
  EXPECT_GT(resnet.pieces, 53 * 3 - 1 + 53 * 2 + 16 * 2) << "convolutions, batch-norms, joins";
}

TEST(BenchedTest, WhatIsMissingIsNamedAndNotCounted) {
  Results results = everything(32);
  const BenchedStep whole = benched_step(results, "b6", 96, 32);
  std::erase_if(results.cases, [](const BenchCase& one) { return one.name.starts_with("adam_update/b6"); });
  const BenchedStep less = benched_step(results, "b6", 96, 32);
  EXPECT_EQ(less.missing, std::vector<std::string>{"adam_update/b6:update/cpu/f32/all"});
  EXPECT_EQ(less.measured, whole.measured - 1);
  EXPECT_NEAR(less.seconds, whole.seconds - 1e-3, 1e-9);
  EXPECT_FALSE(less.whole());
  EXPECT_TRUE(whole.whole());
  EXPECT_EQ(benched_step(results, "b6", 96, 64).measured, 0) << "another batch was never benched";
}

TEST(BenchedTest, AProfileAndARunSayWhatAStepTook) {
  const TemporaryFolder folder;
  write_text(
      folder / "profile.json",
      R"({"schema": "microtome.profile.1", "run": {"net": "b2", "mode": "full", "precision": "f32", "image": [96, 96], "batch_size": 8}, "device": {"name": "cpu"},
                 "distortion": {"untraced_ns_per_step": 2500000}})");
  const MeasuredStep profiled = measured_step(folder / "");
  EXPECT_EQ(profiled.net, "b2");
  EXPECT_EQ(profiled.batch, 8);
  EXPECT_DOUBLE_EQ(profiled.seconds, 2.5e-3);
  const TemporaryFolder other;
  write_text(
      other / "result.json",
      R"({"net": "b6", "mode": "transfer", "device": "cpu", "precision": "f32", "batch_size": 8, "image": [50, 50], "train_images": 20, "seconds_per_epoch": 6})");
  EXPECT_DOUBLE_EQ(measured_step(other / "").seconds, 2) << "three steps, the last one smaller";
  EXPECT_EQ(measured_step(other / "").mode, "transfer");
  EXPECT_EQ(measured_step(other / "").side, 50);
  const TemporaryFolder neither;
  EXPECT_THROW(measured_step(neither / ""), Error);
}

TEST(BenchedTest, AMeasurementThatCannotBeIsRefused) {
  const auto refused = [](const char* file, const Json& json) {
    const TemporaryFolder folder;
    write_text(folder / file, json.dump());
    try {
      measured_step(folder / "");
      ADD_FAILURE() << json;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::data) << json;
    }
  };
  const Json profile{{"schema", "microtome.profile.1"},
                     {"run", {{"net", "b2"}, {"mode", "full"}, {"precision", "f32"}, {"image", {96, 96}}, {"batch_size", 8}}},
                     {"device", {{"name", "cpu"}}},
                     {"distortion", {{"untraced_ns_per_step", 2.5e6}}}};
  for (const double ns :
       {-1.0, 0.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN(), 1e300}) {
    Json damaged = profile;
    damaged["distortion"]["untraced_ns_per_step"] = ns;
    refused("profile.json", damaged);
  }
  for (const Json& batch : {Json(0), Json(-5), Json(1e10), Json(10'000'000'000), Json("8")}) {
    Json damaged = profile;
    damaged["run"]["batch_size"] = batch;
    refused("profile.json", damaged);
  }
  Json old = profile;
  old["schema"] = "microtome.profile.0";
  refused("profile.json", old);
  const Json run{{"net", "b6"},     {"mode", "full"},    {"device", "cpu"},    {"precision", "f32"},
                 {"batch_size", 8}, {"image", {50, 50}}, {"train_images", 20}, {"seconds_per_epoch", 6.0}};
  for (const auto& [key, value] :
       {std::pair("batch_size", Json(0)), std::pair("train_images", Json(0)), std::pair("train_images", Json(-20)),
        std::pair("seconds_per_epoch", Json(1e300)), std::pair("seconds_per_epoch", Json(-6.0))}) {
    Json damaged = run;
    damaged[key] = value;
    refused("result.json", damaged);
  }
}

TEST(BenchedTest, SizesThatAreNoNumbersAreTheFilesMistake) {
  for (const char* sizes : {"96;50", "wide", "0,50", "7", "4097", "2000000000", "99999999999999", ""}) {
    Results results = everything(32);
    results.context["sizes"] = sizes;
    try {
      benched_step(results, "b6", 96, 32);
      ADD_FAILURE() << sizes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::data) << sizes;
    }
  }
}

}  // namespace
}  // namespace microtome
