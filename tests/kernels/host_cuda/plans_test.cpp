// Which plan runs: choosing by times, the file that keeps what was chosen, and what is made before a capture.
#include "engine/backend.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/vendor/cudnn.h"
#include "kernels/cuda/vendor/plan_cache.h"
#include "kernels/cuda/vendor/tuner.h"
#include "kernels/host_cuda/backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace microtome::cuda {
namespace {

TEST(CudnnVersionTest, AnEarlierMinorVersionIsTooOldAndAnEarlierPatchIsNot) {
  for (const std::size_t serves : {91900, 91901, 92000, 100000}) EXPECT_NO_THROW(check_version(serves)) << serves;
  for (const std::size_t old : {90100, 91899, 8907}) {
    try {
      check_version(old);
      ADD_FAILURE() << old;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::machine);
      EXPECT_EQ(error.report().expected, "cuDNN 9.19.0 or a later 9");
      EXPECT_EQ(error.report().found, "cuDNN " + version_text(old));
    }
  }
  EXPECT_EQ(version_text(90100), "9.1.0");
}

/// Candidates whose times are the same in every round but the first, and how often each was asked.
struct Race {
  std::vector<std::optional<Sample>> times;
  std::vector<int> asked = std::vector<int>(times.size());

  std::optional<Fastest> run() {
    return fastest(times.size(), [&](std::size_t i) -> std::optional<Sample> {
      const bool first = asked[i]++ == 0;
      if (!times[i]) return {};
      return first ? Sample{1e6, 1e6} : times[i];
    });
  }
};

TEST(FastestTest, IsTheLeastMeanOfColdAndWarm) {
  Race race{{Sample{10, 10}, Sample{12, 7}, Sample{8, 12}, Sample{9, 11.5}}};
  const auto best = race.run();
  ASSERT_TRUE(best);
  EXPECT_EQ(best->candidate, 1u);
  EXPECT_EQ(best->time_us, 9.5);
}

TEST(FastestTest, WhoIsFarBehindDropsOutEarly) {
  Race race{{Sample{100, 100}, Sample{10, 10}, Sample{10.5, 10}}};
  EXPECT_EQ(race.run()->candidate, 1u);
  EXPECT_GE(race.asked[1], 11);
  EXPECT_EQ(race.asked[2], race.asked[1]);
  EXPECT_LE(race.asked[0], 4);
}

TEST(FastestTest, OneSlowGoIsNoReason) {
  int round = 0;
  const auto best = fastest(2, [&](std::size_t i) {
    return i == 0 ? Sample{10, 10} : Sample{8, round++ % 4 == 1 ? 1000.0 : 8};
  });
  EXPECT_EQ(best->candidate, 1u);
}

TEST(FastestTest, WhatDoesNotRunIsNotChosen) {
  Race race{{std::nullopt, Sample{10, 10}}};
  EXPECT_EQ(race.run()->candidate, 1u);
  EXPECT_EQ(race.asked[0], 1);
  Race none{{std::nullopt, std::nullopt}};
  EXPECT_FALSE(none.run());
}

class PlanFileTest : public testing::Test {
 protected:
  PlanFileTest() { std::filesystem::remove_all(folder_); }
  ~PlanFileTest() override { std::filesystem::remove_all(folder_); }

  std::vector<std::string> lines() const {
    std::ifstream file(path_);
    std::vector<std::string> result;
    for (std::string line; std::getline(file, line);) result.push_back(line);
    return result;
  }
  void write(const std::vector<std::string>& lines) const {
    std::filesystem::create_directories(path_.parent_path());
    std::ofstream file(path_);
    for (const std::string& line : lines) file << line << '\n';
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
  const std::filesystem::path path_ = folder_ / "microtome" / "plans.txt";
  const TimedChoice some_{{62, {{4, 1}, {27, 2}}}, 1024, 12.5};
};

TEST_F(PlanFileTest, KeepsWhatWasChosen) {
  PlanCache cache(path_);
  cache.keep("h200: conv", some_);
  cache.keep("h200: no knobs", {{0, {}}, 0, 3});
  cache.save();
  const PlanCache again(path_);
  ASSERT_NE(again.find("h200: conv"), nullptr);
  EXPECT_EQ(*again.find("h200: conv"), some_);
  EXPECT_TRUE(again.find("h200: no knobs")->choice.knobs.empty());
  EXPECT_EQ(again.find("a100: conv"), nullptr);
}

TEST_F(PlanFileTest, ABrokenLineIsNoLine) {
  const std::string good = line_of("key", some_);
  EXPECT_EQ(parsed_line(good)->second, some_);
  for (const std::string& broken :
       {std::string(), std::string("key"), std::string("\tengine 1 workspace 0 us 1 knobs"), good.substr(0, good.size() - 1),
        good.substr(0, good.find("knobs")), good + " 3", good + " 3:x", std::string("key\tengine x workspace 0 us 1 knobs"),
        std::string("key\tengine -2 workspace 0 us 1 knobs")}) {
    EXPECT_FALSE(parsed_line(broken)) << broken;
  }
  write({"nonsense", good, "other\tengine 1 workspace"});
  const PlanCache cache(path_);
  EXPECT_NE(cache.find("key"), nullptr);
  EXPECT_EQ(cache.find("other"), nullptr);
}

TEST_F(PlanFileTest, WhatAnotherProcessWroteMeanwhileStays) {
  PlanCache ours(path_), theirs(path_);
  ours.keep("ours", some_);
  theirs.keep("theirs", some_);
  theirs.keep("both", some_);
  ours.keep("both", {{1, {}}, 0, 1});
  theirs.save();
  ours.save();
  const PlanCache both(path_);
  EXPECT_NE(both.find("ours"), nullptr);
  EXPECT_NE(both.find("theirs"), nullptr);
  EXPECT_EQ(both.find("both")->choice.engine, 1);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path_.parent_path()), {}), 1) << "something was left beside it";
}

