#include "data/loader.h"

#include "data/files.h"
#include "data/png.h"
#include "data/support.h"

#include <algorithm>

namespace microtome {
namespace {

void write_image(const std::filesystem::path& file, Extent size, int colour) {
  std::filesystem::create_directories(file.parent_path());
  const std::vector<std::uint8_t> pixels(static_cast<std::size_t>(size.h * size.w * 3), static_cast<std::uint8_t>(colour));
  write_png(file, size, pixels.data());
}

Images images_to_score(const std::filesystem::path& path, const LoadOptions& options = {}) {
  std::vector<std::string> notes;
  return load_images(path, options, notes);
}

TEST(LoaderTest, RecognisesBothDataSetsAndSaysWhatElseItFound) {
  const TemporaryFolder pcam, idc, other, empty;
  write_pcam(pcam.path());
  EXPECT_EQ(recognise(pcam.path()).name, "pcam");
  std::filesystem::rename(pcam / pcam_file_name("train", 'x'), pcam / (pcam_file_name("train", 'x') + ".gz"));
  EXPECT_EQ(recognise(pcam.path()).name, "pcam");
  write_image(idc / "8863/0/a.png", 50, 1);
  EXPECT_EQ(recognise(idc.path()).name, "idc");
  write_bytes(other / "notes.txt", {'a'});
  expect_refusal(
      [&] { recognise(other.path()); }, ExitCode::data,
      {"no data set that is known", "camelyonpatch_level_2_split_train_x.h5", "PATIENT/0/*.png", "found:    notes.txt"});
  expect_refusal([&] { load(empty.path()); }, ExitCode::data, {"an empty folder"});
  expect_refusal([&] { load(other / "notes.txt"); }, ExitCode::data, {"no folder"});
  expect_refusal([&] { load(other / "none"); }, ExitCode::data, {"missing"});
}

TEST(LoaderTest, ADataSetBesideTheOneThatIsReadIsSaid) {
  const TemporaryFolder both;
  std::filesystem::create_directory(both / "pcam");
  write_pcam(both / "pcam");
  for (int patient = 0; patient < 12; ++patient)
    for (int i = 0; i < 4; ++i) write_image(both / fmt::format("idc/{}/{}/{}.png", patient, i % 2, i), 50, i);
  const auto is_said = [](const std::vector<std::string>& notes) {
    return std::ranges::any_of(notes, [](const std::string& note) { return note.find("pcam holds a data set") != note.npos; });
  };
  EXPECT_TRUE(is_said(load(both.path()).notes));
  EXPECT_TRUE(is_said(verify(both.path()).data.notes));
  EXPECT_FALSE(is_said(load(both / "idc").notes));
}

/// The problems' texts, one below the other.
std::string texts(const Verified& verified) {
  std::string all;
  for (const Error& problem : verified.problems) all += to_text(problem, "test");
  return all;
}

/// Whether these stand in `text` in this order.
void expect_in_order(const std::string& text, const std::vector<std::string>& parts) {
  std::size_t at = 0;
  for (const std::string& part : parts) {
    const std::size_t found = text.find(part, at);
    EXPECT_NE(found, std::string::npos) << "no \"" << part << "\" from " << at << " on in\n" << text;
    if (found != std::string::npos) at = found + part.size();
  }
}

TEST(LoaderTest, VerifyTellsWhatLoadWouldWithoutKeepingPixels) {
  const TemporaryFolder pcam, idc;
  write_pcam(pcam.path());
  for (int patient = 0; patient < 12; ++patient) {
    for (int i = 0; i < 4; ++i)
      write_image(idc / fmt::format("{}/{}/{}.png", patient, i % 2, i), patient == 3 ? Extent{40, 50} : Extent{50}, i);
  }
  for (const TemporaryFolder* folder : {&pcam, &idc}) {
    const Dataset loaded = load(folder->path());
    const Verified verified = verify(folder->path());
    EXPECT_TRUE(verified.problems.empty()) << texts(verified);
    EXPECT_EQ(verified.data.name, loaded.name);
    EXPECT_EQ(verified.data.notes, loaded.notes);
    for (Images Dataset::*split : {&Dataset::train, &Dataset::valid, &Dataset::test}) {
      const Images &a = verified.data.*split, &b = loaded.*split;
      EXPECT_EQ(a.shape, b.shape);
      EXPECT_EQ(a.labels, b.labels);
      EXPECT_EQ(a.groups, b.groups);
      EXPECT_EQ(a.ids, b.ids);
      EXPECT_TRUE(a.pixels.empty());
      EXPECT_FALSE(b.pixels.empty());
    }
  }
}

TEST(LoaderTest, VerifyListsEveryBrokenFile) {
  const TemporaryFolder pcam, idc;
  write_pcam(pcam.path());
  std::filesystem::resize_file(pcam / pcam_file_name("train", 'x'), 1000);
  write_hdf5(pcam / pcam_file_name("valid", 'y'), "y", {4}, H5T_STD_U8LE, std::vector<std::uint8_t>{0, 1, 0, 7},
             H5T_NATIVE_UINT8);
  write_bytes(pcam / pcam_meta_name("valid"), {'a'});
  write_hdf5(pcam / pcam_file_name("test", 'y'), "y", {3}, H5T_STD_U8LE, std::vector<std::uint8_t>{0, 0, 0}, H5T_NATIVE_UINT8);
  write_bytes(pcam / pcam_meta_name("test"), {'a'});
  const Verified verified = verify(pcam.path());
  EXPECT_EQ(verified.problems.size(), 5u) << texts(verified);
  expect_in_order(texts(verified), {"train_x.h5", "valid_y.h5, dataset \"y\", index 3", "test_meta.csv",
                                    "the test split has one class only", "test images and labels differ in number"});
  EXPECT_EQ(verified.data.valid.shape.n, 4) << "what is sound is told";
  std::filesystem::remove(pcam / pcam_file_name("train", 'x'));
  expect_in_order(texts(verify(pcam.path())), {"a file is missing", "train_x.h5", "valid_y.h5"});

  for (int patient = 0; patient < 12; ++patient) {
    for (int i = 0; i < 4; ++i) write_image(idc / fmt::format("{}/{}/{}.png", patient, i % 2, i), 50, i);
  }
  write_image(idc / "5/0/5_idx5_x1_y1_class1.png", 50, 1);
  write_bytes(idc / "7/1/1.png", {'<', 'h', 't', 'm', 'l', '>'});
  std::filesystem::resize_file(idc / "7/1/3.png", 60);
  const Verified tree = verify(idc.path());
  EXPECT_EQ(tree.problems.size(), 3u) << texts(tree);
  expect_in_order(texts(tree), {"disagree on its class", "5_idx5_x1_y1_class1.png", "7/1/1.png", "7/1/3.png"});
}

TEST(LoaderTest, ImagesToScoreComeFromAnyOfThreeSources) {
  const TemporaryFolder folder;
  write_image(folder / "b.png", 50, 2);
  write_image(folder / "deep/a.png", 50, 1);
  write_bytes(folder / "c.txt", {'a'});
  const Images many = images_to_score(folder.path());
  EXPECT_EQ(many.shape, (Shape{2, 50, 50, 3}));
  EXPECT_EQ(many.ids, (std::vector<std::string>{"b.png", "deep/a.png"}));
  EXPECT_EQ(many.pixels[0], 2);
  EXPECT_EQ(many.pixels[7500], 1);
  EXPECT_TRUE(many.labels.empty());

  const Images one = images_to_score(folder / "b.png");
  EXPECT_EQ(one.ids, std::vector<std::string>{(folder / "b.png").string()});
  EXPECT_EQ(one.shape.n, 1);

  write_hdf5(folder / "some.h5", "x", {3, 4, 5, 3}, H5T_STD_U8LE, some_pixels(180), H5T_NATIVE_UINT8);
  const Images stored = images_to_score(folder / "some.h5");
  EXPECT_EQ(stored.shape, (Shape{3, 4, 5, 3}));
  EXPECT_TRUE(stored.ids.empty());
}

TEST(LoaderTest, ImagesToScoreAreOfOneSizeOrPaddedToOneThatIsAskedFor) {
  const TemporaryFolder folder;
  write_image(folder / "a.png", 50, 1);
  write_image(folder / "b.png", {40, 50}, 2);
  expect_refusal([&] { images_to_score(folder.path()); }, ExitCode::data, {"images differ in size", "b.png", "40 x 50"});
  const Images images = images_to_score(folder.path(), {.image = Extent{50, 60}});
  EXPECT_EQ(images.shape, (Shape{2, 50, 60, 3}));
  EXPECT_EQ(images.pixels.back(), 255);
  expect_refusal([&] { images_to_score(folder.path(), {.image = Extent{45}}); }, ExitCode::data, {"larger than it may be"});
}

TEST(LoaderTest, WhatSystemsLeaveAmongImagesToScoreIsSaid) {
  const TemporaryFolder folder, outside;
  write_image(folder / "a.png", {50, 40}, 1);
  write_image(outside / "b.png", 50, 2);
  std::filesystem::create_symlink(outside / "b.png", folder / "b.png");
  std::filesystem::create_symlink(outside / "none.png", folder / "c.png");
  write_bytes(folder / "._a.png", {'\0', '\5', '\x16', '\7'});
  std::vector<std::string> notes;
  const Images images = load_images(folder.path(), {.image = Extent{50}}, notes);
  EXPECT_EQ(images.ids, (std::vector<std::string>{"a.png", "b.png"}));
  EXPECT_EQ(notes, (std::vector<std::string>{
                       "1 hidden file or folder left out (._a.png)",
                       "1 symbolic link followed (b.png -> " + (outside / "b.png").string() + ")",
                       "1 symbolic link left out, leading nowhere (c.png -> " + (outside / "none.png").string() + ")",
                       "1 patch smaller than 50x50: padded with white below and on the right"}));
}

TEST(LoaderTest, LinksThatGoRoundAreNamedNotThrown) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("b", folder / "a");
  std::filesystem::create_symlink("a", folder / "b");
  for (const auto& call :
       {std::function<void()>([&] { load(folder / "a"); }), std::function<void()>([&] { image_size(folder / "a"); }),
        std::function<void()>([&] { images_to_score(folder / "a"); })})
    expect_refusal(call, ExitCode::data, {(folder / "a").string(), "Too many levels of symbolic links"});
  expect_refusal([&] { load(folder.path()); }, ExitCode::data, {"2 symbolic links left out, leading nowhere (a -> b, …)"});
}

TEST(LoaderTest, FoldersWithImagesButWithoutClassesAreNamed) {
  const TemporaryFolder folder;
  for (const char* name : {"train/benign/a.png", "train/malignant/a.png", "test/benign/a.png"})
    write_image(folder / name, 50, 1);
  expect_refusal([&] { load(folder.path()); }, ExitCode::data,
                 {"found:    3 .png files in test/benign, train/benign, train/malignant"});
}

TEST(LoaderTest, ImagesOfOtherKindsAreCountedWithWhereTheyLie) {
  const TemporaryFolder folder;
  for (const char* name :
       {"train/0/a.JPG", "train/0/b.jpg", "train/1/a.jpg", "test/0/a.jpg", "labels.csv", "a/1.txt", "a/2.txt"}) {
    std::filesystem::create_directories((folder / name).parent_path());
    write_bytes(folder / name, {'a'});
  }
  expect_refusal([&] { load(folder.path()); }, ExitCode::data,
                 {"found:    4 .jpg files in test/0, train/0, train/1, 2 .txt files (a/1.txt, …), labels.csv\n",
                  "next:     images are read from PNG files: convert these", "*.jpg"});
  const TemporaryFolder bare;
  std::filesystem::create_directories(bare / "train/0");
  expect_refusal([&] { load(bare.path()); }, ExitCode::data, {"found:    no file that was looked at"});
}

TEST(LoaderTest, WhatCannotBeScoredIsNamed) {
  const TemporaryFolder folder;
  write_bytes(folder / "a.csv", {'a'});
  expect_refusal([&] { images_to_score(folder / "a.csv"); }, ExitCode::data,
                 {"a PNG file, a folder of PNG files, or an HDF5 file"});
  expect_refusal([&] { images_to_score(folder / "none.png"); }, ExitCode::data, {"no such file"});
  expect_refusal([&] { images_to_score(folder.path()); }, ExitCode::data, {"holds no images"});
}

}  // namespace
}  // namespace microtome
