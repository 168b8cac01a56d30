#include "data/audit.h"

#include "data/digest.h"
#include "data/files.h"
#include "data/png.h"
#include "data/support.h"

#include <algorithm>
#include <array>
#include <utility>

namespace microtome {
namespace {

using Labelled = std::pair<std::vector<std::uint8_t>, std::uint8_t>;

constexpr int side = 6;
constexpr std::size_t image_bytes = side * side * 3;

Labelled patch(unsigned seed, std::uint8_t label) {
  return {some_pixels(image_bytes, seed), label};
}

Labelled blank(std::uint8_t colour, std::uint8_t label) {
  return {std::vector<std::uint8_t>(image_bytes, colour), label};
}

void write_split(const std::filesystem::path& folder, const char* split, const std::vector<Labelled>& images) {
  PcamWriter writer(folder, split, {static_cast<int>(images.size()), side, side, 3});
  for (const auto& [pixels, label] : images) writer.append(pixels, {&label, 1});
  writer.finish();
}

void write_png_patch(const std::filesystem::path& folder, const std::string& patient, int label, int number, Extent size = 50) {
  std::filesystem::create_directories(folder / patient / std::to_string(label));
  const std::vector<std::uint8_t> pixels =
      some_pixels(static_cast<std::size_t>(size.h * size.w * 3), static_cast<unsigned>(number));
  write_png(folder / patient / std::to_string(label) / fmt::format("{}_idx5_x{}_y1_class{}.png", patient, number, label), size,
            pixels.data());
}

class AuditTest : public testing::Test {
 protected:
  void write_meta(const char* split, const std::vector<std::string>& slides) const {
    std::ofstream out(folder_ / pcam_meta_name(split));
    out << "wsi\n";
    for (const std::string& slide : slides) out << slide << "\n";
  }
  TemporaryFolder folder_;
};

TEST_F(AuditTest, EqualImagesAreFoundWithinAndAcrossSplits) {
  write_split(folder_.path(), "train", {patch(1, 0), patch(2, 1), patch(3, 0), patch(2, 1), patch(2, 1)});
  write_split(folder_.path(), "valid", {patch(4, 0), patch(5, 1)});
  write_split(folder_.path(), "test", {patch(6, 0), patch(2, 1), patch(5, 0)});
  const Audit found = audit(folder_.path());
  EXPECT_EQ(found.format->name, "pcam");
  ASSERT_EQ(found.duplicates.size(), 2u);
  const Audit::Duplicates& four = found.duplicates[0];
  ASSERT_EQ(four.images.size(), 4u);
  EXPECT_EQ(four.images[0].id, "1");
  EXPECT_EQ(four.images[2].id, "4");
  EXPECT_EQ(four.images[3].split, 2u);
  EXPECT_TRUE(four.crosses());
  EXPECT_FALSE(four.contradictory());
  EXPECT_TRUE(found.duplicates[1].contradictory()) << "5 is of class 1 in valid and of class 0 in test";
  EXPECT_EQ(found.splits[0].copies, 2);
  EXPECT_EQ(found.splits[2].copies, 0);
  EXPECT_EQ(found.shared(2, 0), 1);
  EXPECT_EQ(found.shared(0, 2), 3);
  EXPECT_EQ(found.shared(2, 1), 1);
  EXPECT_EQ(found.shared(1, 0), 0);
  EXPECT_TRUE(found.leaks());
}

TEST_F(AuditTest, OneByteMakesAnotherImage) {
  Labelled other = patch(1, 0);
  other.first.back() ^= 1;
  write_split(folder_.path(), "train", {patch(1, 0), patch(2, 1)});
  write_split(folder_.path(), "valid", {other, patch(3, 1)});
  write_split(folder_.path(), "test", {patch(4, 0), patch(5, 1)});
  EXPECT_TRUE(audit(folder_.path()).duplicates.empty());
  EXPECT_FALSE(audit(folder_.path()).leaks());
}

TEST_F(AuditTest, ImagesOfOneColourAreCountedAndTellNothing) {
  Labelled nearly = blank(255, 0);
  nearly.first[1] = 254;  // the first pixel alone
  write_split(folder_.path(), "train", {blank(255, 0), patch(2, 1), blank(255, 1)});
  write_split(folder_.path(), "valid", {blank(255, 0), patch(3, 1)});
  write_split(folder_.path(), "test", {nearly, patch(5, 1)});
  const Audit found = audit(folder_.path());
  EXPECT_EQ(found.splits[0].blank, 2);
  EXPECT_EQ(found.splits[1].blank, 1);
  EXPECT_EQ(found.splits[2].blank, 0);
  ASSERT_EQ(found.duplicates.size(), 1u);
  EXPECT_TRUE(found.duplicates[0].blank && found.duplicates[0].crosses() && found.duplicates[0].contradictory());
  EXPECT_EQ(found.shared(1, 0), 0);
  EXPECT_FALSE(found.leaks());
}

TEST_F(AuditTest, TooFewPatientsToBeDealtDoNotHideALeak) {
  for (const int label : {0, 1}) {
    write_png_patch(folder_ / "train", "8863", label, label + 1);
    write_png_patch(folder_ / "test", "8863", label, label + 3);
  }
  const Audit leaking = audit(folder_.path());
  ASSERT_EQ(leaking.groups_across.size(), 1u);
  EXPECT_EQ(leaking.groups_across[0].name, "8863");
  EXPECT_EQ(leaking.groups_across[0].images, (std::array<std::int64_t, 3>{2, 0, 2}));
  EXPECT_TRUE(leaking.leaks());
  EXPECT_TRUE(std::ranges::any_of(leaking.notes, [](const std::string& note) {
    return note == "nothing could be dealt (too few patients to keep them apart): what no folder puts into a split is in train";
  }));
  const Audit one = audit(folder_ / "train");
  EXPECT_EQ(one.splits[0].classes, (std::array<std::int64_t, 2>{1, 1}));
  EXPECT_FALSE(one.leaks());
}

TEST_F(AuditTest, SlidesInSeveralSplitsAreNamed) {
  write_split(folder_.path(), "train", {patch(1, 0), patch(2, 1), patch(3, 0)});
  write_split(folder_.path(), "valid", {patch(4, 0), patch(5, 1)});
  write_split(folder_.path(), "test", {patch(6, 0), patch(7, 1)});
  EXPECT_FALSE(audit(folder_.path()).groups_known());
  write_meta("train", {"a", "a", "b"});
  write_meta("valid", {"c", "d"});
  write_meta("test", {"b", "e"});
  const Audit found = audit(folder_.path());
  EXPECT_TRUE(found.groups_known());
  EXPECT_EQ(found.splits[0].groups, 2);
  EXPECT_EQ(found.splits[0].groups_of_one_class, 1);
  ASSERT_EQ(found.groups_across.size(), 1u);
  EXPECT_EQ(found.groups_across[0].name, "b");
  EXPECT_EQ(found.groups_across[0].images, (std::array<std::int64_t, 3>{1, 0, 1}));
  EXPECT_TRUE(found.leaks());
}

TEST_F(AuditTest, ASplitWithoutAClassIsShownNotRefused) {
  write_split(folder_.path(), "train", {patch(1, 0), patch(2, 0)});
  write_split(folder_.path(), "valid", {patch(4, 0), patch(5, 1)});
  write_split(folder_.path(), "test", {patch(6, 0), patch(7, 1)});
  EXPECT_EQ(audit(folder_.path()).splits[0].classes, (std::array<std::int64_t, 2>{2, 0}));
}

TEST_F(AuditTest, FilesOtherThanThePublishedOnesAreSaid) {
  write_pcam(folder_.path());
  EXPECT_TRUE(audit(folder_.path()).files.empty());
  const std::string name = pcam_file_name("test", 'x') + ".gz";
  write_bytes(folder_ / name, {'x'});
  const Audit found = audit(folder_.path());
  ASSERT_EQ(found.files.size(), 1u);
  EXPECT_EQ(found.files[0].name, name);
  EXPECT_EQ(found.files[0].md5, md5(folder_ / name));
  EXPECT_EQ(found.files[0].published_as, "");
  EXPECT_EQ(published_pcam_name("d8c2d60d490dbd479f8199bdfa0cf6ec"), name) << "though PCam's own page prints it beside valid";
}

TEST_F(AuditTest, DigestsAreComparedBeforeTheFilesAreUnpacked) {
  for (const char* split : split_names) {
    for (const char what : {'x', 'y'}) write_bytes(folder_ / (pcam_file_name(split, what) + ".gz"), {what});
  }
  const Audit found = audit(folder_.path());
  EXPECT_EQ(found.files.size(), 6u);
  EXPECT_EQ(found.images(), 0);
  write_split(folder_.path(), "train", {patch(1, 0), patch(2, 1)});
  expect_refusal([&] { audit(folder_.path()); }, ExitCode::data, {"still gzipped", pcam_file_name("valid", 'x')});
}

TEST_F(AuditTest, PatchesDealtSinglyPutPatientsOnBothSides) {
  for (int patient = 0; patient < 4; ++patient) {
    for (int i = 0; i < 20; ++i) write_png_patch(folder_.path(), std::to_string(100 + patient), i % 2, 20 * patient + i);
  }
  const Audit apart = audit(folder_.path());
  EXPECT_EQ(apart.format->name, "idc");
  EXPECT_TRUE(apart.groups_across.empty());
  EXPECT_FALSE(apart.leaks());
  const Audit dealt = audit(folder_.path(), {.split_by = SplitBy::patch});
  EXPECT_EQ(dealt.groups_across.size(), 4u);
  EXPECT_TRUE(dealt.leaks());
}

TEST_F(AuditTest, PatientsThatATutorialDealtIntoSeveralSplitFoldersAreNamed) {
  const std::filesystem::path dealt = folder_ / "dealt";
  for (int patient = 0; patient < 4; ++patient) {
    for (int i = 0; i < 20; ++i) write_png_patch(folder_.path(), std::to_string(100 + patient), i % 2, 20 * patient + i);
  }
  const auto deal = [&](int patient, const char* split, int from, int to) {
    for (int i = from; i < to; ++i) {
      const std::filesystem::path label = std::to_string(i % 2);
      const std::string name = fmt::format("{}_idx5_x{}_y1_class{}.png", patient, 20 * (patient - 100) + i, i % 2);
      std::filesystem::create_directories(dealt / split / label);
      std::filesystem::rename(folder_ / std::to_string(patient) / label / name, dealt / split / label / name);
    }
  };
  deal(100, "train", 0, 20), deal(101, "train", 0, 15), deal(101, "test", 15, 20), deal(102, "val", 0, 20),
      deal(103, "test", 0, 20);
  const Audit found = audit(dealt);
  EXPECT_EQ(found.splits[0].images(), 35);
  EXPECT_EQ(found.splits[2].groups, 2);
  ASSERT_EQ(found.groups_across.size(), 1u);
  EXPECT_EQ(found.groups_across[0].name, "101");
  EXPECT_EQ(found.groups_across[0].images, (std::array<std::int64_t, 3>{15, 0, 5}));
  EXPECT_TRUE(found.leaks());
}

TEST_F(AuditTest, SizesAndOneSidedPatientsAreCounted) {
  for (int patient = 0; patient < 3; ++patient) {
    for (int i = 0; i < 4; ++i) write_png_patch(folder_.path(), std::to_string(100 + patient), i % 2, 20 * patient + i);
  }
  write_png_patch(folder_.path(), "200", 0, 91, {50, 34});
  write_png_patch(folder_.path(), "200", 0, 92, {34, 50});
  write_png_patch(folder_.path(), "200", 0, 93, {60, 60});
  const Audit found = audit(folder_.path());
  ASSERT_EQ(found.sizes.size(), 4u);
  EXPECT_EQ(found.sizes[0].size, Extent(50));
  EXPECT_EQ(found.sizes[0].images, 12);
  std::int64_t one_sided = 0;
  for (const Audit::Split& split : found.splits) one_sided += split.groups_of_one_class;
  EXPECT_EQ(one_sided, 1);
}

TEST_F(AuditTest, EqualPatchesOfTwoPatientsAreFoundAndASecondTreeIsSaid) {
  for (int patient = 0; patient < 3; ++patient) {
    for (int i = 0; i < 4; ++i) write_png_patch(folder_.path(), std::to_string(100 + patient), i % 2, 20 * patient + i);
  }
  write_png_patch(folder_.path(), "100", 0, 42);
  const std::filesystem::path twice = folder_ / "IDC_regular_ps50_idx5";
  std::filesystem::create_directories(twice);
  for (const char* patient : {"100", "101", "102"})
    std::filesystem::copy(folder_ / patient, twice / patient, std::filesystem::copy_options::recursive);
  const Audit found = audit(folder_.path());
  ASSERT_EQ(found.duplicates.size(), 1u) << "files of the same name are one patch";
  ASSERT_EQ(found.duplicates[0].images.size(), 2u);
  EXPECT_TRUE(found.duplicates[0].images[0].id.ends_with("100/0/100_idx5_x42_y1_class0.png"));
  EXPECT_TRUE(found.duplicates[0].images[1].id.ends_with("102/0/102_idx5_x42_y1_class0.png"));
  EXPECT_TRUE(std::ranges::any_of(found.notes, [](const std::string& note) { return note.starts_with("13 files left out"); }));
}

TEST_F(AuditTest, FilesThatDoNotBelongTogetherAreRefused) {
  write_split(folder_.path(), "train", {patch(1, 0), patch(2, 1), patch(3, 0)});
  write_split(folder_.path(), "valid", {patch(4, 0), patch(5, 1)});
  write_split(folder_.path(), "test", {patch(6, 0), patch(7, 1)});
  const auto refused = [&](const std::vector<std::string>& parts) {
    expect_refusal([&] { audit(folder_.path()); }, ExitCode::data, parts);
  };
  write_meta("valid", {"a"});
  refused({"differ in number", pcam_meta_name("valid")});
  std::filesystem::remove(folder_ / pcam_meta_name("valid"));
  std::filesystem::copy(folder_ / pcam_file_name("test", 'y'), folder_ / pcam_file_name("train", 'y'),
                        std::filesystem::copy_options::overwrite_existing);
  refused({"training images and labels differ in number", "3 labels", "2 labels"});
  std::filesystem::remove(folder_ / pcam_file_name("test", 'x'));
  refused({"a file is missing", pcam_file_name("test", 'x')});
}

TEST_F(AuditTest, BadFoldersAreRefused) {
  expect_refusal([&] { audit(folder_.path()); }, ExitCode::data, {"an empty folder"});
  write_png_patch(folder_.path(), "100", 0, 1);
  write_png_patch(folder_.path(), "101", 1, 2);
  EXPECT_EQ(audit(folder_.path()).images(), 2) << "too few patients to be dealt, and not to be looked at";
  std::ofstream(folder_ / "100" / "0" / "broken_class0.png") << "no picture";
  expect_refusal([&] { audit(folder_.path(), {.split_by = SplitBy::patch}); }, ExitCode::data, {"broken_class0.png"});
}

}  // namespace
}  // namespace microtome
