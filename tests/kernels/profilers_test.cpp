// What profilers hear of us, and that CUPTI's library has what we ask of it: with the vendor's own headers and libraries, on
// any machine that has the toolkit.
#include "engine/check.h"
#include "kernels/cuda/profiling/cupti.h"
#include "kernels/cuda/profiling/cupti_counters.h"
#include "kernels/cuda/profiling/nvtx.h"

#include <gtest/gtest.h>

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

namespace microtome::cuda {
namespace {

using Lines = std::vector<std::string>;

/// NVTX_LISTENER notes what comes; NVTX asks for it once, at the first call of all.
const Lines& heard() {
  static const auto lines_heard = [] {
    setenv("NVTX_INJECTION64_PATH", NVTX_LISTENER, 1);
    name_this_thread("test");
    void* listener = dlopen(NVTX_LISTENER, RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<const Lines& (*)()>(listener != nullptr ? dlsym(listener, "lines_heard") : nullptr);
  }();
  static const Lines nothing;
  return lines_heard != nullptr ? lines_heard() : nothing;
}

Lines since(std::size_t before) {
  return {heard().begin() + static_cast<std::ptrdiff_t>(before), heard().end()};
}

TEST(NvtxTest, OneDomainHasACategoryAPass) {
  const Lines& lines = heard();
  ASSERT_EQ(std::count(lines.begin(), lines.end(), "domain microtome"), 1);
  for (const char* line : {"category 1 input", "category 2 forward", "category 6 backward_filter", "category 9 advance"})
    EXPECT_EQ(std::count(lines.begin(), lines.end(), line), 1) << line;
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "thread test"), 1);
}

TEST(NvtxTest, ARangeIsNamedByRowAndPass) {
  const std::size_t before = heard().size();
  push_range("replay");
  push_range({"conv3_block2_2_conv", Pass::backward_filter});
  pop_range();
  push_range({"", Pass::update});
  pop_range();
  pop_range();
  const Lines lines = since(before);
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_TRUE(lines[0].starts_with("push replay, category 0,")) << lines[0];
  EXPECT_TRUE(lines[1].starts_with("push conv3_block2_2_conv backward_filter, category 6,")) << lines[1];
  EXPECT_EQ(lines[2], "pop");
  EXPECT_TRUE(lines[3].starts_with("push update, category 8,")) << lines[3];
  EXPECT_EQ(lines[5], "pop");
}

TEST(NvtxTest, ThePassesThatTakeTheTimeHaveColoursOfTheirOwn) {
  const std::size_t before = heard().size();
  std::set<std::string> colours;
  for (const Pass pass : {Pass::input, Pass::forward, Pass::backward_data, Pass::backward_filter, Pass::update}) {
    push_range({"row", pass});
    const std::string& line = heard().back();
    colours.insert(line.substr(line.find("colour")));
    pop_range();
  }
  EXPECT_EQ(since(before).size(), 10u);
  EXPECT_EQ(colours.size(), 5u);
}

TEST(CuptiTest, TheToolkitsLibraryHasEveryFunction) {
  std::string why;
  const Cupti* cupti = find_cupti(why);
  ASSERT_NE(cupti, nullptr) << why;
  EXPECT_EQ(find_cupti(why), cupti);
  const char* text = nullptr;
  EXPECT_EQ(cupti->cuptiGetResultString(CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED, &text), CUPTI_SUCCESS);
  EXPECT_STREQ(text, "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED");
}

#ifdef HAS_RANGE_PROFILER

struct CounterPlanTest : testing::TestWithParam<const char*> {
  void SetUp() override {
    std::string why;
    cupti = find_counter_functions(why);
    ASSERT_NE(cupti, nullptr) << why;
  }
  const CounterFunctions* cupti = nullptr;
};

TEST_P(CounterPlanTest, TheChipHasWhatWeNameAndCountsMostOfItAtOnce) {
  const std::vector<std::string> most{"dram__bytes.sum", "lts__t_bytes.sum",
                                      "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
                                      "sm__warps_active.avg.pct_of_peak_sustained_active", "gpu__time_duration.sum"};
  const CounterPlan plan(*cupti, GetParam(), most);
  EXPECT_EQ(plan.passes(), 1);
  EXPECT_GT(plan.image().size(), 0u);
  ASSERT_EQ(plan.metrics().size(), most.size());
  EXPECT_EQ(plan.metrics()[0], most[0]);
  std::vector<std::string> all = most;
  all.push_back("sm__throughput.avg.pct_of_peak_sustained_elapsed");
  EXPECT_GT(CounterPlan(*cupti, GetParam(), all).passes(), 1);
}

TEST_P(CounterPlanTest, AnUnknownCounterIsNamedWithWhatWasMeant) {
  const auto refused = [&](const std::string& metric) -> std::string {
    try {
      CounterPlan(*cupti, GetParam(), {"dram__bytes.sum", metric});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage) << error.what();
      EXPECT_NE(std::string(error.what()).find(metric), std::string::npos) << error.what();
      return error.report().expected;
    }
    ADD_FAILURE() << metric << " was taken";
    return "";
  };
  EXPECT_EQ(refused("dram__bytse.sum"), "did you mean dram__bytes.sum?");
  EXPECT_EQ(refused("dram__bytes"), "did you mean dram__bytes.sum?");
  EXPECT_EQ(refused("qqq__xx.sum"), "");
}

INSTANTIATE_TEST_SUITE_P(Chips, CounterPlanTest, testing::Values("GV100", "TU102", "GA100", "GH100", "GB100"),
                         [](const auto& chip) { return std::string(chip.param); });

TEST(CounterPlanOfNoChip, SaysSo) {
  std::string why;
  const CounterFunctions* cupti = find_counter_functions(why);
  ASSERT_NE(cupti, nullptr) << why;
  try {
    CounterPlan(*cupti, "GX999", {"dram__bytes.sum"});
    ADD_FAILURE() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::machine);
  }
}

#endif

}  // namespace
}  // namespace microtome::cuda
