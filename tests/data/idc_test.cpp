#include "data/files.h"
#include "data/loader.h"
#include "data/png.h"
#include "data/support.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>

namespace microtome {
namespace {

/// A patch of one colour, which tells it from others.
void write_patch(const std::filesystem::path& folder, const std::string& patient, int label, int number, Extent size = 50) {
  std::filesystem::create_directories(folder / patient / std::to_string(label));
  const std::vector<std::uint8_t> pixels(static_cast<std::size_t>(size.h * size.w * 3), static_cast<std::uint8_t>(number));
  const std::string name = fmt::format("{}_idx5_x{}_y{}_class{}.png", patient, 50 * number + 1, 51, label);
  write_png(folder / patient / std::to_string(label) / name, size, pixels.data());
}

/// `patients` of different sizes, the p-th with 4 + p patches of class 0 and 2 + p % 3 of class 1.
void write_tree(const std::filesystem::path& folder, int patients) {
  for (int p = 0; p < patients; ++p) {
    for (int i = 0; i < 4 + p; ++i) write_patch(folder, std::to_string(100 + p), 0, i);
    for (int i = 0; i < 2 + p % 3; ++i) write_patch(folder, std::to_string(100 + p), 1, 100 + i);
  }
}

std::set<std::string> patients_of(const Images& images) {
  std::set<std::string> patients;
  for (const std::string& id : images.ids) patients.insert(std::filesystem::path(id).parent_path().parent_path().filename());
  return patients;
}

bool has_note(const std::vector<std::string>& notes, const std::string& part) {
  return std::ranges::any_of(notes, [&](const std::string& note) { return note.find(part) != note.npos; });
}

std::string all(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += note + "\n";
  return text;
}

int images_in(const Dataset& data) {
  return static_cast<int>(data.train.ids.size() + data.valid.ids.size() + data.test.ids.size());
}

class IdcTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
};

TEST_F(IdcTest, PixelsLabelsAndIdsBelongTogether) {
  write_tree(folder_.path(), 12);
  const Dataset data = load(folder_.path());
  EXPECT_EQ(data.name, "idc");
  int count = 0;
  for (const Images* images : {&data.train, &data.valid, &data.test}) {
    ASSERT_EQ(images->groups.size(), images->ids.size());
    for (std::size_t i = 0; i < images->ids.size(); ++i)
      EXPECT_TRUE(images->ids[i].starts_with(images->groups[i] + "/")) << images->ids[i] << " of " << images->groups[i];
    ASSERT_EQ(images->shape, (Shape{static_cast<int>(images->ids.size()), 50, 50, 3}));
    EXPECT_TRUE(std::ranges::is_sorted(images->ids));
    for (std::size_t i = 0; i < images->ids.size(); ++i) {
      // x is 50 times the colour, plus 1.
      const std::string& id = images->ids[i];
      const int x = std::stoi(id.substr(id.find("_x") + 2));
      EXPECT_EQ(images->pixels[i * 7500], (x - 1) / 50) << id;
      EXPECT_EQ(images->pixels[i * 7500 + 7499], (x - 1) / 50) << id;
      EXPECT_EQ(images->labels[i], id.find("_class1") != id.npos) << id;
      EXPECT_TRUE(std::filesystem::exists(folder_ / id));
      ++count;
    }
  }
  EXPECT_EQ(count, 12 * 4 + 66 + 36);
}

TEST_F(IdcTest, NoPatientIsInTwoSplitsWhateverTheSeed) {
  write_tree(folder_.path(), 30);
  const double total = 30 * 4 + 435 + 90;
  std::set<std::set<std::string>> tests;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Dataset data = load(folder_.path(), {.seed = seed});
    std::set<std::string> together;
    std::size_t sum = 0;
    for (const Images* images : {&data.train, &data.valid, &data.test}) {
      const std::set<std::string> patients = patients_of(*images);
      together.insert(patients.begin(), patients.end());
      sum += patients.size();
    }
    EXPECT_EQ(sum, 30u);
    EXPECT_EQ(together.size(), 30u);
    // A split overshoots its tenth by no more than the largest patient, of 37 patches, on either side.
    EXPECT_NEAR(data.test.shape.n, total / 10, 37);
    EXPECT_NEAR(data.valid.shape.n, total / 10, 37);
    tests.insert(patients_of(data.test));
  }
  EXPECT_GT(tests.size(), 10u);
}

