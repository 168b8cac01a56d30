// A trace through CUPTI, of a device that is played (watched.h).
#include "kernels/cuda/profiling/trace.h"

#include "engine/check.h"
#include "kernels/host_cuda/watched.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace microtome::cuda {
namespace {

using host_cuda::Watched;
using host_cuda::Work;

constexpr Scope stem{"conv1_conv", Pass::forward}, filter{"conv1_conv", Pass::backward_filter}, update{"", Pass::update};
const Work conv{.name = "conv"}, reduce{.name = "reduce"}, adam{.name = "adam"};
const Work copy{.kind = CUPTI_ACTIVITY_KIND_MEMCPY, .bytes = 64}, fill{.kind = CUPTI_ACTIVITY_KIND_MEMSET, .bytes = 32};

using Lines = std::vector<std::string>;

Lines said(const Recorded& recorded) {
  Lines lines;
  for (const Activity& a : recorded.activities) {
    const std::string what = a.kind == Activity::Kind::copy ? "copy" : a.kind == Activity::Kind::fill ? "fill" : a.name;
    lines.push_back(what + (a.attributed ? " " + std::string(a.scope.row) + " " + std::string(name(a.scope.pass)) : " ?"));
  }
  return lines;
}

/// A backend, as far as a trace sees it.
struct TraceTest : testing::Test {
  void trace() { made = make_trace(slot); }

  template <class... Works>
  void capture(CUgraph graph, const Scope& scope, const Works&... works) {
    if (slot) slot->enter(scope);
    (device.add_node(graph, works), ...);
    if (slot) slot->leave();
  }
  template <class... Works>
  void run(const Scope& scope, const Works&... works) {
    if (slot) slot->enter(scope);
    (device.launch(works), ...);
    if (slot) slot->leave();
  }
  CUgraph captured_step() {
    CUgraph graph = device.graph();
    capture(graph, stem, copy, conv);
    capture(graph, filter, fill, conv, reduce);
    device.add_node(graph, conv);
    capture(graph, update, adam);
    return device.instantiate(graph);
  }
  const Lines step{"copy conv1_conv forward",
                   "conv conv1_conv forward",
                   "fill conv1_conv backward_filter",
                   "conv conv1_conv backward_filter",
                   "reduce conv1_conv backward_filter",
                   "conv ?",
                   "adam  update"};

