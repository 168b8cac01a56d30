// What profilers hear of us, and that CUPTI's library has what we ask of it: with the vendor's own headers and libraries, on
// any machine that has the toolkit.
#include "kernels/cuda/cupti.h"
#include "kernels/cuda/nvtx.h"

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

}  // namespace
}  // namespace microtome::cuda
