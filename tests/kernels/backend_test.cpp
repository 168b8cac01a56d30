// The door to the backends, and what every backend's memory and recordings promise.
#include "kernels/backend.h"
#include "kernels/harness.h"

#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

namespace microtome::test {
namespace {

ExitCode code_of(std::string_view device, Precision precision) {
  try {
    make_backend(device, precision);
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::done;
}

TEST(MakeBackendTest, AnUnknownNameIsAUsageErrorThatNamesTheAcceptedOnes) {
  for (const char* device : {"", "gpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:0x", "CPU"})
    EXPECT_EQ(code_of(device, Precision::f32), ExitCode::usage) << device;
  try {
    make_backend("gpu", Precision::f32);
  } catch (const Error& error) {
    EXPECT_NE(error.report().expected.find("cuda:N"), std::string::npos);
    EXPECT_EQ(error.report().found, "\"gpu\"");
  }
}

TEST(MakeBackendTest, TheCpuComputesInFloat32Only) {
  for (const Precision precision : {Precision::tf32, Precision::bf16}) {
    EXPECT_EQ(code_of("cpu", precision), ExitCode::machine);
    EXPECT_EQ(code_of("reference", precision), ExitCode::machine);
  }
}

TEST(MakeBackendTest, AGpuThatIsNotThereIsTheMachines) {
  EXPECT_EQ(code_of("cuda:63", Precision::f32), ExitCode::machine);
}

TEST(MakeBackendTest, AutoTakesTheGpuWhereThereIsOne) {
  const std::string wanted = cuda_device_count() > 0 ? "cuda:0" : "cpu";
  EXPECT_EQ(make_backend("auto", Precision::f32)->device().name, wanted);
}

class BackendTest : public KernelTest {
 protected:
  BackendTest() : KernelTest([](Backend&) {}) {}
};

TEST_P(BackendTest, MemoryIsAlignedWrittenReadAndZeroed) {
  const Buffer buffer = backend().allocate(1000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256, 0u);
  EXPECT_GE(buffer.size_bytes(), 1000u);
  std::vector<std::uint8_t> sent(1000), back(1000);
  std::iota(sent.begin(), sent.end(), std::uint8_t{0});
  backend().write(buffer.data(), sent.data(), sent.size());
  backend().zero(static_cast<std::uint8_t*>(buffer.data()) + 100, 50);
  backend().read(back.data(), buffer.data(), back.size());
  std::fill_n(sent.begin() + 100, 50, std::uint8_t{0});
  EXPECT_EQ(back, sent);
}

TEST_P(BackendTest, CopiesWithinTheDevice) {
  const Buffer from = backend().allocate(1000), to = backend().allocate(1000);
  std::vector<std::uint8_t> sent(1000), back(1000);
  std::iota(sent.begin(), sent.end(), std::uint8_t{0});
  backend().write(from.data(), sent.data(), sent.size());
  backend().zero(to.data(), 1000);
  backend().copy(static_cast<std::uint8_t*>(to.data()) + 256, from.data(), 500);
  backend().read(back.data(), to.data(), back.size());
  std::copy_n(sent.begin(), 500, sent.begin() + 256);
  std::fill_n(sent.begin(), 256, std::uint8_t{0});
  std::fill(sent.begin() + 756, sent.end(), std::uint8_t{0});
  EXPECT_EQ(back, sent);
}

TEST_P(BackendTest, ARecordingRunsAgainOnTheSameAddresses) {
  const auto advance = backend().advance();
  const Buffer buffer = backend().allocate(sizeof(StepState));
  StepState state;
  const auto recording = backend().record([&] { advance->run(static_cast<StepState*>(buffer.data()), true); });
  backend().write(buffer.data(), &state, sizeof state);
  for (int i = 0; i < 5; ++i) recording->run();
  backend().read(&state, buffer.data(), sizeof state);
  EXPECT_EQ(state.step, 5u);
}

/// Two rows' work, once.
struct TracedStep {
  explicit TracedStep(Backend& on)
      : backend(on), advance(on.advance()), state(on.allocate(sizeof(StepState))), bytes(on.allocate(1000)) {
    on.zero(state.data(), sizeof(StepState));
  }
  void operator()() const {
    {
      const Scoped scoped(backend, {"", Pass::advance});
      advance->run(static_cast<StepState*>(state.data()), true);
    }
    const Scoped scoped(backend, {"row", Pass::forward});
    backend.zero(bytes.data(), 1000);
  }

  Backend& backend;
  std::unique_ptr<AdvanceOp> advance;
  Buffer state, bytes;
};

/// The activities' kinds and names by what they are for; "?" where that is not known.
using Named = std::map<std::string, std::multiset<std::pair<Activity::Kind, std::string>>>;
Named named(const Recorded& recorded) {
  Named all;
  for (const Activity& a : recorded.activities)
    all[a.attributed ? fmt::format("{} {}", a.scope.row, name(a.scope.pass)) : "?"].emplace(a.kind, a.name);
  return all;
}

TEST_P(BackendTest, ATraceSeesTheSameInARecordedStepAsInItsCalls) {
  const auto trace = backend().trace();
  const TracedStep step(backend());
  const auto recording = backend().record([&] { step(); });
  trace->start();
  recording->run();
  const Recorded replayed = trace->stop();
  trace->start();
  step();
  const Recorded called = trace->stop();
  if (replayed.activities.empty() && !replayed.note.empty()) GTEST_SKIP() << replayed.note;
  Named of_replay = named(replayed);
  EXPECT_EQ(of_replay, named(called));
  EXPECT_EQ(of_replay.size(), 2u);
  EXPECT_EQ(of_replay[" advance"].size(), 1u);
  EXPECT_EQ(of_replay["row forward"].size(), 1u);
  for (const Recorded* recorded : {&replayed, &called}) {
    EXPECT_EQ(recorded->dropped, 0u);
    for (const Activity& a : recorded->activities) {
      EXPECT_LE(recorded->start_ns, a.start_ns);
      EXPECT_LE(a.start_ns, a.end_ns);
      EXPECT_LE(a.end_ns, recorded->end_ns);
    }
  }
}

TEST_P(BackendTest, SaysWhatItIs) {
  const Device device = backend().device();
  for (const std::string& text : {device.name, device.description, device.versions}) EXPECT_FALSE(text.empty());
  EXPECT_GT(device.memory_bytes, 0u);
  EXPECT_LE(device.available_bytes, device.memory_bytes);
}

MICROTOME_INSTANTIATE(BackendTest);

}  // namespace
}  // namespace microtome::test
