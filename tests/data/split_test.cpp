#include "data/split.h"

#include "data/support.h"

#include <array>

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
      {"train", "Training", "TRN", "tr", "01_train", "train-set", "TrainSet", "train_images", "training data", "train2019",
       "IDCTrain"},
      {"valid", "Validation", "VAL", "dev", "development", "val_set", "2-valid", "validation_patches", "x_val"},
      {"test", "Testing", "TST", "ts", "test_2020", "testset", "hold-out", "held_out", "idc_test", "IDCTest", "eval"}};
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

TEST(SplitTest, NamesThatAgreeButForTheSplitsWordAreSplits) {
  for (const auto& names : std::vector<std::array<std::string, 3>>{{"train_small", "val_small", "test_small"},
                                                                   {"train_final", "validation_final", "test_final"},
                                                                   {"IDCTrain", "IDCVal", "IDCTest"},
                                                                   {"idctrain50", "idcvalid50", "idctest50"},
                                                                   {"train70", "val15", "test15"},
                                                                   {"train_1", "val_1", "test_1"},
                                                                   {"train.v1", "dev.v1", "test.v1"},
                                                                   {"01_crops-train", "02_crops-val", "03_crops-test"},
                                                                   {"training_x20", "validation_x20", "testing_x20"}}) {
    std::vector<std::string> paths, notes;
    for (const std::string& name : names) paths.push_back(name + "/8863/0"), paths.push_back(name + "/1");
    const SplitFolders found = find(paths, &notes);
    EXPECT_EQ(found.names, names);
    EXPECT_EQ(splits_of(paths), (Splits{0, 0, 1, 1, 2, 2})) << names[0];
    EXPECT_TRUE(notes.empty()) << notes[0];
  }
  EXPECT_EQ(splits_of({"IDC_train_test/train_small/0", "IDC_train_test/eval_small/0"}), (Splits{0, 2}));
  EXPECT_EQ(splits_of({"test_data/train_small/0", "test_data/test_small/0"}), (Splits{0, 2}));
  EXPECT_EQ(splits_of({"0/train_small", "0/test_small", "1/train_small"}), (Splits{0, 2, 0}));
  expect_refusal(
      [] {
        find({"train_1/0", "train_2/0", "test_1/0"});
      },
      ExitCode::data, {"two folders are for one split, train", "train_1 and train_2"});
  expect_refusal(
      [] {
        find({"train_small/0", "test_small/0", "8863/0"});
      },
      ExitCode::data, {"some images lie in split folders and others do not", "images in 8863 too"});
}

TEST(SplitTest, NoFolderWithASplitsWordIsTakenForAPatientInSilence) {
  for (const std::vector<std::string>& names : std::vector<std::vector<std::string>>{
           {"train_neg"}, {"8863_test", "8864_test"}, {"train_neg", "train_pos"}, {"fold0"}, {"trainsmall"}, {"validated"}}) {
    std::vector<std::string> paths{"10253/0"}, notes;
    for (const std::string& name : names) paths.push_back(name + "/1");
    EXPECT_FALSE(find(paths, &notes).any());
    ASSERT_EQ(notes.size(), 1u) << names[0];
    EXPECT_NE(notes[0].find("taken for no splits"), std::string::npos) << notes[0];
    for (const std::string& name : names) EXPECT_NE(notes[0].find(name), std::string::npos) << notes[0];
  }
  std::vector<std::string> notes;
  find({"8863/0", "benign/9/1", "TR/1", "10253_idx5/0"}, &notes);
  EXPECT_EQ(notes.size(), 1u) << "of TR alone: " << notes.back();
  EXPECT_TRUE(find({"train/fold1/0", "train/fold2/0", "test/8863/0"}, &notes).any());
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("fold1, fold2"), std::string::npos) << notes[0];
  for (const std::vector<std::string>& names : std::vector<std::vector<std::string>>{
           {"train_pos", "test_neg"}, {"8863_test", "8864_train"}, {"test_patient_5", "train_patient_6", "7"}})
    expect_refusal(
        [&] {
          std::vector<std::string> paths;
          for (const std::string& name : names) paths.push_back(name + "/0");
          find(paths);
        },
        ExitCode::data, {"hold the words of splits", names[0], names[1], "rename them"});
  expect_refusal(
      [] {
        find({"IDC/fold0/1/0", "IDC/fold1/2/0", "IDC/fold2/3/0"});
      },
      ExitCode::data, {"folds are no splits", "/data/IDC", "fold0, fold1, fold2"});
}

TEST(SplitTest, APatientsInitialsAreNoSplit) {
  std::vector<std::string> notes;
  EXPECT_FALSE(find({"AB/0", "TR/0", "TS/1", "XY/1"}, &notes).any());
  EXPECT_EQ(notes, (std::vector<std::string>{"taken for patients and not for splits, as others beside them are: TR, TS"}));
  EXPECT_EQ(splits_of({"tr/0", "ts/0"}), (Splits{0, 2})) << "nothing else is there";
}

}  // namespace
}  // namespace microtome