TEST_F(IdcTest, TheSplitIsTheSeedsAloneAndDoesNotDependOnWhichPartsAreRead) {
  write_tree(folder_.path(), 12);
  const Dataset whole = load(folder_.path(), {.seed = 5, .threads = 1});
  const Dataset part = load(folder_.path(), {.train = false, .valid = false, .seed = 5, .threads = 4});
  EXPECT_EQ(part.test.ids, whole.test.ids);
  EXPECT_EQ(part.test.pixels, whole.test.pixels);
  EXPECT_EQ(part.train.shape.count(), Shape{}.count());
  EXPECT_TRUE(part.train.pixels.empty() && part.train.labels.empty());
}

TEST_F(IdcTest, SplitByPatchKeepsTheShareOfClassesAndSaysSo) {
  write_tree(folder_.path(), 30);
  const Dataset data = load(folder_.path(), {.split_by = SplitBy::patch, .seed = 3});
  // 555 of class 0 and 90 of class 1: a tenth of each, give or take one.
  EXPECT_NEAR(std::ranges::count(data.test.labels, 1), 9, 1);
  EXPECT_NEAR(std::ranges::count(data.test.labels, 0), 55.5, 1);
  EXPECT_NEAR(std::ranges::count(data.valid.labels, 1), 9, 1);
  EXPECT_NEAR(std::ranges::count(data.valid.labels, 0), 55.5, 1);
  EXPECT_EQ(data.train.shape.n + data.valid.shape.n + data.test.shape.n, 645);
  EXPECT_TRUE(has_note(data.notes, "split by patch with seed 3")) << all(data.notes);
}

TEST_F(IdcTest, SplitByPatchGivesEverySplitSomeOfEachClass) {
  for (int i = 0; i < 3; ++i) write_patch(folder_.path(), "100", 0, i), write_patch(folder_.path(), "100", 1, 100 + i);
  const Dataset data = load(folder_.path(), {.split_by = SplitBy::patch});
  for (const Images* images : {&data.train, &data.valid, &data.test}) {
    EXPECT_EQ(std::ranges::count(images->labels, 0), 1);
    EXPECT_EQ(std::ranges::count(images->labels, 1), 1);
  }
}

TEST_F(IdcTest, OnlyANameOfItsFormSaysAClass) {
  write_tree(folder_.path(), 6);
  const std::filesystem::path patient = folder_ / "103";
  for (const char* name : {"103_idx5_x51_y51_class0_copy.png", "103_idx5_x51_y51_class01.png", "103_idx5_x51_y51_class.png"}) {
    std::filesystem::copy_file(patient / "1/103_idx5_x5001_y51_class1.png", patient / "1" / name);
    EXPECT_EQ(images_in(load(folder_.path())), 58) << name;
    std::filesystem::remove(patient / "1" / name);
  }
}

TEST_F(IdcTest, SmallPatchesLieOnWhiteAndAreCounted) {
  write_tree(folder_.path(), 6);
  write_patch(folder_.path(), "900", 0, 7, {20, 50});
  write_patch(folder_.path(), "900", 1, 8, {50, 1});
  const Dataset data = load(folder_.path());
  EXPECT_TRUE(has_note(data.notes, "2 patches smaller than 50x50: padded with white")) << all(data.notes);
  int seen = 0;
  for (const Images* images : {&data.train, &data.valid, &data.test}) {
    for (std::size_t i = 0; i < images->ids.size(); ++i) {
      if (!images->ids[i].starts_with("900")) continue;
      const bool wide = images->labels[i] == 0;
      for (std::size_t y = 0; y < 50; ++y) {
        for (std::size_t x = 0; x < 50; ++x) {
          const int expected = wide ? (y < 20 ? 7 : 255) : (x < 1 ? 8 : 255);
          ASSERT_EQ(images->pixels[i * 7500 + (y * 50 + x) * 3 + 1], expected) << y << " " << x;
        }
      }
      ++seen;
    }
  }
  EXPECT_EQ(seen, 2);
}

