#include "data/split.h"

#include "data/support.h"

namespace microtome {
namespace {

SplitFolders find(const std::vector<std::string>& paths, std::vector<std::string>* said = nullptr) {
  std::vector<Parts> folders;
  for (const std::string& path : paths) {
    Parts& parts = folders.emplace_back();
    for (const std::filesystem::path& part : std::filesystem::path(path)) parts.push_back(part.string());
  }
  std::vector<std::string> notes;
  const SplitFolders found = find_split_folders(
      folders, [](std::string_view part) { return part == "0" || part == "1"; }, "/data", notes);
  if (said != nullptr) *said = notes;
  return found;
}

std::vector<std::size_t> splits_of(const std::vector<std::string>& paths) {
  std::vector<std::size_t> splits;
  for (const auto& found : find(paths).found) splits.push_back(found ? found->split : split_count);
  return splits;
}

using Splits = std::vector<std::size_t>;

TEST(SplitTest, FoldersSayTheirSplitInManySpellings) {
  const std::vector<std::vector<const char*>> spellings{
      {"train", "Training", "TRN", "tr", "01_train", "train-set", "TrainSet", "train_images", "training data", "train2019"},
      {"valid", "Validation", "VAL", "dev", "development", "val_set", "2-valid", "validation_patches", "x_val"},
      {"test", "Testing", "TST", "ts", "test_2020", "testset", "hold-out", "held_out", "idc_test", "eval"}};
  for (std::size_t split = 0; split < spellings.size(); ++split) {
    for (const char* name : spellings[split]) {
      ASSERT_TRUE(split_word(name)) << name;
      EXPECT_EQ(split_word(name)->split, split) << name;
    }
  }
  for (const char* name : {"8863", "10253", "0", "1", "benign", "contest", "test_patient_5", "8863_test", "train_test", "IDC",
                           "images", "trainee", "data", "", "_", "latest", "test1"})
    EXPECT_FALSE(split_word(name)) << name;
}

TEST(SplitTest, EvalIsForTestsUnlessAnotherFolderIsAndNoneValidates) {
  EXPECT_EQ(splits_of({"train/0", "eval/0"}), (Splits{0, 2}));
  EXPECT_EQ(splits_of({"train/0", "dev/0", "eval/0"}), (Splits{0, 1, 2}));
  EXPECT_EQ(splits_of({"train/0", "eval/0", "test/0"}), (Splits{0, 1, 2}));
  expect_refusal(
      [] {
        find({"train/0", "val/0", "eval/0", "test/0"});
      },
      ExitCode::data, {"two folders are for one split, test", "eval and test"});
}

TEST(SplitTest, TheSplitMayStandAnywhereInThePath) {
  EXPECT_EQ(splits_of({"IDC/train/0", "IDC/train/1", "IDC/test/0"}), (Splits{0, 0, 2}));
  EXPECT_EQ(splits_of({"train/8863/0", "val/8864/1"}), (Splits{0, 1}));
  EXPECT_EQ(splits_of({"0/train", "1/train", "0/test", "1/test"}), (Splits{0, 0, 2, 2}));
  EXPECT_EQ(splits_of({"train/train/0", "test/test/0"}), (Splits{0, 2})) << "unpacked into a folder of its own name";
  EXPECT_EQ(splits_of({"test_data/train/0", "test_data/val/0", "test_data/test/0"}), (Splits{0, 1, 2}));
  EXPECT_EQ(splits_of({"8863/0", "8863/1", "8864/0"}), (Splits{3, 3, 3}));
  EXPECT_FALSE(find({"8863/0", "8863/1"}).any());
  const SplitFolders found = find({"TRAINING/0", "Testing/0"});
  EXPECT_EQ(found.names, (std::array<std::string, 3>{"TRAINING", "", "Testing"}));
  EXPECT_TRUE(found.has(0) && !found.has(1) && found.has(2));
}

TEST(SplitTest, WhatCanBeReadInTwoWaysIsRefused) {
  expect_refusal(
      [] {
        find({"train/0", "test/0", "10253/0", "10253/1", "10254/0"});
      },
      ExitCode::data,
      {"some images lie in split folders and others do not", "all of them below test, train", "images in 10253, 10254 too"});
  expect_refusal(
      [] {
        find({"fold0/train/0", "fold0/test/0", "fold1/train/0", "fold1/test/0"});
      },
      ExitCode::data, {"split folders are in several places", "fold0, fold1", "--data"});
  expect_refusal([] { find({"train/0", "training/0", "test/0"}); }, ExitCode::data, {"two folders are for one split, train"});
  expect_refusal(
      [] {
        find({"train/train/0", "train/test/0", "test/train/0", "test/test/0"});
      },
      ExitCode::data, {"a folder's path says two splits", "/data/train/test/0"});
}

TEST(SplitTest, APatientsInitialsAreNoSplit) {
  std::vector<std::string> notes;
  EXPECT_FALSE(find({"AB/0", "TR/0", "TS/1", "XY/1"}, &notes).any());
  EXPECT_EQ(notes, (std::vector<std::string>{"taken for patients and not for splits, as others beside them are: TR, TS"}));
  EXPECT_EQ(splits_of({"tr/0", "ts/0"}), (Splits{0, 2})) << "nothing else is there";
}

}  // namespace
}  // namespace microtome
