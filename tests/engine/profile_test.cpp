#include "engine/profile.h"

#include "engine/fit.h"
#include "kernels/backend.h"
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/flatten.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

namespace microtome {
namespace {

Graph tiny() {
  Graph graph;
  graph.output(graph.input(6) | conv(4, 3) | batch_norm() | relu() | flatten() | logit());
  return graph;
}

Images images(int count) {
  Images set{{count, 6, 6, 3}, {}, {}, {}};
  for (int i = 0; i < count; ++i) set.labels.push_back(static_cast<std::uint8_t>(i % 2));
  for (std::int64_t j = 0; j < set.shape.count(); ++j) set.pixels.push_back(static_cast<std::uint8_t>(j * 37 % 251));
  return set;
}

/// Traces the second of an epoch's steps.
struct Tracer : FitObserver {
  explicit Tracer(Backend& backend) : trace(backend.trace()) {}
  void batch_end(int, int batch, int) override {
    if (batch == 1) trace->start();
    if (batch == 2) recorded = trace->stop();
  }
  void ledger(const EpochLedger& l) override { ledgers.push_back(l); }

  std::unique_ptr<Trace> trace;
  Recorded recorded;
  std::vector<EpochLedger> ledgers;
};

class ProfileTest : public testing::TestWithParam<const char*> {};

TEST_P(ProfileTest, ATracedStepNamesEachPieceOfWorkByRowAndPass) {
  const auto backend = make_backend(GetParam(), Precision::f32);
  Model model(tiny(), *backend);
  model.initialize(1);
  Tracer tracer(*backend);
  fit(model, {"ramp", images(12), images(4), images(4), {}}, {.epochs = 1, .batch_size = 4}, tracer);

  const Recorded& recorded = tracer.recorded;
  std::set<std::pair<std::string, Pass>> seen;
  std::int64_t last = recorded.start_ns;
  for (const Activity& a : recorded.activities) {
    EXPECT_TRUE(a.attributed);
    EXPECT_LE(last, a.start_ns) << a.scope.row;
    EXPECT_LE(a.start_ns, a.end_ns) << a.scope.row;
    last = a.end_ns;
    seen.emplace(a.scope.row, a.scope.pass);
  }
  EXPECT_LE(last, recorded.end_ns);
  for (const Pass pass : {Pass::input, Pass::loss, Pass::update, Pass::advance})
    EXPECT_TRUE(seen.count({"", pass})) << name(pass);
  for (const Pass pass : {Pass::forward, Pass::backward_filter}) EXPECT_TRUE(seen.count({"conv2d", pass})) << name(pass);
  EXPECT_FALSE(seen.count({"conv2d", Pass::backward_data})) << "the image needs no gradient";
  for (const Pass pass : {Pass::forward, Pass::backward}) EXPECT_TRUE(seen.count({"batch_normalization", pass})) << name(pass);
  for (const Pass pass : {Pass::forward, Pass::backward_data, Pass::backward_filter})
    EXPECT_TRUE(seen.count({"dense", pass})) << name(pass);
}

TEST_P(ProfileTest, EveryTracedPassOfARowHasItsCost) {
  const auto backend = make_backend(GetParam(), Precision::f32);
  Model model(tiny(), *backend);
  model.initialize(1);
  Tracer tracer(*backend);
  fit(model, {"ramp", images(12), images(4), images(4), {}}, {.epochs = 1, .batch_size = 4}, tracer);
  const std::vector<ScopedCost> costs = model.program(Mode::train, 4).step_costs();
  std::vector<Scope> traced, costed;
  for (const Activity& a : tracer.recorded.activities)
    if (a.scope.pass != Pass::advance) traced.push_back(a.scope);
  for (const ScopedCost& c : costs) costed.push_back(c.scope);
  EXPECT_EQ(traced, costed);

  const double macs = 4.0 * (4 * 4 * 4 * 27) + 4.0 * 64;  // of a batch: the convolution to 4x4x4, and the logits
  double forward = 0, backward = 0;
  for (const ScopedCost& c : costs) {
    EXPECT_GT(c.cost.bytes, 0) << c.scope.row << " " << name(c.scope.pass);
    (c.scope.pass == Pass::forward ? forward : backward) += c.cost.flop;
  }
  EXPECT_EQ(forward, 2 * macs);
  EXPECT_EQ(backward, 2 * (2 * macs - 4.0 * (4 * 4 * 4 * 27))) << "the image needs no gradient";
}

INSTANTIATE_TEST_SUITE_P(Devices, ProfileTest, testing::Values("cpu", "reference"));

TEST(ProfileTest, NothingIsRecordedBeforeATraceStartsOrAfterItGoes) {
  const auto backend = make_backend("cpu", Precision::f32);
  auto trace = backend->trace();
  { const Scoped scoped(*backend, {"early", Pass::forward}); }
  trace->start();
  { const Scoped scoped(*backend, {"seen", Pass::forward}); }
  const Recorded recorded = trace->stop();
  { const Scoped scoped(*backend, {"late", Pass::forward}); }
  ASSERT_EQ(recorded.activities.size(), 1u);
  EXPECT_EQ(recorded.activities[0].scope, (Scope{"seen", Pass::forward}));
  trace.reset();
  const Scoped scoped(*backend, {"gone", Pass::forward});
}

TEST(ProfileTest, AnEpochsLedgerLeavesNextToNothingUnnamed) {
  const auto backend = make_backend("cpu", Precision::f32);
  Model model(tiny(), *backend);
  model.initialize(1);
  Tracer tracer(*backend);
  fit(model, {"ramp", images(400), images(40), images(4), {}}, {.epochs = 2, .batch_size = 4, .population_statistics = true},
      tracer);
  ASSERT_EQ(tracer.ledgers.size(), 2u);
  for (const EpochLedger& l : tracer.ledgers) {
    for (const double part : {l.training, l.statistics, l.validation, l.saving}) EXPECT_GT(part, 0) << l.epoch;
    const double named = l.training + l.statistics + l.validation + l.saving;
    EXPECT_LE(named, l.total) << l.epoch;
    EXPECT_GT(named, 0.5 * l.total) << l.epoch;  // of a tiny network; a stalled machine must not fail this
  }
}

}  // namespace
}  // namespace microtome