TEST_F(IdcTest, LargerPatchesAreRefusedUnlessAskedFor) {
  write_tree(folder_.path(), 6);
  write_patch(folder_.path(), "900", 0, 7, {51, 50});
  expect_refusal([&] { load(folder_.path()); }, ExitCode::data,
                 {"larger than it may be", "at most 50 x 50", "51 x 50", "900_idx5_x351"});
  const Dataset data = load(folder_.path(), {.image = Extent{64}});
  EXPECT_EQ(data.train.shape.h, 64);
}

TEST_F(IdcTest, TheTreeThatKaggleHoldsTwiceIsReadOnce) {
  write_tree(folder_.path(), 6);
  const Dataset once = load(folder_.path());
  write_tree(folder_ / "IDC_regular_ps50_idx5", 6);
  const Dataset twice = load(folder_.path());
  EXPECT_EQ(twice.train.ids, once.train.ids);
  EXPECT_EQ(twice.test.pixels, once.test.pixels);
  EXPECT_TRUE(has_note(twice.notes, "57 files left out: of the same patient, class and name")) << all(twice.notes);
  EXPECT_EQ(load(folder_ / "IDC_regular_ps50_idx5").train.pixels, once.train.pixels);
}

TEST_F(IdcTest, FilesThatShareOnlyTheirNameAreAllRead) {
  write_tree(folder_.path(), 6);
  const std::filesystem::path kept = folder_ / "100/0", copied = folder_ / "again/100/0", other = folder_ / "more/100/0";
  const std::string name = "100_idx5_x1_y51_class0.png";
  for (const auto& folder : {copied, other}) std::filesystem::create_directories(folder);
  std::filesystem::copy_file(kept / "100_idx5_x51_y51_class0.png", copied / name);
  std::filesystem::copy_file(copied / name, other / name);
  const Dataset data = load(folder_.path());
  EXPECT_EQ(images_in(data), 58) << "two of the three are one";
  EXPECT_TRUE(has_note(data.notes, "1 file left out: of the same patient, class and name as another, byte for byte"))
      << all(data.notes);
  EXPECT_TRUE(has_note(data.notes, "1 file is of the same patient, class and name as another and yet not the same"))
      << all(data.notes);
}

TEST_F(IdcTest, WhatIsNoPatchIsLeftOutAndCounted) {
  write_tree(folder_.path(), 6);
  const Dataset before = load(folder_.path());
  ASSERT_EQ(::mkfifo((folder_ / "100/0/100_idx5_x7_y7_class0.png").c_str(), 0600), 0);
  write_bytes(folder_ / "README.txt", {'a'});
  std::filesystem::copy_file(folder_ / "100/0/100_idx5_x1_y51_class0.png", folder_ / "overview.png");
  std::filesystem::copy_file(folder_ / "100/0/100_idx5_x1_y51_class0.png", folder_ / "101/0/own name\n\xff.PNG");
  const Dataset data = load(folder_.path());
  EXPECT_TRUE(has_note(data.notes, "2 other files left out")) << all(data.notes);
  EXPECT_TRUE(has_note(data.notes, "1 PNG file left out: not in a folder PATIENT/0 or PATIENT/1")) << all(data.notes);
  EXPECT_TRUE(has_note(data.notes, "1 file name is not of the form")) << all(data.notes);
  EXPECT_EQ(images_in(data), images_in(before) + 1);
}