  Watched device;
  ScopeListener* slot = nullptr;
  std::unique_ptr<CudaTrace> made;
};

TEST_F(TraceTest, EveryKernelOfAReplayedGraphIsForTheRowThatCapturedIt) {
  trace();
  CUgraph executable = captured_step();
  made->start();
  device.launch(executable);
  device.launch(executable);
  const Recorded recorded = made->stop();
  Lines twice = step;
  twice.insert(twice.end(), step.begin(), step.end());
  EXPECT_EQ(said(recorded), twice);
  EXPECT_EQ(recorded.note, "");
  EXPECT_EQ(recorded.dropped, 0u);
  EXPECT_LT(recorded.start_ns, recorded.activities.front().start_ns);
  EXPECT_GT(recorded.end_ns, recorded.activities.back().end_ns);
}

TEST_F(TraceTest, AGraphCapturedBeforeTheTraceWasMadeHasNoRows) {
  CUgraph executable = captured_step();
  trace();
  made->start();
  device.launch(executable);
  EXPECT_EQ(said(made->stop()), Lines({"copy ?", "conv ?", "fill ?", "conv ?", "reduce ?", "conv ?", "adam ?"}));
}

TEST_F(TraceTest, WorkOutsideOfGraphsIsForTheScopeItWasLaunchedIn) {
  trace();
  made->start();
  run(stem, copy, conv);
  run(filter, fill, conv, reduce);
  device.launch(conv);
  run(update, adam);
  EXPECT_EQ(said(made->stop()), step);
  EXPECT_TRUE(device.external.empty());
}

TEST_F(TraceTest, AScopeInsideAnotherEndsWithoutEndingIt) {
  trace();
  made->start();
  slot->enter(stem);
  run(filter, reduce);
  device.launch(conv);
  slot->leave();
  device.launch(adam);
  EXPECT_EQ(said(made->stop()), Lines({"reduce conv1_conv backward_filter", "conv conv1_conv forward", "adam ?"}));
}

TEST_F(TraceTest, OnlyWhatIsBetweenStartAndStopIsRecorded) {
  trace();
  CUgraph executable = captured_step();
  device.launch(executable);
  run(stem, conv);
  for (int round = 0; round < 2; ++round) {
    made->start();
    EXPECT_FALSE(device.enabled.empty());
    run(update, adam);
    EXPECT_EQ(said(made->stop()), Lines({"adam  update"}));
    EXPECT_TRUE(device.enabled.empty());
    run(filter, reduce);
  }
}

TEST_F(TraceTest, AScopeMayBeOpenOverAStartAndAStop) {
  trace();
  slot->enter(stem);
  made->start();
  slot->leave();
  slot->enter(filter);
  static_cast<void>(made->stop());
  slot->leave();
  made->start();
  run(update, adam);
  EXPECT_EQ(said(made->stop()), Lines({"adam  update"}));
  EXPECT_TRUE(device.external.empty());
}

TEST_F(TraceTest, AScopeMayBeEnteredBeforeTheTraceIsMade) {
  trace();
  slot->leave();
  made->start();
  run(stem, conv);
  EXPECT_EQ(said(made->stop()), Lines({"conv conv1_conv forward"}));
}

TEST_F(TraceTest, MoreRecordsThanABufferHoldsAreAllThereAndBuffersGoRound) {
  trace();
  CUgraph executable = captured_step();
  std::set<const std::uint8_t*> buffers;
  for (int round = 0; round < 3; ++round) {
    made->start();
    for (int i = 0; i < 5000; ++i) device.launch(executable);
    const Recorded recorded = made->stop();
    EXPECT_EQ(recorded.activities.size(), 7 * 5000u);
    EXPECT_EQ(recorded.activities.back().scope, update);
    EXPECT_TRUE(device.buffers_clear);
    if (round == 0) buffers = device.buffers;
  }
  EXPECT_GT(buffers.size(), 1u);
  EXPECT_EQ(device.buffers, buffers);
}

TEST_F(TraceTest, AKernelBringsItsLaunch) {
  trace();
  made->start();
  run(stem, conv, copy);
  const Recorded recorded = made->stop();
  ASSERT_EQ(recorded.activities.size(), 2u);
  const Activity::Launch& launch = recorded.activities[0].launch;
  EXPECT_EQ(launch.grid, (std::array<std::uint32_t, 3>{132, 2, 1}));
  EXPECT_EQ(launch.block, (std::array<std::uint32_t, 3>{256, 1, 1}));
  EXPECT_EQ(launch.registers, 40u);
  EXPECT_EQ(launch.shared_bytes, 5120u);
  EXPECT_EQ(launch.local_bytes, 16u);
  EXPECT_EQ(recorded.activities[1].bytes, 64u);
  EXPECT_EQ(recorded.activities[1].name, "copy host to device");
}

TEST_F(TraceTest, DroppedRecordsAndThoseWithoutAnEndAreCounted) {
  trace();
  device.dropped = 5;  // of before
  made->start();
  run(stem, conv);
  device.still_running = true;
  run(stem, reduce);
  device.dropped += 2;
  const Recorded recorded = made->stop();
  EXPECT_EQ(said(recorded), Lines({"conv conv1_conv forward"}));
  EXPECT_EQ(recorded.dropped, 3u);
  EXPECT_EQ(recorded.note, "1 record came without times");
}

TEST_F(TraceTest, NodesMayBeMadeOnAnotherThread) {
  trace();
  CUgraph executable = nullptr;
  std::thread([&] { executable = captured_step(); }).join();
  made->start();
  device.launch(executable);
  EXPECT_EQ(said(made->stop()), step);
}

TEST_F(TraceTest, ATraceIsOnOrOff) {
  trace();
  EXPECT_THROW(static_cast<void>(made->stop()), Error);
  made->start();
  EXPECT_THROW(made->start(), Error);
}

TEST_F(TraceTest, TheDeviceIsFreeForTheNextTrace) {
  trace();
  made->start();
  run(stem, conv);
  made.reset();
  EXPECT_EQ(slot, nullptr);
  EXPECT_EQ(device.callback, nullptr);
  EXPECT_TRUE(device.enabled.empty());
  trace();
  CUgraph executable = captured_step();
  made->start();
  device.launch(executable);
  EXPECT_EQ(said(made->stop()), step);
}

/// Nothing is named, nothing is thrown; a profiler outside sees just what was traced, and the note has the words.
struct WithoutCuptiTest : TraceTest {
  void expect_bracket(const std::string& words) {
    trace();
    CUgraph executable = captured_step();
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(device.brackets, 0);
      made->start();
      EXPECT_EQ(device.brackets, 1);
      device.launch(executable);
      run(stem, conv);
      const Recorded recorded = made->stop();
      EXPECT_EQ(device.brackets, 0);
      EXPECT_TRUE(recorded.activities.empty());
      EXPECT_NE(recorded.note.find(words), std::string::npos) << recorded.note;
      EXPECT_GT(recorded.end_ns, recorded.start_ns);
    }
    made.reset();
    EXPECT_EQ(slot, nullptr);
  }
};

TEST_F(WithoutCuptiTest, ItsLibraryIsMissing) {
  device.installed = false;
  expect_bracket("library is missing");
}

TEST_F(WithoutCuptiTest, AnotherProfilerHasTheProcess) {
  device.on_subscribe = CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  expect_bracket("ranges of the NVTX domain microtome");
}

TEST_F(WithoutCuptiTest, NoPermission) {
  device.on_enable = CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
  expect_bracket("NVreg_RestrictProfilingToAdminUsers=0");
  EXPECT_EQ(device.callback, nullptr);
}

TEST_F(WithoutCuptiTest, ItRefusesForReasonsOfItsOwn) {
  device.on_subscribe = CUPTI_ERROR_UNKNOWN;
  expect_bracket("CUPTI_ERROR_UNKNOWN");
}

TEST_F(TraceTest, WhatIsRefusedOnlyWhenItStartsIsSaidWhenItStops) {
  trace();
  device.on_enable = CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
  made->start();
  run(stem, conv);
  const Recorded recorded = made->stop();
  EXPECT_TRUE(recorded.activities.empty());
  EXPECT_NE(recorded.note.find("run as root"), std::string::npos);
}

}  // namespace
}  // namespace microtome::cuda
