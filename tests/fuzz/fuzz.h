// What the fuzz targets of this folder share. A target is a file: LLVMFuzzerTestOneInput reads what it is given through the
// product's own entry point, and seeds() gives sound inputs to begin with, made by the product's own writers. Whatever a reader
// does but return or throw Error is a finding, and so is Error(ExitCode::bug).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// libFuzzer's name for it, and replay.cpp's.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace microtome::fuzz {

using Input = std::span<const std::uint8_t>;

std::vector<std::string> seeds();

inline std::string_view text_of(Input input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

/// A file that never touches a disk. It has a path for as long as it lives.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& hold(Input input);
  const std::filesystem::path& hold(std::string_view text);

 private:
  int fd_;
  std::filesystem::path path_;
};

/// In memory, gone with the process.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  /// `name` is then what `file` holds.
  void link(std::string_view name, const MemoryFile& file) const;

 private:
  std::filesystem::path path_;
};

/// What a file holds once `write` has written it.
std::string written_by(const std::function<void(const std::filesystem::path&)>& write, std::string_view name = "file");

/// Ends the process, as a finding, unless `call` returns or throws an Error that is not a bug of ours. True where it returned.
bool may_refuse(const std::function<void()>& call);

/// Ends the process, as a finding.
void expect(bool holds, const char* what);

}  // namespace microtome::fuzz