TEST_F(IdcTest, WhatSystemsLeaveBehindIsLeftOutAndCounted) {
  write_tree(folder_.path(), 6);
  const Dataset before = load(folder_.path());
  const std::vector<char> apple_double{'\0', '\5', '\x16', '\7', '\0', '\2', '\0', '\0'};
  std::filesystem::create_directories(folder_ / "__MACOSX/100/0");
  write_bytes(folder_ / "__MACOSX/100/0/._100_idx5_x1_y51_class0.png", apple_double);
  write_bytes(folder_ / "100/0/._100_idx5_x1_y51_class0.png", apple_double);
  for (const char* name : {".DS_Store", "100/Thumbs.db", "100/0/desktop.ini"}) write_bytes(folder_ / name, {'x'});
  std::filesystem::create_directory(folder_ / ".ipynb_checkpoints");
  std::filesystem::copy(folder_ / "100", folder_ / ".ipynb_checkpoints/100", std::filesystem::copy_options::recursive);
  const Dataset data = load(folder_.path());
  EXPECT_TRUE(has_note(data.notes, "6 hidden files or folders left out (.DS_Store, …)")) << all(data.notes);
  EXPECT_EQ(data.notes.size(), before.notes.size() + 1) << all(data.notes);
  EXPECT_EQ(data.train.ids, before.train.ids);
  EXPECT_EQ(data.test.pixels, before.test.pixels);
}

TEST_F(IdcTest, LinksReadAsWhatTheyLeadTo) {
  const TemporaryFolder store;
  write_tree(store.path(), 6);
  const Dataset copied = load(store.path());
  for (int p = 100; p < 105; ++p)
    std::filesystem::create_directory_symlink(store / std::to_string(p), folder_ / std::to_string(p));
  for (const char* label : {"0", "1"}) {
    std::filesystem::create_directories(folder_ / "105" / label);
    for (const auto& entry : std::filesystem::directory_iterator(store / "105" / label))
      std::filesystem::create_symlink(entry.path(), folder_ / "105" / label / entry.path().filename());
  }
  const Dataset data = load(folder_.path());
  EXPECT_EQ(data.train.ids, copied.train.ids);
  EXPECT_EQ(data.train.pixels, copied.train.pixels);
  EXPECT_EQ(data.test.groups, copied.test.groups);
  EXPECT_TRUE(has_note(data.notes, "18 symbolic links followed (100 -> " + (store / "100").string() + ", …)"))
      << all(data.notes);
}

TEST_F(IdcTest, EveryFolderIsReadOnceHoweverLinksLead) {
  write_tree(folder_.path(), 6);
  const Dataset before = load(folder_.path());
  std::filesystem::create_directory_symlink(folder_.path(), folder_ / "100/loop");
  std::filesystem::create_directory_symlink("/", folder_ / "100/everything");
  std::filesystem::create_directory_symlink("100", folder_ / "099");  // before the folder itself in the order of names
  std::filesystem::create_symlink("itself", folder_ / "itself");
  std::filesystem::create_symlink("not/there.png", folder_ / "100/0/100_idx5_x9_y9_class0.png");
  const Dataset data = load(folder_.path());
  EXPECT_EQ(data.train.ids, before.train.ids);
  EXPECT_EQ(data.valid.ids, before.valid.ids);
  EXPECT_EQ(data.test.ids, before.test.ids);
  EXPECT_TRUE(
      has_note(data.notes, "3 symbolic links left out, to folders that are read already or hold this one (099 is 100, …)"))
      << all(data.notes);
  EXPECT_TRUE(
      has_note(data.notes, "2 symbolic links left out, leading nowhere (100/0/100_idx5_x9_y9_class0.png -> not/there.png, …)"))
      << all(data.notes);
}

/// Ends a death test's child: what `call` throws as a program would say it. Root may read everything, and is nobody here.
void report_as_nobody(const std::function<void()>& call) {
  constexpr uid_t nobody = 65534;
  if (::geteuid() == 0 && ::setuid(nobody) != 0) std::exit(1);
  try {
    call();
  } catch (const Error& error) {
    std::fputs(to_text(error, "test").c_str(), stderr);
    std::exit(static_cast<int>(error.code()));
  }
  std::exit(0);
}

void forbid(const std::filesystem::path& path) {
  std::filesystem::permissions(path, std::filesystem::perms::none);
}

