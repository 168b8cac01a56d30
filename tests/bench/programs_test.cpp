// bench as its user sees it.
#include "tools/process.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>

namespace microtome {
namespace {

using Json = nlohmann::json;

void expect_usage_error(const std::vector<std::string>& words, const std::string& message) {
  const Ended outcome = run(words);
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, message)) << outcome.err;
}

TEST(BenchProgramTest, ListNeedsNoDevice) {
  const Ended text = run({"bench", "--list", "--device", "cuda:0"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_TRUE(contains(text.out, "depthwise_conv")) << text.out;
  const Ended json = run({"bench", "--list", "--json", "--size", "96"});
  EXPECT_GT(Json::parse(json.out).at("problems").size(), 500u);
}

TEST(BenchProgramTest, AListOfOneNetworkHasItsRowsAlone) {
  const Ended list = run({"bench", "--list", "--net", "mobilenet", "--size", "96,50"});
  EXPECT_TRUE(contains(list.out, "mobilenet@50 ") && contains(list.out, "mobilenet@96 ")) << list.out;
  EXPECT_FALSE(contains(list.out, "resnet50@") || contains(list.out, "inception_v3@")) << list.out;
}

TEST(BenchProgramTest, ANameThatIsListedChoosesItsCase) {
  const std::vector<std::string> words{"bench", "--device", "cpu", "--batch", "2", "--size", "50"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), words.begin(), words.end());
    return run(more);
  };
  const Ended list = with({"--benchmark_list_tests", "--benchmark_filter=^loss_forward"});
  EXPECT_EQ(list.code, 0) << list.err;
  EXPECT_EQ(list.out, "loss_forward/b2@50:loss/cpu/f32/n2\n");
  const Ended json =
      with({"--json", "--samples", "2", "--large-mb", "1", "--benchmark_filter", "^loss_forward/b2@50:loss/cpu/f32/n2$"});
  EXPECT_EQ(json.code, 0) << json.err;
  EXPECT_EQ(Json::parse(json.out).at("benchmarks").at(0).at("name"), "loss_forward/b2@50:loss/cpu/f32/n2");
  const Ended table = with({"--samples", "2", "--large-mb", "1", "--benchmark_filter=^loss_forward"});
  EXPECT_TRUE(contains(table.out, "loss_forward/b2@50:loss/cpu/f32/n2 ")) << table.out;
}

TEST(BenchProgramTest, RepetitionsStandTogetherInTheOrderOfTheCases) {
  const TemporaryFolder folder;
  const std::string file = (folder / "results.json").string();
  const Ended outcome =
      run({"bench", "--device", "cpu", "--batch", "2", "--size", "50", "--samples", "1", "--large-mb", "1",
           "--benchmark_filter=^(loss|dense)_.*/b2@50:.*/n2$", "--benchmark_repetitions=3", "--benchmark_out=" + file});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::vector<std::string> names;
  std::ifstream stream(file);
  const Json results = Json::parse(stream);
  for (const Json& one : results.at("benchmarks"))
    if (one.at("run_type") == "iteration") names.push_back(one.at("name"));
  const Ended list = run({"bench", "--device", "cpu", "--batch", "2", "--size", "50", "--benchmark_list_tests", "--json",
                          "--benchmark_filter=^(loss|dense)_.*/b2@50:.*/n2$"});
  std::vector<std::string> expected;
  const Json listed = Json::parse(list.out);
  for (const std::string name : listed) expected.insert(expected.end(), 3, name);
  EXPECT_EQ(names, expected);
}

TEST(BenchProgramTest, WhatCannotBeWrittenEndsWithFive) {
  const std::vector<std::string> words{"bench",
                                       "--device",
                                       "cpu",
                                       "--batch",
                                       "2",
                                       "--size",
                                       "50",
                                       "--samples",
                                       "1",
                                       "--large-mb",
                                       "1",
                                       "--benchmark_filter=^loss_forward",
                                       "--benchmark_out=/dev/full"};
  const Ended outcome = run(words);
  EXPECT_EQ(outcome.code, 5) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "cannot write the results")) << outcome.err;
}

TEST(BenchProgramTest, ALongListThatCannotBePrintedEndsWithFive) {
  const Ended outcome = run({"bench", "--list", "--json"}, 4096);
  EXPECT_EQ(outcome.code, 5) << outcome.err;
}

TEST(BenchProgramTest, ANetworkHasTheChainsThatItSharesWithAnother) {
  const Ended list = run({"bench", "--device", "cpu", "--batch", "2", "--size", "50", "--net", "densenet169", "--json",
                          "--benchmark_list_tests", "--benchmark_filter=^chain_step|^network"});
  ASSERT_EQ(list.code, 0) << list.err;
  int shared = 0;
  for (const std::string name : Json::parse(list.out)) {
    shared += name.starts_with("chain_step/densenet121@50:");
    EXPECT_TRUE(name.starts_with("chain") || contains(name, "/densenet169@50/")) << name;
  }
  EXPECT_GT(shared, 10);
}

