// What is enumerated is what the networks have.
#include "bench/problems.h"

#include "bench/listing.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace microtome::bench {
namespace {

const Problems& both_sizes() {
  static const Problems problems = enumerate({96, 50});
  return problems;
}

int rows(const Problems& problems, const std::string& op, const Problem::Where& where) {
  int sum = 0;
  for (const Problem& problem : problems.all)
    if (const auto use = problem.uses.find(where); problem.op == op && !problem.deferred && use != problem.uses.end())
      sum += use->second;
  return sum;
}

TEST(ProblemsTest, EveryRowOfANetworkIsAUse) {
  for (const Network& network : networks()) {
    const Graph graph = network.build(96);
    const Problem::Where where{std::string(network.name), 96};
    const auto recorded = [&](const std::set<std::string>& kinds) {
      return static_cast<int>(
          std::count_if(graph.rows().begin(), graph.rows().end(), [&](const Row& row) { return kinds.contains(row.kind); }));
    };
    const Problems& problems = both_sizes();
    EXPECT_EQ(rows(problems, "conv", where), recorded({"conv2d", "p4m_lift", "p4m_conv2d"})) << network.name;
    EXPECT_EQ(rows(problems, "depthwise_conv", where), recorded({"depthwise_conv2d"})) << network.name;
    EXPECT_EQ(rows(problems, "dense", where), recorded({"dense"})) << network.name;
    EXPECT_EQ(rows(problems, "batch_norm", where), recorded({"batch_normalization"})) << network.name;
    EXPECT_EQ(rows(problems, "adam", where), 1) << network.name;
  }
}

TEST(ProblemsTest, NoTwoAreTheSameAndNoTwoCasesShareAName) {
  const std::vector<Problem>& all = both_sizes().all;
  std::set<std::string> names;
  for (const Problem& problem : all) {
    EXPECT_TRUE(names.insert(problem.op + problem.label + (problem.deferred ? "/deferred" : "")).second)
        << problem.op << problem.label;
    EXPECT_EQ(std::count_if(all.begin(), all.end(), [&](const Problem& o) { return o.same_work(problem); }), 1)
        << problem.label;
  }
}

TEST(ProblemsTest, EveryOpHasSome) {
  std::set<std::string> ops, deferred;
  for (const Problem& problem : both_sizes().all) (problem.deferred ? deferred : ops).insert(problem.op);
  for (const char* op : {"conv", "depthwise_conv", "dense", "batch_norm", "activation", "max_pool", "average_pool", "add",
                         "multiply", "dropout", "stochastic_depth", "loss", "adam", "gather"})
    EXPECT_TRUE(ops.contains(op)) << op;
  for (const char* op :
       {"conv", "depthwise_conv", "batch_norm", "norm_correction", "add", "multiply", "max_pool", "average_pool"})
    EXPECT_TRUE(deferred.contains(op)) << op;
}

TEST(ProblemsTest, ASizeThatANetworkCannotTakeIsSaid) {
  EXPECT_EQ(both_sizes().too_small, (std::vector<Problem::Where>{{"inception_v3", 50}}));
  EXPECT_NE(table(both_sizes()).find("inception_v3@50: left out"), std::string::npos);
}

TEST(ProblemsTest, AnImageNeedsNoGradient) {
  for (const Problem& problem : both_sizes().all)
    if (problem.op == "conv" && problem.reads_image) {
      const std::vector<std::string> passes = passes_of(problem);
      EXPECT_EQ(std::count(passes.begin(), passes.end(), "backward_data"), 0) << problem.label;
    }
}

TEST(ProblemsTest, TheJsonHasEveryProblemAndItsUses) {
  const nlohmann::json listed = nlohmann::json::parse(json(both_sizes()));
  EXPECT_EQ(listed.at("microtome_schema"), "1");
  ASSERT_EQ(listed.at("problems").size(), both_sizes().all.size());
  for (const auto& problem : listed.at("problems")) {
    int sum = 0;
    for (const auto& use : problem.at("where")) sum += use.at("rows").get<int>();
    EXPECT_EQ(sum, problem.at("uses").get<int>()) << problem.at("label");
  }
}

}  // namespace
}  // namespace microtome::bench
