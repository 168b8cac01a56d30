#include "data/pcam.h"

#include "data/files.h"
#include "data/loader.h"
#include "data/support.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <map>
#include <numeric>

namespace {

bool memory_is_short = false;
const auto real_exists = reinterpret_cast<htri_t (*)(hid_t, const char*, hid_t)>(::dlsym(RTLD_NEXT, "H5Lexists"));

}  // namespace

extern "C" htri_t H5Lexists(hid_t group, const char* name, hid_t access) {
  if (!memory_is_short) return real_exists(group, name, access);
  H5Epush2(H5E_DEFAULT, __FILE__, __func__, __LINE__, H5E_ERR_CLS, H5E_RESOURCE, H5E_NOSPACE, "no room for a heap");
  return -1;
}

namespace microtome {
namespace {

class PcamTest : public testing::Test {
 protected:
  void SetUp() override { write_pcam(folder_.path()); }

  std::filesystem::path file(std::string_view split, char what) const { return folder_ / pcam_file_name(split, what); }
  void write_x(const std::vector<hsize_t>& shape, const Storage& storage = {}, hid_t type = H5T_STD_U8LE) const {
    const hsize_t count = std::accumulate(shape.begin(), shape.end(), hsize_t{1}, std::multiplies<>());
    write_hdf5(file("train", 'x'), "x", shape, type, some_pixels(count, 't'), H5T_NATIVE_UINT8, storage);
  }
  template <class T = int>
  void write_y(const std::vector<hsize_t>& shape, const std::vector<T>& labels, hid_t type = H5T_STD_U8LE,
               hid_t memory = H5T_NATIVE_INT) const {
    write_hdf5(file("train", 'y'), "y", shape, type, labels, memory);
  }
  void expect_refused(const std::vector<std::string>& parts) const {
    expect_refusal([&] { load(folder_.path()); }, ExitCode::data, parts);
  }

