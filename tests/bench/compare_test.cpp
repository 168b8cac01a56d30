// build/bench/compare seen from outside: files, tables, exit codes and messages.
#include "tools/process.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <regex>

namespace microtome {
namespace {

using Json = nlohmann::json;

/// A results file as Google Benchmark writes it: three cases of a network and the network itself, ten repetitions and their
/// mean.
struct Bench {
  std::string device = "cuda:0", precision = "bf16", schema = "1";
  int batch = 64, repetitions = 10;
  double sm_mhz = 1980;
  std::map<std::string, double> microseconds{{"conv1", 100}, {"conv2", 200}, {"conv3", 400}};

  std::string json() const {
    Json entries = Json::array();
    for (const auto& [row, time] : microseconds) add(entries, "conv_forward/resnet50:" + row, time);
    if (!microseconds.empty()) add(entries, "network_step/resnet50", 250.0 * batch);
    const Json context{{"microtome_schema", schema}, {"device", device}, {"device_description", "a GPU"}};
    return Json{{"context", context}, {"benchmarks", entries}}.dump();
  }

  void add(Json& entries, const std::string& what, double time) const {
    const std::string name = fmt::format("{}/{}/{}/n{}", what, device.substr(0, device.find(':')), precision, batch);
    for (int r = 0; r < repetitions; ++r) {
      entries.push_back({{"name", fmt::format("{}/iterations:5/repeats:{}/manual_time", name, repetitions)},
                         {"run_type", "iteration"},
                         {"repetition_index", r},
                         {"real_time", time * (1 + 0.001 * (r % 4))},
                         {"time_unit", "us"},
                         {"sm_MHz", sm_mhz + 15 * (r % 2)},
                         {"uses", 3.0},
                         {"uses:resnet50", 2.0}});
    }
    entries.push_back({{"name", name + "_mean"}, {"run_type", "aggregate"}, {"real_time", 1e9}, {"time_unit", "us"}});
  }
};

class CompareTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const Bench& bench) const { return file(name, bench.json()); }
  std::string file(const std::string& name, const std::string& text) const {
    write_text(folder / name, text);
    return (folder / name).string();
  }
  static Ended compare(std::vector<std::string> words) {
    words.insert(words.begin(), "compare");
    return run(words);
  }
  static Bench slower(double factor) {
    Bench bench;
    bench.microseconds["conv2"] *= factor;
    return bench;
  }
  static void expect_refused(const Ended& outcome, int code, const std::string& what) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.rfind("compare: error: ", 0), 0u) << outcome.err;
    EXPECT_NE(outcome.err.find(what), std::string::npos) << outcome.err;
  }

  TemporaryFolder folder;
};

