#include "tools/profile/forecast.h"

#include "kernels/planning_backend.h"
#include "tools/study/published_results.h"

#include <gtest/gtest.h>

#include <numeric>

namespace microtome {
namespace {

Cost total(const std::vector<Cost>& step) {
  return std::accumulate(step.begin(), step.end(), Cost{}, [](Cost sum, const Cost& c) { return sum += c; });
}

const Datasheet& datasheet(std::string_view gpu) {
  for (const Datasheet& d : datasheets())
    if (d.gpu == gpu) return d;
  throw std::out_of_range(std::string(gpu));
}

TEST(ForecastTest, AStepMultipliesThriceButForTheImagesGradient) {
  const Network& vgg = find_network("vgg19");
  const Graph graph = vgg.build(96);
  const double first = 2.0 * 96 * 96 * 64 * 27;
  EXPECT_EQ(total(step_costs(vgg, 96, false, 4, Precision::f32, false)).flop,
            4 * (3 * 2.0 * static_cast<double>(graph.macs()) - first));
}

TEST(ForecastTest, AFrozenBaseIsNotGoneBackThrough) {
  const Network& vgg = find_network("vgg19");
  const double full = total(step_costs(vgg, 96, false, 4, Precision::f32, false)).flop;
  const double frozen = total(step_costs(vgg, 96, true, 4, Precision::f32, false)).flop;
  EXPECT_NEAR(frozen, full / 3, 0.01 * full);
}

TEST(ForecastTest, EveryNetworkIsPlannedAndNarrowTensorsAndDeferralSpareBytes) {
  for (const Network& network : networks()) {
    const Cost applied = total(step_costs(network, 96, false, 256, Precision::f32, false));
    const Cost narrow = total(step_costs(network, 96, false, 256, Precision::bf16, false));
    const Cost deferred = total(step_costs(network, 96, false, 256, Precision::bf16, true));
    EXPECT_EQ(applied.flop, narrow.flop) << network.name;
    EXPECT_EQ(narrow.flop, deferred.flop) << network.name;
    EXPECT_LT(narrow.bytes, 0.6 * applied.bytes) << network.name;
    if (network.name == "vgg19" || network.name == "b2") {
      EXPECT_EQ(narrow.bytes, deferred.bytes) << network.name << " has no batch-norm";
    } else if (network.name == "p4m_densenet") {
      EXPECT_LT(deferred.bytes, narrow.bytes) << "all its batch-norms but the last are read under another shape";
    } else {
      EXPECT_LT(deferred.bytes, 0.95 * narrow.bytes) << network.name;
    }
  }
}

TEST(ForecastTest, ABoundIsTheLongerOfProductsAndBytesCallByCall) {
  const Datasheet device{"toy", 2000, 1, 0, 2, 10};
  const std::vector<Cost> step{{3e12, 10e9}, {1e12, 40e9}};
  EXPECT_DOUBLE_EQ(*bound_seconds(step, device, Precision::f32), 3 + 4);
  EXPECT_DOUBLE_EQ(*bound_seconds(step, device, Precision::bf16), 1.5 + 4);
  EXPECT_FALSE(bound_seconds(step, device, Precision::tf32));
}

TEST(ForecastTest, NothingThatTheStudyMeasuredWasFasterThanItsBound) {
  int compared = 0;
  for (const Network& network : networks())
    for (const bool frozen : {false, true})
      for (const Datasheet& device : datasheets()) {
        const auto measured = study_seconds(network.name, frozen, device.gpu);
        if (!measured) continue;
        const Precision precision = device.tf32 > 0 ? Precision::tf32 : Precision::f32;
        const double bound = *bound_seconds(step_costs(network, 96, frozen, 32, Precision::f32, false), device, precision);
        EXPECT_GT(*measured, bound * 262144 / 32) << network.name << " on " << device.gpu;
        ++compared;
      }
  EXPECT_EQ(compared, 16);
  EXPECT_EQ(study_seconds("inception_v3", true, "A100"), 100);
  EXPECT_FALSE(study_seconds("vgg19", false, "A100"));
  EXPECT_FALSE(
      bound_seconds(step_costs(find_network("b2"), 96, false, 32, Precision::bf16, true), datasheet("V100"), Precision::bf16));
}

}  // namespace
}  // namespace microtome