  TemporaryFolder folder_;
};

TEST_F(PcamTest, WhatWasWrittenComesBack) {
  const Dataset data = load(folder_.path());
  EXPECT_EQ(data.name, "pcam");
  const std::pair<const Images*, char> splits[] = {{&data.train, 't'}, {&data.valid, 'v'}, {&data.test, 't'}};
  for (const auto& [images, seed] : splits) {
    EXPECT_EQ(images->shape, (Shape{4, 6, 5, 3}));
    EXPECT_EQ(images->pixels, some_pixels(4 * 6 * 5 * 3, static_cast<unsigned>(seed)));
    EXPECT_EQ(images->labels, (std::vector<std::uint8_t>{0, 1, 0, 1}));
  }
}

TEST_F(PcamTest, EveryStorageGivesTheSamePixels) {
  const std::vector<std::uint8_t> expected = some_pixels(4 * 6 * 5 * 3, 't');
  for (const Storage& storage : {Storage{.chunk = {3, 6, 5, 3}}, Storage{.chunk = {3, 6, 5, 3}, .deflate = true},
                                 Storage{.chunk = {2, 4, 2, 1}, .deflate = true, .shuffle = true, .checksum = true}}) {
    write_x({4, 6, 5, 3}, storage);
    EXPECT_EQ(load(folder_.path()).train.pixels, expected);
  }
}

TEST_F(PcamTest, MoreThanOnePieceIsRead) {
  // Pieces are of 4 MiB; chunks of 700 images do not divide the 3,000.
  const int n = 3000, side = 48;
  for (const Storage& storage : {Storage{}, Storage{.chunk = {700, side, side, 3}}}) {
    write_x({n, side, side, 3}, storage);
    std::int64_t last = 0;
    const auto progress = [&](std::string_view what, std::int64_t done, std::int64_t of) {
      EXPECT_EQ(what, "reading images");
      EXPECT_EQ(of, n);
      EXPECT_GT(done, last);
      last = done;
    };
    std::vector<std::string> notes;
    const Images images = load_images(file("train", 'x'), {.progress = progress}, notes);
    EXPECT_EQ(last, n);
    EXPECT_EQ(images.pixels, some_pixels(std::size_t{n} * side * side * 3, 't'));
    EXPECT_TRUE(images.labels.empty());
  }
}

TEST_F(PcamTest, LinksAreFollowedAndThoseThatLeadNowhereAreNamed) {
  const Dataset before = load(folder_.path());
  const TemporaryFolder elsewhere;
  const std::filesystem::path store = elsewhere / "0a1b";
  std::filesystem::copy_file(file("valid", 'x'), store);
  std::filesystem::remove(file("valid", 'x'));
  std::filesystem::create_symlink(store, file("valid", 'x'));
  write_bytes(folder_ / ("._" + pcam_file_name("valid", 'x')), {'\0', '\5', '\x16', '\7'});
  EXPECT_EQ(load(folder_.path()).valid.pixels, before.valid.pixels);
  std::filesystem::remove(store);
  expect_refusal([&] { load(folder_.path()); }, ExitCode::data,
                 {"a symbolic link leads nowhere", file("valid", 'x').string(), store.string()});
  std::filesystem::create_symlink(pcam_meta_name("train"), folder_ / pcam_meta_name("train"));
  expect_refusal([&] { load(folder_.path()); }, ExitCode::data, {"leads nowhere", "Too many levels of symbolic links"});
}

TEST_F(PcamTest, OneSplitNeedsOnlyItsOwnFiles) {
  for (const char* split : {"train", "valid"}) {
    for (const char what : {'x', 'y'}) std::filesystem::remove(file(split, what));
  }
  const Dataset data = load(folder_.path(), {.train = false, .valid = false});
  EXPECT_EQ(data.test.shape.n, 4);
  EXPECT_EQ(data.train.pixels.size(), 0u);
  expect_refused({"a file is missing", pcam_file_name("train", 'x')});
}

TEST_F(PcamTest, LabelsOfAnyIntegerTypeAndShape) {
  const std::vector<int> labels{1, 0, 0, 1};
  for (const std::vector<hsize_t>& shape : {std::vector<hsize_t>{4}, {4, 1}, {4, 1, 1, 1}}) {
    for (const hid_t type : {H5T_STD_U8LE, H5T_STD_I8BE, H5T_STD_I64LE, H5T_STD_U32BE}) {
      write_y(shape, labels, type);
      EXPECT_EQ(load(folder_.path()).train.labels, (std::vector<std::uint8_t>{1, 0, 0, 1}));
    }
  }
  // NumPy's booleans.
  const hdf5::Id boolean(H5Tenum_create(H5T_NATIVE_INT8));
  std::int8_t value = 0;
  H5Tenum_insert(boolean, "FALSE", &value);
  value = 1;
  H5Tenum_insert(boolean, "TRUE", &value);
  write_y<std::int8_t>({4}, {1, 0, 0, 1}, boolean, boolean);
  EXPECT_EQ(load(folder_.path()).train.labels, (std::vector<std::uint8_t>{1, 0, 0, 1}));
}

TEST_F(PcamTest, WrongImagesAreNamedAsInterfaceShows) {
  write_x({4, 3, 6, 5});
  expect_refused({"training images have the wrong shape", R"(_train_x.h5, dataset "x")", "expected: uint8 (N, 96, 96, 3)",
                  "found:    uint8 (4, 3, 6, 5)", "next:     re-save it channels-last"});
  write_x({4, 6, 5});
  expect_refused({"training images have the wrong shape", "uint8 (4, 6, 5)"});
  write_x({4, 6, 5, 4});
  expect_refused({"wrong shape", "(4, 6, 5, 4)"});
  write_x({4, 6, 5, 3}, {}, H5T_IEEE_F32LE);
  expect_refused({"training images have the wrong type", "float32 (4, 6, 5, 3)"});
  write_x({4, 6, 5, 3}, {}, H5T_STD_U16LE);
  expect_refused({"wrong type", "uint16"});
  write_x({4, 6, 5, 3}, {}, H5T_STD_I8LE);
  expect_refused({"wrong type", "int8"});
  write_x({0, 6, 5, 3}, {.chunk = {1, 6, 5, 3}});
  expect_refused({"wrong shape", "(0, 6, 5, 3)"});
  write_x({5, 6, 5, 3});
  expect_refused({"training images and labels differ in number", "expected: 5 labels", "found:    4 labels"});
  write_x({4, 6, 6, 3});
  expect_refused({"differ in size", "6 x 6", "6 x 5"});
}

TEST_F(PcamTest, WrongLabelsAreNamed) {
  write_y({4}, {0, 1, 2, 0});
  expect_refused({"training labels are not all 0 or 1", R"(dataset "y", index 2)", "found:    2"});
  write_y({4}, {0, -1, 2, 0}, H5T_STD_I16LE);
  expect_refused({"index 1", "found:    -1"});
  write_y({4}, {0, 1, 1, 0}, H5T_IEEE_F32LE);
  expect_refused({"training labels have the wrong type", "float32 (4,)"});
  write_y({4, 2}, {0, 1, 1, 0, 0, 0, 0, 0});
  expect_refused({"training labels have the wrong shape", "(4, 2)"});
  write_y({4, 1, 1, 1, 1}, {0, 1, 1, 0});
  expect_refused({"training labels have the wrong shape", "(4, 1, 1, 1, 1)"});
  write_y({4}, {1, 1, 1, 1});
  expect_refused({"the training split has one class only", "0 of class 0, 4 of class 1"});
}

TEST_F(PcamTest, DatasetsOfOtherNamesAreListed) {
  write_hdf5(file("train", 'x'), "images", {4, 6, 5, 3}, H5T_STD_U8LE, some_pixels(360), H5T_NATIVE_UINT8);
  expect_refused({"a dataset is missing", "_train_x.h5", R"(expected: a dataset "x")",
                  R"(found:    "images" uint8 (4, 6, 5, 3))", "save it again under the name x"});
  {
    const hdf5::Id made = hdf5::create_file(file("train", 'x'));
    hdf5::create_group(made, "more");
    H5Lcreate_external("elsewhere.h5", "x", made, "linked", H5P_DEFAULT, H5P_DEFAULT);
  }
  expect_refused({R"(found:    "linked", "more" (a group))"});
  { const hdf5::Id made = hdf5::create_file(file("train", 'x')); }
  expect_refused({"an HDF5 file with nothing in it"});
}

TEST_F(PcamTest, GzippedAndMissingFilesAreNamed) {
  std::filesystem::rename(file("valid", 'x'), file("valid", 'x').string() + ".gz");
  expect_refused({"still gzipped", "gunzip ", "_valid_x.h5.gz"});
  write_bytes(file("valid", 'x'), {'\x1f', '\x8b', 8, 0});
  expect_refused({"still gzipped", "found:    a gzip file"});
  write_bytes(file("valid", 'x'), {'h', 'e', 'l', 'l', 'o'});
  expect_refused({"no HDF5 file, or is damaged", "_valid_x.h5"});
  const std::string page = "<!DOCTYPE html>\n<title>Sign in</title>";
  write_bytes(file("valid", 'x'), {page.begin(), page.end()});
  expect_refused({"no HDF5 file", "found:    an HTML page"});
  write_bytes(file("valid", 'x'), {});
  expect_refused({"no HDF5 file", "found:    an empty file"});
  std::filesystem::remove(file("valid", 'x'));
  std::filesystem::create_directory(file("valid", 'x'));
  expect_refused({"no regular file"});
}

TEST_F(PcamTest, SlidesAreKnownWhereTheirFileLiesBeside) {
  EXPECT_TRUE(load(folder_.path()).test.groups.empty());
  const auto write_meta = [&](const std::string& text) { std::ofstream(folder_ / pcam_meta_name("test")) << text; };
  write_meta(
      ",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi\r\n0,1,2,True,True,a\r\n1,1,2,True,True,b\r\n2,1,2,True,True,a\r\n3,"
      "1,2,True,True,c\r\n");
  const Dataset data = load(folder_.path());
  EXPECT_EQ(data.test.groups, (std::vector<std::string>{"a", "b", "a", "c"}));
  EXPECT_TRUE(data.train.groups.empty());
  write_meta(",center_tumor_patch,wsi\n1,True,a\n0,True,b\n2,True,a\n3,True,c\n");
  const std::vector<std::string> notes = load(folder_.path()).notes;
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[0].find("of 4 lines center_tumor_patch is not the label"), std::string::npos) << notes[0];
  EXPECT_NE(notes[1].find("does not count the lines"), std::string::npos) << notes[1];
  write_meta("coord_y,wsi\n1,a\n1,NA\n1,a\n1,a\n");
  expect_refused({"cannot be used", "line 3", "a slide's name"});
  write_meta("coord_y,slide\n1,a\n");
  expect_refused({"lack a column", pcam_meta_name("test") + ", line 1", "wsi", "coord_y,slide"});
  write_meta("coord_y,wsi\n1,a\n1,a\n1,a\n");
  expect_refused({"differ in number", pcam_meta_name("test"), "4 lines", "3 lines"});
  write_meta("coord_y,wsi\n1,a\n1\n1,a\n1,a\n");
  expect_refused({"cannot be used", "line 3", "2 fields"});
  write_meta("coord_y,wsi\n1,\n1,a\n1,a\n1,a\n");
  expect_refused({"cannot be used", "line 2"});
  write_meta("");
  expect_refused({"lack a column"});
}

TEST_F(PcamTest, AMissingDatasetIsNamed) {
  write_hdf5(file("train", 'x'), "images", {4, 6, 5, 3}, H5T_STD_U8LE, some_pixels(360), H5T_NATIVE_UINT8);
  expect_refused({"a dataset is missing", R"(expected: a dataset "x")"});
  {
    const hdf5::Id out = hdf5::create_file(file("train", 'x'));
    hdf5::create_group(out, "x");
  }
  expect_refused({"a dataset is missing"});
}

TEST_F(PcamTest, WhatLacksMemoryIsNeitherMissingNorDamaged) {
  memory_is_short = true;
  expect_refused({"takes more memory than it may", "available"});
  memory_is_short = false;
  EXPECT_EQ(load(folder_.path()).train.shape, (Shape{4, 6, 5, 3}));
}

TEST_F(PcamTest, DataKeptElsewhereIsRefused) {
  const std::filesystem::path victim = folder_ / "victim.h5";
  write_hdf5(victim, "x", {4, 6, 5, 3}, H5T_STD_U8LE, some_pixels(360), H5T_NATIVE_UINT8);
  const hsize_t shape[4] = {4, 6, 5, 3};
  {
    const hdf5::Id out = hdf5::create_file(file("train", 'x'));
    H5Lcreate_external(victim.c_str(), "/x", out, "x", H5P_DEFAULT, H5P_DEFAULT);
  }
  expect_refused({"points elsewhere", "a link to another file"});
  {
    const hdf5::Id out = hdf5::create_file(file("train", 'x'));
    H5Lcreate_soft("/y", out, "x", H5P_DEFAULT, H5P_DEFAULT);
  }
  expect_refused({"points elsewhere", "a soft link"});
  {
    const hdf5::Id out = hdf5::create_file(file("train", 'x'));
    const hdf5::Id space(H5Screate_simple(4, shape, nullptr)), creation(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_external(creation, "/etc/hostname", 0, H5F_UNLIMITED);
    const hdf5::Id dataset(H5Dcreate2(out, "x", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    ASSERT_TRUE(dataset.valid());
  }
  expect_refused({"keeps its data elsewhere", "external storage"});
  {
    const hdf5::Id out = hdf5::create_file(file("train", 'x'));
    const hdf5::Id space(H5Screate_simple(4, shape, nullptr)), creation(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_virtual(creation, space, victim.c_str(), "/x", space);
    const hdf5::Id dataset(H5Dcreate2(out, "x", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    ASSERT_TRUE(dataset.valid());
  }
  expect_refused({"keeps its data elsewhere", "a virtual dataset"});
}

TEST_F(PcamTest, ADatasetThatDeclaresMoreThanTheFileHoldsIsRefused) {
  // A TiB declared and never written, contiguous and chunked; then one chunk of two.
  const std::vector<hsize_t> huge{39768216, 96, 96, 3};
  write_hdf5<std::uint8_t>(file("train", 'x'), "x", huge, H5T_STD_U8LE, {}, H5T_NATIVE_UINT8);
  expect_refused({"declares more than the file holds", "39768216"});
  write_hdf5<std::uint8_t>(file("train", 'x'), "x", huge, H5T_STD_U8LE, {}, H5T_NATIVE_UINT8,
                           {.chunk = {64, 96, 96, 3}, .deflate = true});
  expect_refused({"declares more than the file holds"});
  {
    const hdf5::Id out = hdf5::create_file(file("train", 'x'));
    const hsize_t shape[4] = {4, 6, 5, 3}, half[4] = {2, 6, 5, 3}, origin[4] = {};
    const hdf5::Id space(H5Screate_simple(4, shape, nullptr)), creation(H5Pcreate(H5P_DATASET_CREATE)),
        memory(H5Screate_simple(4, half, nullptr));
    H5Pset_chunk(creation, 4, half);
    const hdf5::Id dataset(H5Dcreate2(out, "x", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Sselect_hyperslab(space, H5S_SELECT_SET, origin, nullptr, half, nullptr);
    H5Dwrite(dataset, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, some_pixels(180).data());
  }
  expect_refused({"declares more than the file holds", "180 bytes"});
}

TEST_F(PcamTest, AnUnknownCompressionIsNamed) {
  {
    const hdf5::Id out = hdf5::create_file(file("train", 'x'));
    const hsize_t shape[4] = {4, 6, 5, 3};
    const hdf5::Id space(H5Screate_simple(4, shape, nullptr)), creation(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_chunk(creation, 4, shape);
    H5Pset_filter(creation, 32000, H5Z_FLAG_OPTIONAL, 0, nullptr);  // h5py's lzf
    const hdf5::Id dataset(H5Dcreate2(out, "x", H5T_STD_U8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    ASSERT_TRUE(dataset.valid());
    H5Dwrite(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, some_pixels(360).data());
  }
  expect_refused({"compressed in a way that is not read", "filter 32000", "re-save it with gzip"});
}

/// Reads one file's images, whatever they are; the error's code, or 0.
int verdict(const std::filesystem::path& file, const std::vector<std::uint8_t>& sound) {
  try {
    std::vector<std::string> notes;
    const Images images = load_images(file, {}, notes);
    return images.pixels == sound ? 0 : -1;
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ExitCode::data || error.code() == ExitCode::memory) << to_text(error, "test");
    return static_cast<int>(error.code());
  }
}

TEST_F(PcamTest, EveryTruncationIsRefusedInTime) {
  for (const Storage& storage : {Storage{}, Storage{.chunk = {1, 6, 5, 3}, .deflate = true}}) {
    write_x({4, 6, 5, 3}, storage);
    const std::filesystem::path x = file("train", 'x');
    const std::vector<char> bytes = read_bytes(x);
    const std::vector<std::uint8_t> sound = some_pixels(360, 't');
    ASSERT_EQ(verdict(x, sound), 0);
    for (std::size_t size = 0; size < bytes.size(); size += 64) {
      write_bytes(x, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
      EXPECT_EQ(verdict(x, sound), static_cast<int>(ExitCode::data)) << size << " bytes";
    }
  }
}

TEST_F(PcamTest, NoFlippedBitCrashesOrHangs) {
  // Every byte of a contiguous file, every sixteenth of a chunked one, which is longer.
  const std::pair<Storage, std::size_t> cases[] = {{{}, 1}, {{.chunk = {1, 6, 5, 3}, .deflate = true, .checksum = true}, 16}};
  for (const auto& [storage, step] : cases) {
    write_x({4, 6, 5, 3}, storage);
    const std::filesystem::path x = file("train", 'x');
    const std::vector<char> bytes = read_bytes(x);
    const std::vector<std::uint8_t> sound = some_pixels(360, 't');
    std::map<int, int> verdicts;
    for (std::size_t i = 0; i < bytes.size(); i += step) {
      std::vector<char> flipped = bytes;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
      write_bytes(x, flipped);
      ++verdicts[verdict(x, sound)];
    }
    EXPECT_GT(verdicts[static_cast<int>(ExitCode::data)], 20);
    RecordProperty("verdicts", fmt::format("of {}: same {}, other pixels {}, refused {}, memory {}", bytes.size(), verdicts[0],
                                           verdicts[-1], verdicts[3], verdicts[5]));
  }
}

TEST_F(PcamTest, AFlippedBitOfAChunkIsFoundByItsChecksum) {
  const std::filesystem::path x = file("train", 'x');
  const std::vector<std::uint8_t> sound = some_pixels(360, 't');
  for (const bool deflate : {false, true}) {
    write_x({4, 6, 5, 3}, {.chunk = {2, 6, 5, 3}, .deflate = deflate, .checksum = true});
    std::vector<std::pair<haddr_t, hsize_t>> chunks;  // offset in the file and bytes
    {
      const hdf5::Id opened(H5Fopen(x.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)), dataset(H5Dopen2(opened, "x", H5P_DEFAULT)),
          space(H5Dget_space(dataset));
      for (hsize_t i = 0; i < 2; ++i) {
        hsize_t first[4];
        unsigned left_out = 0;
        auto& [offset, size] = chunks.emplace_back();
        ASSERT_GE(H5Dget_chunk_info(dataset, space, i, first, &left_out, &offset, &size), 0);
      }
    }
    const std::vector<char> bytes = read_bytes(x);
    for (const auto& [offset, size] : chunks)
      for (hsize_t i = 0; i < size; i += 4) {
        std::vector<char> flipped = bytes;
        flipped[offset + i] = static_cast<char>(flipped[offset + i] ^ (1 << i / 4 % 8));
        write_bytes(x, flipped);
        EXPECT_EQ(verdict(x, sound), static_cast<int>(ExitCode::data)) << "byte " << i << " of " << size;
      }
  }
}

TEST_F(PcamTest, AnUnfinishedWriterLeavesNothing) {
  const TemporaryFolder other;
  {
    PcamWriter writer(other.path(), "train", {4, 6, 5, 3});
    writer.append(some_pixels(180), std::vector<std::uint8_t>{0, 1});
  }
  EXPECT_TRUE(std::filesystem::is_empty(other.path()));
}

TEST_F(PcamTest, LabelsAppearAfterTheirImages) {
  const TemporaryFolder other;
  const std::filesystem::path in_the_way = other / pcam_file_name("train", 'x');
  std::filesystem::create_directory(in_the_way);
  PcamWriter writer(other.path(), "train", {4, 6, 5, 3});
  writer.append(some_pixels(360), std::vector<std::uint8_t>{0, 1, 0, 1});
  expect_refusal([&] { writer.finish(); }, ExitCode::memory, {"could not be written", in_the_way.string()});
  EXPECT_FALSE(std::filesystem::exists(other / pcam_file_name("train", 'y')));
}

TEST_F(PcamTest, TheErrorSaysWhereTheWriterCannotWrite) {
  expect_refusal([] { PcamWriter("/proc/nowhere", "train", {4, 6, 5, 3}); }, ExitCode::memory, {"could not be written"});
}

TEST_F(PcamTest, AFileThatAWriterHoldsIsReadAllTheSame) {
  const int fd = ::open((folder_ / pcam_file_name("train", 'x')).c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  EXPECT_GT(load(folder_.path()).train.shape.n, 0);
  ::close(fd);
}

TEST_F(PcamTest, ImagesAreCountedWithoutBeingRead) {
  const Dataset data = load(folder_.path());
  EXPECT_EQ(count_images(folder_.path()),
            (std::array<std::int64_t, split_count>{data.train.shape.n, data.valid.shape.n, data.test.shape.n}));
  EXPECT_EQ(count_images(folder_.path(), {.valid = false, .test = false})[1], 0);
}

}  // namespace
}  // namespace microtome
