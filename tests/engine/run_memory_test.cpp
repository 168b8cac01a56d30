#include "engine/run_memory.h"

#include "kernels/reference/reference.h"
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/flatten.h"
#include "layers/pool.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

namespace microtome {
namespace {

struct SmallDevice final : Reference<double> {
  SmallDevice(std::size_t bytes, bool host) : free_bytes(bytes), is_host(host) {}
  Device device() const override {
    Device device = Reference::device();
    device.available_bytes = free_bytes;
    device.is_host = is_host;
    return device;
  }
  std::size_t free_bytes;
  bool is_host;
};

/// Where convolutions take code: one piece for all of a batch size, kept when they are gone.
struct CodeDevice final : Reference<double> {
  Device device() const override {
    Device device = Reference::device();
    device.available_bytes = bytes - code_bytes * batches.size();
    return device;
  }
  std::unique_ptr<ConvOp> conv(const Conv& kind, const Layout& x, const Layout& y) override {
    batches.insert(x.shape.n);
    return Reference::conv(kind, x, y);
  }
  void forget_ops() override { batches.clear(); }

  static constexpr std::size_t bytes = 1'200'000, code_bytes = 200'000;
  std::set<int> batches;
};

Graph small_network() {
  Graph graph;
  graph.output(graph.input(6) | conv(4, 3) | batch_norm() | relu() | max_pool(2) | flatten() | logit());
  return graph;
}

Dataset images(int count) {
  const auto split = [](int n) {
    Images set{{n, 6, 6, 3}, std::vector<std::uint8_t>(static_cast<std::size_t>(n) * 108), {}, {}};
    for (int i = 0; i < n; ++i) set.labels.push_back(static_cast<std::uint8_t>(i % 2));
    return set;
  };
  return {"black", split(count), split(10), split(10), {}};
}

MemoryPlan plan_on(std::size_t free_bytes, int batch, bool is_host = false, bool population = false) {
  SmallDevice device(free_bytes, is_host);
  Model model(small_network(), device);
  FitOptions options;
  options.batch_size = batch, options.population_statistics = population;
  return plan_memory(model, images(400), options);
}

TEST(MemoryPlanTest, TheLargestBatchIsWhatTheMemoryBesideTheImagesAllows) {
  constexpr std::size_t of_images = (400 + 10) * (108 + 1);
  constexpr std::size_t much = std::size_t{1} << 40;
  EXPECT_EQ(plan_on(much, 8).images, of_images);
  EXPECT_EQ(plan_on(much, 8).largest_batch, 400) << "the training set";
  for (const std::size_t for_steps : {200'000, 800'000}) {
    const int largest = plan_on(of_images + for_steps, 8).largest_batch;
    ASSERT_GT(largest, 8);
    ASSERT_LT(largest, 400);
    EXPECT_LE(plan_on(much, largest).arena, for_steps);
    EXPECT_GT(plan_on(much, largest + largest / 10 + 1).arena, for_steps);
    const MemoryPlan host = plan_on(for_steps, 8, true);
    EXPECT_GT(host.saving, 0u);
    EXPECT_LE(host.largest_batch, largest);
    EXPECT_GT(host.largest_batch, largest * 9 / 10) << "images that lie there already take no more";
    EXPECT_LT(plan_on(of_images + for_steps, 8, false, true).largest_batch, largest) << "calibration keeps a copy";
  }
  EXPECT_EQ(plan_on(of_images / 2, 8).largest_batch, 0);
}

TEST(MemoryPlanTest, ABatchThatIsPromisedFitsWithTheCodeOfItsProgramsWhoeverAsks) {
  std::set<int> promised;
  const Dataset data = images(400);
  for (const int batch : {8, 19, 100, 399}) {
    CodeDevice device;
    Model model(small_network(), device);
    FitOptions options;
    options.batch_size = batch;
    promised.insert(plan_memory(model, data, options).largest_batch);
  }
  ASSERT_EQ(promised.size(), 1u);
  ASSERT_GT(*promised.begin(), 0);
  ASSERT_LT(*promised.begin(), 400);
  CodeDevice device;
  Model model(small_network(), device);
  FitOptions options;
  options.batch_size = *promised.begin();
  model.plan(requests(model.graph(), data, options), beside_steps(model, data, options).to_come(false));
  EXPECT_EQ(device.batches.size(), 3u) << "of training and its last, and of validation";
  EXPECT_LE(model.arena_bytes(), device.device().available_bytes);
}

}  // namespace
}  // namespace microtome
