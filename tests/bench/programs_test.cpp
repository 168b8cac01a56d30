// bench as its user sees it.
#include "tools/process.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace microtome {
namespace {

using Json = nlohmann::json;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

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

TEST(BenchProgramTest, MistakesAreNamed) {
  expect_usage_error({"bench", "--devise", "cpu"}, "did you mean --device?");
  expect_usage_error({"bench", "--device", "tpu"}, "there is no such device");
  expect_usage_error({"bench", "--batch", "32,"}, "--batch takes whole numbers");
  expect_usage_error({"bench", "--size", "96;50"}, "--size takes whole numbers");
  expect_usage_error({"bench", "--device", "cpu", "--benchmark_filter=resnet51"}, "no case fits the filter");
  expect_usage_error({"bench", "--device", "cpu", "--benchmark_filter=("}, "no regular expression");
  expect_usage_error({"bench", "--benchmark_filtre=x"}, "benchmark_filtre");
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
  const Ended none = run({"bench", "--device", "cuda:77", "--plans"});
  EXPECT_EQ(none.code, 8);
  EXPECT_TRUE(contains(none.err, "there is no GPU cuda:77") || contains(none.err, "CUDA")) << none.err;
}

}  // namespace
}  // namespace microtome