TEST_F(CompareTest, TheGateFailsForWhatIsSlowerByMore) {
  const std::string before = file("before.json", Bench{}), after = file("after.json", slower(1.08));
  EXPECT_EQ(compare({before, after}).code, 0);
  EXPECT_EQ(compare({before, after, "--gate", "10%"}).code, 0);
  EXPECT_EQ(compare({before, before, "--gate", "0%"}).code, 0);
  EXPECT_EQ(compare({after, before, "--gate", "5%"}).code, 0) << "what is faster fails no gate";
  const Ended text = compare({before, after, "--gate", "5%"}), json = compare({before, after, "--gate=5%", "--json"});
  EXPECT_EQ(text.code, 7);
  EXPECT_EQ(json.code, 7);
  EXPECT_NE(text.out.find("\ngate 5%: failed by 1\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("\nSLOWER     conv_forward/resnet50:conv2/cuda/bf16/n64 "), std::string::npos) << text.out;
  const Json gate = Json::parse(json.out)["gate"];
  EXPECT_FALSE(gate["passed"]);
  EXPECT_EQ(gate["failed_by"], Json::array({"conv_forward/resnet50:conv2/cuda/bf16/n64"}));
}

TEST_F(CompareTest, AGateThatCouldNotFailIsRefusedAndWhatItCannotTellIsSaid) {
  Bench few{.repetitions = 3}, slow = slower(2);
  slow.repetitions = 3;
  const std::string before = file("before.json", few), after = file("after.json", slow);
  EXPECT_EQ(compare({before, after}).code, 0);
  expect_refused(compare({before, after, "--gate", "5%"}), 3, "too few repetitions for a gate");
  few.repetitions = slow.repetitions = 4;  // four show that all of the cases changed, and not that one did
  const Ended outcome = compare({file("before.json", few), file("after.json", slow), "--gate", "5%"});
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_NE(outcome.out.find("\ngate 5%: passed; 2 AMBIGUOUS may be slower by more\n"), std::string::npos) << outcome.out;
}

TEST_F(CompareTest, ACaseThatFailsNowFailsTheGate) {
  const std::string good = Bench{}.json();
  Json broken = Json::parse(good);
  Json& entries = broken["benchmarks"];
  const std::string name = "conv_forward/resnet50:conv2/cuda/bf16/n64";
  for (Json& entry : entries)
    if (entry["name"].get<std::string>().starts_with(name)) entry["error_occurred"] = true, entry["error_message"] = "wrong: 1";
  const std::string before = file("before.json", good), after = file("after.json", broken.dump());
  const Ended outcome = compare({before, after, "--gate", "5%", "--json"});
  EXPECT_EQ(outcome.code, 7) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["gate"]["failed_by"], Json::array({name}));
  EXPECT_EQ(compare({after, after, "--gate", "5%"}).code, 0) << "it failed before";
}

TEST_F(CompareTest, EffectsAreSecondsOfAnEpochAndAddUpByNetwork) {
  const Ended outcome = compare({file("before.json", Bench{}), file("after.json", slower(1.5)), "--json"});
  const Json json = Json::parse(outcome.out), first = json["cases"][0], total = json["totals"][0];
  const double steps = 262'144.0 / 64;
  EXPECT_EQ(first["class"], "SLOWER");
  EXPECT_NEAR(first["change"], 0.5, 1e-9);
  EXPECT_NEAR(first["seconds_per_epoch"], 100e-6 * 3 * steps, 0.01 * 100e-6 * 3 * steps);
  EXPECT_EQ(total["case"], "total/resnet50/cuda/bf16/n64");
  EXPECT_NEAR(total["before_seconds"], 700e-6 * 2 * steps, 0.01 * 700e-6 * 2 * steps);
  EXPECT_NEAR(total["after_seconds"], 800e-6 * 2 * steps, 0.01 * 800e-6 * 2 * steps);
  const Ended csv = compare({file("before.json", Bench{}), file("after.json", slower(1.5)), "--csv"});
  EXPECT_EQ(csv.out.rfind("class,case,before_s,after_s,change,low,high,floor,s_per_epoch\nSLOWER,conv_forward/", 0), 0u);
}

TEST_F(CompareTest, AnUpdateCountsOnceAStepALargeCaseAndAChainNever) {
  Json json = Json::parse(Bench{}.json());
  for (const auto& [name, time] : {std::pair("adam_update/b2:update/cuda/bf16/all", 50.0),
                                   {"add_forward/b2:a,b/cuda/bf16/large", 9e3},
                                   {"chain_conv_add/b2:a/cuda/bf16/n64", 500.0}})
    for (int r = 0; r < 10; ++r)
      json["benchmarks"].push_back(
          {{"name", name}, {"real_time", time}, {"time_unit", "us"}, {"uses", 12.0}, {"uses:resnet50", 1.0}});
  const std::string results = file("all.json", json.dump());
  const Ended outcome = compare({results, results, "--json", "--gate", "5%"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json totals = Json::parse(outcome.out)["totals"];
  ASSERT_EQ(totals.size(), 1u) << totals;
  const double steps = 262'144.0 / 64;
  EXPECT_NEAR(totals[0]["before_seconds"], (700e-6 * 2 + 50e-6) * steps, 0.01 * 1400e-6 * steps);
  const Ended csv = compare({results, results, "--csv"});
  EXPECT_NE(csv.out.find("\nSAME,\"add_forward/b2:a,b/cuda/bf16/large\",0.009,0.009,0,0,0,0,\n"), std::string::npos) << csv.out;
}

TEST_F(CompareTest, RunsOfUnchangedCodeSayWhatIsNoise) {
  const std::string before = file("before.json", Bench{}), after = file("after.json", slower(1.08));
  const Ended outcome = compare({"--floor", before, after, before, after, "--gate", "5%"});
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_EQ(outcome.out.find("SLOWER  "), std::string::npos) << outcome.out;
}

TEST_F(CompareTest, WhatIsNotTheSameThingIsRefusedByName) {
  const std::string before = file("before.json", Bench{});
  const std::string device = file("device.json", Bench{.device = "cpu"}), clocks = file("clocks.json", Bench{.sm_mhz = 1200}),
                    precision = file("precision.json", Bench{.precision = "f32"}),
                    batch = file("batch.json", Bench{.batch = 32});
  expect_refused(compare({before, device}), 2, "device cpu");
  expect_refused(compare({before, clocks}), 2, "clocks 1215 MHz");
  expect_refused(compare({before, precision}), 2, "precision f32");
  expect_refused(compare({before, batch}), 2, "batch 32");
  expect_refused(compare({before, before, "--floor", before, clocks}), 2, "clocks 1215 MHz");
  Json limited = Json::parse(Bench{}.json());
  limited["context"]["power_limit_watt"] = "350";
  expect_refused(compare({before, file("limited.json", limited.dump())}), 2, "power_limit_watt 350");
  const std::string renamed =
      file("renamed.json", std::regex_replace(Bench{}.json(), std::regex("\"cuda:0\""), "\"cpu\""));  // in the context alone
  for (const std::string& other : {device, clocks, precision, batch, renamed}) {
    const Ended allowed = compare({before, other, "--allow-different", "--json"});
    EXPECT_EQ(allowed.code, 0) << allowed.err;
    const Json compared = Json::parse(allowed.out);
    for (const Json& one : compared.at("cases")) EXPECT_TRUE(one.contains("change")) << one;
  }
}

TEST_F(CompareTest, DifferentBatchesAreComparedByTheImage) {
  Bench half{.batch = 32};
  for (auto& [row, time] : half.microseconds) time /= 2;
  const Ended outcome =
      compare({file("before.json", Bench{}), file("after.json", half), "--allow-different", "--gate", "0%", "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_EQ(Json::parse(outcome.out)["totals"][0]["class"], "SAME");
}

TEST_F(CompareTest, FilesThatCannotServeAreRefused) {
  const std::string good = file("good.json", Bench{});
  expect_refused(compare({good, file("schema.json", Bench{.schema = "2"})}), 3, "another schema");
  Json odd = Json::parse(Bench{}.json());
  odd["benchmarks"][0]["time_unit"] = "fortnight";
  expect_refused(compare({good, file("unit.json", odd.dump())}), 3, "a time is of an unknown unit");
  expect_refused(compare({good, file("once.json", Bench{.repetitions = 1})}), 3, "were not repeated");
  expect_refused(compare({good, file("empty.json", Bench{.microseconds = {}})}), 3, "no measurements");
  expect_refused(compare({file("broken.json", "{\"context\": {"), good}), 3, "not JSON");
  expect_refused(compare({file("list.json", "[1, 2]"), good}), 3, "no results of a bench");
  expect_refused(compare({good, (folder / "absent.json").string()}), 3, "No such file");
  expect_refused(compare({good, (folder / "").string()}), 3, "a folder");
  const std::string other = std::regex_replace(Bench{}.json(), std::regex("resnet50"), "vgg19");
  expect_refused(compare({good, file("other.json", other)}), 2, "no case in common");
}

TEST_F(CompareTest, AGateIsAPercentage) {
  const std::string good = file("good.json", Bench{});
  for (const char* gate : {"nan%", "-1%", "inf%", "5", "", "%", "5%%"})
    expect_refused(compare({good, good, std::string("--gate=") + gate}), 2, "--gate");
  expect_refused(compare({good}), 2, "AFTER.json is missing");
  expect_refused(compare({good, good, "--floor", good}), 2, "--floor needs 2 values");
}

}  // namespace
}  // namespace microtome