TEST_F(PlanFileTest, AFolderThatCannotBeWrittenCostsAWarning) {
  std::filesystem::create_directories(folder_);
  std::ofstream(folder_ / "microtome") << "a file where the folder should be";
  PlanCache cache(path_);
  cache.keep("key", some_);
  testing::internal::CaptureStderr();
  cache.save();
  EXPECT_NE(testing::internal::GetCapturedStderr().find(path_.string()), std::string::npos);
  EXPECT_NE(cache.find("key"), nullptr);
}

TEST(PlansTest, AWayThatIsLostIsSaidOnce) {
  Context context(Precision::f32, {});
  Plans plans(context);
  const auto ways_of = [](int channels) {
    const Layout x{{1, 4, 4, channels}};
    Alternatives alternatives{problem_of({.conv = {.window = {.kernel = 3, .before = 1, .after = 1}}, .x = x, .y = x}, false)};
    alternatives.push_back(alternatives.front());
    alternatives.front().key = "narrow " + alternatives.front().key;
    alternatives.front().limits.workspace_bytes = 1;  // what every engine exceeds
    return alternatives;
  };
  const auto said = [&](const Alternatives& alternatives) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(plans.find(alternatives).alternative, alternatives.size() - 1);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(said({ways_of(16).back()}), "");
  const std::string warning = said(ways_of(8));
  EXPECT_NE(warning.find("narrow conv forward"), std::string::npos) << warning;
  EXPECT_NE(warning.find("NVRTC"), std::string::npos) << warning;
  EXPECT_EQ(said(ways_of(24)), "");
}

/// One convolution of ones, forward and perhaps backward.
class TunedConvTest : public PlanFileTest {
 protected:
  std::vector<float> run(const BackendOptions& options, bool backward) {
    const auto backend = test::make_host_cuda_backend(Precision::f32, host_cuda::Order::ascending, options);
    const Layout x{{1, 4, 4, 8}}, w{{8, 3, 3, 8}};
    const auto op = backend->conv({.window = {.kernel = 3, .before = 1, .after = 1}}, x, x);
    const std::vector<float> ones(static_cast<std::size_t>(w.shape.count()), 1.0f);
    std::vector<Buffer> buffers;
    const auto tensor = [&](const Layout& layout) {
      Buffer& buffer = buffers.emplace_back(backend->allocate(layout.packed_bytes()));
      backend->write(buffer.data(), ones.data(), layout.packed_bytes());
      return Tensor{layout, buffer.data()};
    };
    const Tensor from = tensor(x), filter = tensor(w), to = tensor(x), gradient = tensor(w);
    backend
        ->record([&] {
          op->forward(from, nullptr, filter, nullptr, to, nullptr);
          if (backward) op->backward_filter(from, nullptr, to, gradient, nullptr, Write::overwrite);
        })
        ->run();
    std::vector<float> result(static_cast<std::size_t>(x.shape.count()));
    backend->read(result.data(), to.data, x.packed_bytes());
    return result;
  }

  static std::size_t with(const std::vector<std::string>& lines, std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(lines.begin(), lines.end(), [&](const std::string& line) { return line.find(text) != line.npos; }));
  }
};

TEST_F(TunedConvTest, ComputesTheSame) {
  EXPECT_EQ(run({.autotune = true}, true), run({}, true));
}

TEST_F(TunedConvTest, KeepsWhatItTimed) {
  run({.autotune = true, .plan_cache = path_}, true);
  const std::vector<std::string> first = lines();
  EXPECT_EQ(first.size(), 2u);
  EXPECT_EQ(with(first, "host, 3 SMs, cuDNN 91900: conv forward f32"), 1u);
  EXPECT_EQ(with(first, "conv backward filter"), 1u);
  run({.autotune = true, .plan_cache = path_}, true);
  EXPECT_EQ(lines(), first) << "timed again";
  run({.deterministic = true, .autotune = true, .plan_cache = path_}, true);
  EXPECT_EQ(lines().size(), 4u);
}

TEST_F(TunedConvTest, APlanThatNobodyCallsIsNotMade) {
  run({.autotune = true, .plan_cache = path_}, false);
  EXPECT_EQ(lines().size(), 1u);
}

TEST_F(TunedConvTest, AnEngineThatIsGoneIsReplaced) {
  run({.autotune = true, .plan_cache = path_}, false);
  std::vector<std::string> stale = lines();
  ASSERT_EQ(stale.size(), 1u);
  stale[0] = stale[0].substr(0, stale[0].find('\t')) + "\tengine 1234 workspace 0 us 1 knobs";
  write(stale);
  run({.autotune = true, .plan_cache = path_}, false);
  EXPECT_EQ(with(lines(), "engine 1234"), 0u);
  EXPECT_EQ(lines().size(), 1u);
}

TEST_F(TunedConvTest, WithoutTuningTheFileIsLeftAlone) {
  run({.plan_cache = path_}, true);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

}  // namespace
}  // namespace microtome::cuda
