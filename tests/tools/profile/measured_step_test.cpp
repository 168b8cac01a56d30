#include "tools/profile/measured_step.h"

#include "engine/check.h"
#include "tools/cli/json.h"
#include "tools/process.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>

namespace microtome {
namespace {

TEST(MeasuredStepTest, AProfileAndARunSayWhatAStepTook) {
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

TEST(MeasuredStepTest, AMeasurementThatCannotBeIsRefused) {
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

}  // namespace
}  // namespace microtome