TEST_F(IdcTest, AFolderThatMayNotBeListedIsNamed) {
  write_tree(folder_.path(), 6);
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  forbid(folder_ / "103/1");
  const testing::ExitedWithCode refused(static_cast<int>(ExitCode::data));
  EXPECT_EXIT(report_as_nobody([&] { load(folder_.path()); }), refused,
              "a folder cannot be listed\n.*" + (folder_ / "103/1").string() + "\n.*Permission denied");
  const TemporaryFolder subset;
  std::filesystem::permissions(subset.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory_symlink(folder_ / "103/1/inner", subset / "100");
  EXPECT_EXIT(report_as_nobody([&] { load(subset.path()); }), refused, (subset / "100").string() + "\n.*Permission denied");
  std::filesystem::permissions(folder_ / "103/1", std::filesystem::perms::owner_all);
}

TEST_F(IdcTest, VerifyListsAllThatMayNotBeRead) {
  write_tree(folder_.path(), 12);
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  const std::set<std::string> secret{"103/1", "105", "106/0/106_idx5_x1_y51_class0.png", "107/1/107_idx5_x5001_y51_class1.png"};
  for (const std::string& path : secret) forbid(folder_ / path);
  EXPECT_EXIT(report_as_nobody([&] {
                const std::vector<Error> problems = verify(folder_.path()).problems;
                std::set<std::string> named;
                for (const Error& problem : problems)
                  named.insert(std::filesystem::relative(problem.report().where, folder_.path()).string());
                for (const std::string& name : named) fmt::print(stderr, "{}\n", name);
                if (named == secret && problems.size() == secret.size()) std::fputs("all of them\n", stderr);
              }),
              testing::ExitedWithCode(0), "all of them");
  for (const std::string& path : secret) std::filesystem::permissions(folder_ / path, std::filesystem::perms::owner_all);
}

/// Patients `from` to `to`, ten patches of each class, all in folder/0 and folder/1: the patient stands in the name alone.
void write_split(const std::filesystem::path& folder, int from, int to) {
  for (int patient = from; patient < to; ++patient) {
    for (int i = 0; i < 10; ++i) {
      const int label = i % 2;
      std::filesystem::create_directories(folder / std::to_string(label));
      const std::vector<std::uint8_t> pixels(7500, static_cast<std::uint8_t>(10 * (patient % 20) + i));
      write_png(folder / std::to_string(label) / fmt::format("{}_idx5_x{}_y51_class{}.png", patient, 50 * i + 1, label), 50,
                pixels.data());
    }
  }
}

std::set<std::string> groups_of(const Images& images) {
  return {images.groups.begin(), images.groups.end()};
}

TEST_F(IdcTest, FoldersThatSaySplitsAreBelievedAndPatientsReadFromNames) {
  write_split(folder_ / "training", 8000, 8008);
  write_split(folder_ / "validation", 8008, 8009);
  write_split(folder_ / "testing", 8009, 8011);
  for (const LoadOptions& options : {LoadOptions{}, LoadOptions{.split_by = SplitBy::patch, .seed = 5}}) {
    const Dataset data = load(folder_.path(), options);
    EXPECT_EQ(data.train.shape.n, 80);
    EXPECT_EQ(data.valid.shape.n, 10);
    EXPECT_EQ(groups_of(data.test), (std::set<std::string>{"8009", "8010"}));
    EXPECT_TRUE(std::ranges::all_of(data.test.ids, [](const std::string& id) { return id.starts_with("testing/"); }));
    EXPECT_EQ(data.notes, (std::vector<std::string>{"splits as folders say: training to train, validation to valid, testing to "
                                                    "test; --split-by and --split-seed change nothing"}));
  }
  // The same patch in two splits is there twice, not left out as Kaggle's second tree is.
  write_split(folder_ / "testing", 8000, 8001);
  const Dataset leaking = load(folder_.path());
  EXPECT_EQ(leaking.test.shape.n, 30);
  EXPECT_TRUE(has_note(leaking.notes, "1 patient is in several splits: `data audit` names them")) << all(leaking.notes);
}

TEST_F(IdcTest, PatientsInFoldersBelowASplitAreRead) {
  for (const std::string split : {"train", "val", "test"}) {
    write_patch(folder_ / split, split + "-a", 0, 1);
    write_patch(folder_ / split, split + "-a", 1, 2);
  }
  for (const char* name : {"train", "val", "test"}) {
    for (const char* label : {"0", "1"}) {
      const std::filesystem::path from = folder_ / name / (std::string(name) + "-a") / label,
                                  to = folder_ / name / label / "patient";
      std::filesystem::create_directories(to);
      for (const auto& entry : std::filesystem::directory_iterator(from))
        std::filesystem::copy_file(entry.path(), to / "1.png");
    }
  }
  const Dataset data = load(folder_.path());
  EXPECT_EQ(groups_of(data.train), (std::set<std::string>{"patient", "train-a"}));
  EXPECT_EQ(data.test.shape.n, 4);
  EXPECT_TRUE(has_note(data.notes, "1 patient is in several splits")) << all(data.notes);
}

TEST_F(IdcTest, ASplitWithoutAFolderIsDealtFromTrainings) {
  write_split(folder_ / "train", 8000, 8010);
  write_split(folder_ / "test", 8010, 8012);
  std::set<std::set<std::string>> valid;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const Dataset data = load(folder_.path(), {.seed = seed});
    EXPECT_EQ(data.train.shape.n, 90);
    EXPECT_EQ(data.valid.shape.n, 10);
    EXPECT_EQ(groups_of(data.test), (std::set<std::string>{"8010", "8011"}));
    valid.insert(groups_of(data.valid));
    EXPECT_TRUE(has_note(data.notes, "none says valid, dealt from train")) << all(data.notes);
    EXPECT_TRUE(has_note(data.notes, fmt::format("split by patient with seed {}: 9 patients to train, 1 to validate", seed)));
  }
  EXPECT_GT(valid.size(), 2u);
  const Dataset singly = load(folder_.path(), {.split_by = SplitBy::patch});
  EXPECT_EQ(singly.valid.shape.n, 10);
  EXPECT_EQ(singly.test.shape.n, 20);

  std::filesystem::remove_all(folder_ / "test");
  const Dataset alone = load(folder_.path(), {.seed = 2});
  EXPECT_EQ(alone.train.shape.n + alone.valid.shape.n + alone.test.shape.n, 100);
  EXPECT_EQ(alone.test.shape.n, 10);
  EXPECT_TRUE(has_note(alone.notes, "none says valid and test, dealt from train")) << all(alone.notes);

  std::filesystem::rename(folder_ / "train", folder_ / "test");
  EXPECT_EQ(load(folder_.path(), {.train = false, .valid = false}).test.shape.n, 100);
  expect_refusal([&] { load(folder_.path()); }, ExitCode::data,
                 {"the training split is empty", "into the folder of every split"});
}

