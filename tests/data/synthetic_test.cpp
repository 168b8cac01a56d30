#include "data/synthetic.h"

#include "data/loader.h"
#include "data/pcam.h"
#include "data/support.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

namespace microtome {
namespace {

/// Every file below a folder with its bytes.
std::set<std::pair<std::string, std::vector<char>>> contents(const std::filesystem::path& folder) {
  std::set<std::pair<std::string, std::vector<char>>> all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) all.emplace(entry.path().lexically_relative(folder), read_bytes(entry.path()));
  }
  return all;
}

TEST(SyntheticTest, PcamsFilesLoadAndAreBalanced) {
  const TemporaryFolder folder;
  std::string said;
  synthesize_pcam(folder.path(), {.train = 20,
                                  .valid = 6,
                                  .test = 9,
                                  .seed = 3,
                                  .progress = [&](std::string_view what, std::int64_t done, std::int64_t of) {
                                    said = fmt::format("{} {} {}", what, done, of);
                                  }});
  EXPECT_EQ(said, "drawing test 9 9");
  const Dataset data = load(folder.path());
  EXPECT_EQ(data.name, "pcam");
  EXPECT_EQ(data.train.shape, (Shape{20, 96, 96, 3}));
  EXPECT_EQ(std::ranges::count(data.train.labels, 1), 10);
  EXPECT_EQ(std::ranges::count(data.valid.labels, 1), 3);
  EXPECT_NEAR(std::ranges::count(data.test.labels, 1), 4.5, 0.5);
  // No patch twice, neither within a split nor across.
  std::set<std::string> patches;
  for (const Images* images : {&data.train, &data.valid, &data.test}) {
    const std::size_t size = images->pixels.size() / images->labels.size();
    for (std::size_t i = 0; i < images->labels.size(); ++i) {
      patches.emplace(images->pixels.begin() + static_cast<std::ptrdiff_t>(i * size),
                      images->pixels.begin() + static_cast<std::ptrdiff_t>((i + 1) * size));
    }
  }
  EXPECT_EQ(patches.size(), 35u);
}

TEST(SyntheticTest, IdcsTreeLoadsWithPatientsApartAndSmallPatches) {
  const TemporaryFolder folder;
  synthesize_idc(folder.path(), {.train = 560, .valid = 70, .test = 70, .seed = 3});
  const Dataset data = load(folder.path());
  EXPECT_EQ(data.name, "idc");
  EXPECT_EQ(data.train.shape.n + data.valid.shape.n + data.test.shape.n, 700);
  const std::string notes = fmt::format("{}", data.notes.at(1));
  EXPECT_NE(notes.find("smaller than 50x50: padded with white"), std::string::npos) << notes;
  for (std::uint64_t seed = 0; seed < 5; ++seed) EXPECT_GT(load(folder.path(), {.seed = seed}).test.shape.n, 0);
}

TEST(SyntheticTest, TheSeedAloneDecidesNotTheThreads) {
  for (const auto synthesize : {synthesize_pcam, synthesize_idc}) {
    const TemporaryFolder a, b, c;
    synthesize(a.path(), {.train = 40, .valid = 4, .test = 4, .seed = 7, .threads = 1});
    synthesize(b.path(), {.train = 40, .valid = 4, .test = 4, .seed = 7, .threads = 5});
    synthesize(c.path(), {.train = 40, .valid = 4, .test = 4, .seed = 8, .threads = 1});
    EXPECT_TRUE(contents(a.path()) == contents(b.path()));
    EXPECT_FALSE(contents(a.path()) == contents(c.path()));
  }
}

/// Mean over channels and pixels of `count` patches of one class, each its own slide: mean and its standard error.
template <std::size_t Side, class Draw>
std::pair<double, double> mean_brightness(Draw draw, bool tumour, int count) {
  std::vector<std::uint8_t> pixels(Side * Side * 3);
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    draw(11, static_cast<std::uint64_t>(2 * i + tumour), static_cast<std::uint64_t>(2 * i + tumour), tumour, pixels.data());
    double mean = 0;
    for (const std::uint8_t p : pixels) mean += p;
    mean /= static_cast<double>(pixels.size());
    sum += mean, squares += mean * mean;
  }
  const double mean = sum / count;
  return {mean, std::sqrt((squares / count - mean * mean) / count)};
}

TEST(SyntheticTest, TheClassesAgreeInMeanColour) {
  const int count = 250;
  const auto agree = [](std::pair<double, double> a, std::pair<double, double> b) {
    // Four standard errors: a false alarm in 16,000.
    EXPECT_NEAR(a.first, b.first, 4 * std::hypot(a.second, b.second));
    EXPECT_GT(a.second, 0);
  };
  agree(mean_brightness<96>(draw_pcam_patch, false, count), mean_brightness<96>(draw_pcam_patch, true, count));
  agree(mean_brightness<50>(draw_idc_patch, false, count), mean_brightness<50>(draw_idc_patch, true, count));
}

TEST(SyntheticTest, AFullFolderAndAnEmptySplitAreRefused) {
  const TemporaryFolder folder;
  expect_refusal([&] { synthesize_pcam(folder / "a", {.train = 4, .valid = 4, .test = 1}); }, ExitCode::usage,
                 {"split test", "found:    1"});
  expect_refusal([&] { synthesize_idc(folder / "b", {.train = 4}); }, ExitCode::usage, {"40 or more", "found:    4"});
  write_bytes(folder / "x", {'a'});
  expect_refusal([&] { synthesize_pcam(folder.path(), {.train = 4, .valid = 4, .test = 4}); }, ExitCode::in_use,
                 {"empty folder only"});
  expect_refusal([&] { synthesize_idc(folder.path(), {.train = 400}); }, ExitCode::in_use, {"empty folder only"});
  expect_refusal([&] { synthesize_idc("/proc/none", {.train = 400}); }, ExitCode::memory, {"cannot be made"});
}

}  // namespace
}  // namespace microtome
