#include "data/file.h"

#include "data/support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace microtome {
namespace {

/// Puts the system calls back.
class FileTest : public testing::Test {
 protected:
  ~FileTest() override { file_operations() = saved_; }

  static void write(const std::filesystem::path& file, const std::string& text) {
    const Bytes parts[] = {std::as_bytes(std::span(text)), {}, std::as_bytes(std::span(text))};
    write_whole(file, parts, "the text");
  }
  static std::string read(const std::filesystem::path& file) {
    const std::vector<char> bytes = read_bytes(file);
    return {bytes.begin(), bytes.end()};
  }

  TemporaryFolder folder_;
  const FileOperations saved_ = file_operations();
};

/// Makes the k-th system call of a write fail with `error`; counts them.
struct Saboteur {
  int fail_at = -1, error = ENOSPC, calls = 0;

  void install() {
    const FileOperations real = file_operations();
    FileOperations& call = file_operations();
    const auto due = [this] {
      if (calls++ != fail_at) return false;
      errno = error;
      return true;
    };
    call.open = [due, real](const char* path, int flags, mode_t mode) { return due() ? -1 : real.open(path, flags, mode); };
    call.write = [due, real](int fd, const void* bytes, std::size_t count) -> ssize_t {
      return due() ? -1 : real.write(fd, bytes, count);
    };
    call.fsync = [due, real](int fd) { return due() ? -1 : real.fsync(fd); };
    call.close = [due, real, code = error](int fd) {
      const bool failing = due();
      const int result = real.close(fd);
      if (failing) errno = code;
      return failing ? -1 : result;
    };
    call.rename = [due, real](const char* from, const char* to) { return due() ? -1 : real.rename(from, to); };
  }
};

TEST_F(FileTest, FirstBytesTellWhatAFileIs) {
  using namespace std::string_literals;
  for (const auto& [bytes, kind] : {std::pair("<!DOCTYPE html><html>"s, "an HTML page"),
                                    {"\xef\xbb\xbf \n<HTML lang=en>"s, "an HTML page"},
                                    {"<?xml version='1.0'?><Error>"s, "an XML document"},
                                    {""s, "an empty file"},
                                    {"\x1f\x8b\b"s, "a gzip file"},
                                    {"PK\3\4"s, "a zip file"},
                                    {"\xff\xd8\xff\xe0"s, "a JPEG image"},
                                    {"II*\0"s, "a TIFF image"},
                                    {"\x89PNG\r\n\x1a\n"s, "a PNG image"},
                                    {"version https://git-lfs.github.com/spec/v1"s, "a pointer of Git LFS"},
                                    {"\0\0\0"s, "zeros"}}) {
    write_bytes(folder_ / "a", {bytes.begin(), bytes.end()});
    EXPECT_TRUE(kind_of_file(folder_ / "a").starts_with(kind)) << bytes << ": " << kind_of_file(folder_ / "a");
  }
  write_bytes(folder_ / "a", {'<', 'h', 't', 'm'});
  EXPECT_EQ(kind_of_file(folder_ / "a"), "");
  EXPECT_EQ(kind_of_file(folder_.path()), "a folder");
  EXPECT_EQ(kind_of_file(folder_ / "none"), "");
}

TEST_F(FileTest, WritesAllPartsAndReplacesAnOlderFile) {
  write(folder_ / "a", "one");
  write(folder_ / "a", "two");
  EXPECT_EQ(read(folder_ / "a"), "twotwo");
  EXPECT_FALSE(std::filesystem::exists(temporary_name(folder_ / "a")));
}

TEST_F(FileTest, EveryFailingCallLeavesTheOldFileOrTheNewOneAndNoOther) {
  Saboteur counting;
  counting.install();
  write(folder_ / "a", "old");
  file_operations() = saved_;
  // Open folder, open, two writes, sync, close, rename, sync of the folder, and its close, which may fail.
  ASSERT_EQ(counting.calls, 9);
  const int last_that_counts = 7;
  for (const int error : {ENOSPC, EIO, EDQUOT, EROFS}) {
    for (int k = 0; k <= last_that_counts; ++k) {
      SCOPED_TRACE(fmt::format("call {} fails: {}", k, std::strerror(error)));
      write(folder_ / "a", "old");
      Saboteur saboteur{.fail_at = k, .error = error};
      saboteur.install();
      expect_refusal([&] { write(folder_ / "a", "new"); }, ExitCode::memory,
                     {"the text could not be written", (folder_ / "a").string()});
      file_operations() = saved_;
      EXPECT_EQ(read(folder_ / "a"), k == last_that_counts ? "newnew" : "oldold");
      EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
    }
  }
}

TEST_F(FileTest, InterruptedCallsAreRepeated) {
  for (int k = 0; k < 9; ++k) {
    Saboteur saboteur{.fail_at = k, .error = EINTR};
    saboteur.install();
    write(folder_ / "a", "text");
    file_operations() = saved_;
    EXPECT_EQ(read(folder_ / "a"), "texttext") << "call " << k;
    std::filesystem::remove(folder_ / "a");
  }
}

TEST_F(FileTest, ShortWritesAreContinued) {
  file_operations().write = [this](int fd, const void* bytes, std::size_t) { return saved_.write(fd, bytes, 1); };
  write(folder_ / "a", "slowly");
  EXPECT_EQ(read(folder_ / "a"), "slowlyslowly");
}

TEST_F(FileTest, ALinkUnderTheTemporaryNameIsNotFollowed) {
  write_bytes(folder_ / "victim", {'v'});
  std::filesystem::create_symlink(folder_ / "victim", temporary_name(folder_ / "a"));
  expect_refusal([&] { write(folder_ / "a", "text"); }, ExitCode::memory);
  EXPECT_EQ(read(folder_ / "victim"), "v");
}

TEST_F(FileTest, ALinkStaysAndWhatItLeadsToIsReplaced) {
  std::filesystem::create_directory(folder_ / "elsewhere");
  write_bytes(folder_ / "elsewhere/real", {'o', 'l', 'd'});
  std::filesystem::create_symlink("elsewhere/real", folder_ / "first");
  std::filesystem::create_symlink(folder_ / "first", folder_ / "second");
  write(folder_ / "second", "new");
  EXPECT_EQ(read(folder_ / "elsewhere/real"), "newnew");
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "first") && std::filesystem::is_symlink(folder_ / "second"));
  std::filesystem::create_symlink("elsewhere/none yet", folder_ / "dangling");
  write(folder_ / "dangling", "x");
  EXPECT_EQ(read(folder_ / "elsewhere/none yet"), "xx");
}