TEST_F(IdcTest, ImagesOfFewPatientsCanBeJudged) {
  for (const int patients : {1, 2}) {
    const TemporaryFolder few;
    write_tree(few.path(), patients);
    const int images = patients == 1 ? 6 : 14;
    const Dataset whole = load(few.path(), {.deal = false});
    EXPECT_EQ(whole.train.shape.n, images);
    EXPECT_FALSE(whole.dealt());
    EXPECT_EQ(count_images(few.path(), {.deal = false}), (std::array<std::int64_t, 3>{images, 0, 0}));
    const Dataset test = load(few.path(), {.train = false, .valid = false});
    EXPECT_EQ(test.test.shape.n, images);
    EXPECT_FALSE(test.dealt());
    EXPECT_TRUE(has_note(test.notes, "too few to be dealt: all patches are in test")) << all(test.notes);
  }
  write_tree(folder_.path(), 6);
  const Dataset whole = load(folder_.path(), {.deal = false});
  EXPECT_EQ(whole.train.shape.n, 57);
  EXPECT_TRUE(whole.notes.empty()) << all(whole.notes);
  std::filesystem::remove_all(folder_ / "100/0");
  for (int p = 101; p < 106; ++p) std::filesystem::remove_all(folder_ / std::to_string(p));
  expect_refusal([&] { load(folder_.path(), {.deal = false}); }, ExitCode::data,
                 {"the data set has one class only", "0 of class 0, 2 of class 1"});
}