TEST(BenchProgramTest, MistakesAreNamed) {
  expect_usage_error({"bench", "--devise", "cpu"}, "did you mean --device?");
  expect_usage_error({"bench", "--list", "--benchmark_filter=conv"}, "takes no filter");
  expect_usage_error({"bench", "--benchmark_repetitions=0"}, "unknown value of --benchmark_repetitions");
  expect_usage_error({"bench", "--benchmark_context=mine=1,device=foo"}, "names what bench says itself");
  expect_usage_error({"bench", "--device", "tpu"}, "there is no such device");
  expect_usage_error({"bench", "--batch", "32,"}, "--batch has an empty entry");
  expect_usage_error({"bench", "--size", "96;50"}, "--size takes whole numbers");
  expect_usage_error({"bench", "--device", "cpu", "--benchmark_filter=resnet51"}, "no case fits the filter");
  expect_usage_error({"bench", "--device", "cpu", "--benchmark_filter=("}, "no regular expression");
  expect_usage_error({"bench", "--benchmark_filtre=x"}, "benchmark_filtre");
  expect_usage_error({"bench", "--net", "resnet5", "--list"}, "did you mean resnet50?");
}

TEST(BenchProgramTest, GoogleBenchmarksFlagsAreJudgedBeforeAnythingIsMeasured) {
  expect_usage_error({"bench", "--benchmark_format=xml"}, "unknown value of --benchmark_format");
  expect_usage_error({"bench", "--benchmark_out_format=csv", "--benchmark_out=x"}, "unknown value of --benchmark_out_format");
  expect_usage_error({"bench", "--benchmark_repetitions=-3"}, "unknown value of --benchmark_repetitions");
  expect_usage_error({"bench", "--benchmark_repetitions", "many"}, "benchmark_repetitions");
  expect_usage_error({"bench", "--benchmark_out="}, "unknown value of --benchmark_out");
  expect_usage_error({"bench", "--device", "cpu", "--size", "50", "--benchmark_filter=loss", "--benchmark_out=/nowhere/x.json"},
                     "cannot write the results");
  const Ended counters = run({"bench", "--benchmark_perf_counters=CYCLES"});
  EXPECT_EQ(counters.code, 8);
  EXPECT_TRUE(contains(counters.err, "no hardware counters")) << counters.err;
}

TEST(BenchProgramTest, HelpHasExamplesAndBothKindsOfFlags) {
  const Ended help = run({"bench", "--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* part : {"Examples", "--at-least", "--benchmark_out"}) EXPECT_TRUE(contains(help.out, part)) << part;
}

TEST(BenchProgramTest, AResultsFileSaysWhatWasMeasuredWhereAndHowItWas) {
  const TemporaryFolder folder;
  const std::string file = (folder / "results.json").string();
  const Ended outcome =
      run({"bench", "--device", "cpu", "--batch", "2", "--size", "50", "--samples", "2", "--large-mb", "1",
           "--benchmark_filter=^conv_forward/b6@50:", "--benchmark_repetitions=2", "--benchmark_out=" + file});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json results = Json::parse(text_of(file)), context = results.at("context");
  EXPECT_EQ(context.at("microtome_schema"), "1");
  for (const char* key : {"device", "device_description", "versions", "compiler", "commit", "precision",
                          "roof_copy_bytes_per_second", "roof_resident_copy_bytes_per_second", "roof_product_flop_per_second"})
    EXPECT_FALSE(context.at(key).get<std::string>().empty()) << key;
  int iterations = 0;
  for (const Json& entry : results.at("benchmarks")) {
    if (entry.at("run_type") != "iteration") continue;
    ++iterations;
    for (const char* counter : {"FLOP/s", "bytes/s", "roof", "uses"}) EXPECT_GT(entry.at(counter).get<double>(), 0) << counter;
    EXPECT_EQ(entry.at("wrong"), 0);
  }
  EXPECT_GT(iterations, 2);
}

TEST(BenchProgramTest, PlansAreSaidOfADeviceAndNotOfOneThatIsNotThere) {
  const Ended plans =
      run({"bench", "--device", "cpu", "--plans", "--batch", "2", "--size", "50", "--benchmark_filter=/b6@50:"});
  EXPECT_EQ(plans.code, 0) << plans.err;
  EXPECT_EQ(std::count(plans.out.begin(), plans.out.end(), '\n'), 6) << plans.out;
  EXPECT_TRUE(contains(plans.out, "conv/b6@50:conv2d/n2: forward ")) << plans.out.substr(0, 500);
  const Ended json =
      run({"bench", "--device", "cpu", "--plans", "--json", "--batch", "2", "--size", "50", "--benchmark_filter=/b6@50:"});
  EXPECT_EQ(Json::parse(json.out).at("plans").size(), 6u);
  const Ended none = run({"bench", "--device", "cuda:77", "--plans"});
  EXPECT_EQ(none.code, 8);
  EXPECT_TRUE(contains(none.err, "error: there is no GPU cuda:77\n") ||
              contains(none.err, "error: there is no NVIDIA driver\n") ||
              contains(none.err, "error: there is no CUDA module\n"))
      << none.err;
}

}  // namespace
}  // namespace microtome