TEST_F(FileTest, PipesAndDevicesAreWrittenToAndNotReplaced) {
  const std::filesystem::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  write(pipe, "abc");
  char got[16] = {};
  EXPECT_EQ(::read(reader, got, sizeof got), 6);
  EXPECT_STREQ(got, "abcabc");
  ::close(reader);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  if (!std::filesystem::is_character_file("/dev/full")) return;
  std::filesystem::create_symlink("/dev/full", folder_ / "full");
  expect_refusal([&] { write(folder_ / "full", "abc"); }, ExitCode::memory, {"could not be written", "No space left"});
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
}

TEST_F(FileTest, AnOutputMayNotBeOneOfTheInputs) {
  write(folder_ / "weights.h5", "w");
  std::filesystem::create_directory(folder_ / "data");
  write(folder_ / "data/x.h5", "x");
  std::filesystem::create_symlink("weights.h5", folder_ / "link");
  std::filesystem::create_hard_link(folder_ / "weights.h5", folder_ / "twin");
  const InputFile inputs[] = {{"--config", {}}, {"--weights", folder_ / "weights.h5"}, {"--data", folder_ / "data"}};
  for (const char* name : {"weights.h5", "link", "twin", "data/../weights.h5"})
    expect_refusal([&] { require_apart("--out", folder_ / name, inputs); }, ExitCode::usage,
                   {"--out would overwrite what --weights names"});
  for (const char* name : {"data", "data/x.h5"})
    expect_refusal([&] { require_apart("--out", folder_ / name, inputs); }, ExitCode::usage,
                   {"--out would overwrite what --data names"});
  for (const char* name : {"", "other", "data/scores.csv", "weights.h5.csv"})
    require_apart("--out", name[0] == 0 ? std::filesystem::path() : folder_ / name, inputs);
  require_apart("--out", "/dev/null", inputs);
}

TEST_F(FileTest, AMissingFolderIsNamed) {
  expect_refusal([&] { write(folder_ / "none/a", "text"); }, ExitCode::memory, {"opening the folder"});
}

TEST_F(FileTest, ReadsWholeFilesAndRefusesAllElse) {
  write(folder_ / "a", "ab");
  EXPECT_EQ(read_whole(folder_ / "a", ExitCode::data, 4).size(), 4u);
  expect_refusal([&] { read_whole(folder_ / "a", ExitCode::data, 3); }, ExitCode::data, {"4 bytes"});
  expect_refusal([&] { read_whole(folder_ / "b", ExitCode::weights, 3); }, ExitCode::weights, {"b"});
  expect_refusal([&] { read_whole(folder_.path(), ExitCode::data, 3); }, ExitCode::data, {"no regular file"});
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_refusal([&] { read_whole(folder_ / "pipe", ExitCode::data, 3); }, ExitCode::data, {"no regular file"});
  expect_refusal([&] { read_whole("/dev/zero", ExitCode::data, 3); }, ExitCode::data, {"no regular file"});
}

TEST_F(FileTest, AnErrorWithinAFileIsNotItsEnd) {
  write(folder_ / "lines", "one\ntwo\n");
  EXPECT_EQ(read_text(folder_ / "lines", ExitCode::data), "one\ntwo\none\ntwo\n");
  int reads = 0;
  file_operations().read = [&reads](int fd, void* to, std::size_t count) -> ssize_t {
    if (reads++ == 0) return ::read(fd, to, std::min<std::size_t>(count, 8));
    errno = EIO;
    return -1;
  };
  expect_refusal([&] { read_text(folder_ / "lines", ExitCode::data); }, ExitCode::data, {"lines", std::strerror(EIO)});
  expect_refusal([&] { read_text(folder_.path(), ExitCode::usage); }, ExitCode::usage, {"no regular file"});
}

TEST(LinesTest, AreTakenOneByOneTheLastWithoutAnEndToo) {
  const auto lines = [](std::string_view left) {
    std::vector<std::string> all;
    for (std::string_view line; take_line(left, line);) all.emplace_back(line);
    return all;
  };
  using Lines = std::vector<std::string>;
  EXPECT_EQ(lines(""), Lines{});
  EXPECT_EQ(lines("a\n\nb"), (Lines{"a", "", "b"}));
  EXPECT_EQ(lines("a\nb\n"), (Lines{"a", "b"}));
  EXPECT_EQ(lines("\n"), Lines{""});
}

}  // namespace
}  // namespace microtome