TEST_F(IdcTest, UnknownPatientsAreSaidAndNotDealtAsOne) {
  for (const char* split : {"train", "test"}) {
    for (int i = 0; i < 20; ++i) write_patch(folder_ / split, "images", i % 2, i);
    for (const char* label : {"0", "1"}) {
      for (const auto& entry : std::filesystem::directory_iterator(folder_ / split / "images" / label)) {
        const std::string number = std::to_string(std::hash<std::string>{}(entry.path().string()));
        std::filesystem::rename(entry.path(), entry.path().parent_path() / (number + ".png"));
      }
    }
  }
  expect_refusal([&] { load(folder_.path()); }, ExitCode::data,
                 {"patients are not known", "PATIENT_idx5_xX_yY_classC.png", "--split-by patch"});
  const Dataset data = load(folder_.path(), {.split_by = SplitBy::patch});
  EXPECT_EQ(data.valid.shape.n, 2);
  EXPECT_TRUE(data.train.groups.empty() && data.test.groups.empty());
  EXPECT_TRUE(has_note(data.notes, "40 patches are of patients unknown")) << all(data.notes);
}

TEST_F(IdcTest, FoldersThatHoldSeveralPatientsAreNone) {
  write_split(folder_ / "siteA", 8000, 8004);
  write_split(folder_ / "siteB", 8004, 8009);
  write_split(folder_ / "siteC", 8008, 8012);
  const Dataset data = load(folder_.path());
  EXPECT_TRUE(has_note(data.notes, "patients as file names say, not folders: siteA holds 8000 and 8001")) << all(data.notes);
  std::set<std::string> together;
  std::size_t patients = 0;
  for (const Images* images : {&data.train, &data.valid, &data.test}) {
    together.merge(groups_of(*images));
    patients += groups_of(*images).size();
  }
  EXPECT_EQ(together.size(), 12u);
  EXPECT_EQ(patients, 12u);

  const TemporaryFolder parted;
  for (const char* folder : {"8000a", "8000b"}) write_split(parted / folder, 8000, 8001);
  for (const char* folder : {"1", "2", "3"})
    write_split(parted / ("80" + std::string(folder)), 8000 + folder[0], 8001 + folder[0]);
  EXPECT_TRUE(has_note(load(parted.path()).notes, "8000 is in 8000a and 8000b"));
}

TEST_F(IdcTest, ASplitThatIsALinkToAnotherIsRefused) {
  write_split(folder_ / "train", 8000, 8008);
  write_split(folder_ / "validation", 8008, 8010);
  std::filesystem::create_directory_symlink("validation", folder_ / "test");
  expect_refusal([&] { load(folder_.path()); }, ExitCode::data,
                 {"a split's folder is a link", (folder_ / "test").string(), "those of validation"});
}

TEST_F(IdcTest, WrongTreesAreRefused) {
  write_tree(folder_.path(), 2);
  expect_refusal([&] { load(folder_.path()); }, ExitCode::data,
                 {"too few patients", "found:    2", "--split-by patch", "evaluate --split all"});
  EXPECT_EQ(load(folder_.path(), {.split_by = SplitBy::patch}).name, "idc");

  const TemporaryFolder one_class;
  for (int p = 0; p < 5; ++p) write_patch(one_class.path(), std::to_string(p), 0, 1);
  expect_refusal([&] { load(one_class.path()); }, ExitCode::data, {"has one class only", "of class 0, 0 of class 1"});

  const TemporaryFolder torn;
  write_tree(torn.path(), 6);
  const std::filesystem::path victim = torn / "103/0/103_idx5_x51_y51_class0.png";
  std::vector<char> bytes = read_bytes(victim);
  bytes.resize(bytes.size() - 20);
  write_bytes(victim, bytes);
  expect_refusal([&] { load(torn.path()); }, ExitCode::data, {"damaged or cut short", victim.string()});

  const TemporaryFolder contrary;
  write_tree(contrary.path(), 6);
  std::filesystem::rename(contrary / "103/0/103_idx5_x51_y51_class0.png", contrary / "103/1/103_idx5_x51_y51_class0.png");
  expect_refusal([&] { load(contrary.path()); }, ExitCode::data,
                 {"disagree on its class", "class 1, as its folder says", "class 0 in its name"});
}

}  // namespace
}  // namespace microtome
