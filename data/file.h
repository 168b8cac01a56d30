// Files that appear whole or not at all, and the system calls they are made of, which a test can make fail.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

namespace microtome {

/// As the system calls of these names: -1 and errno on failure.
struct FileOperations {
  std::function<int(const char* path, int flags, mode_t mode)> open;
  std::function<ssize_t(int fd, const void* bytes, std::size_t count)> write;
  std::function<int(int fd)> fsync;
  std::function<int(int fd)> close;
  std::function<int(const char* from, const char* to)> rename;
  std::function<int(const char* path)> unlink;
};

/// What write_whole uses; a test replaces single calls and puts them back.
FileOperations& file_operations();

using Bytes = std::span<const std::byte>;

template <class T>
Bytes bytes_of(std::span<const T> values) {
  return std::as_bytes(values);
}

/// Writes the parts under a temporary name beside `file`, syncs, renames over `file`, syncs the folder. On failure the
/// temporary file is removed, an older `file` is as it was, and Error(ExitCode::memory) says why: `what` ("checkpoint")
/// could not be written.
void write_whole(const std::filesystem::path& file, std::span<const Bytes> parts, std::string_view what);

/// The name under which write_whole works: hidden, beside `file`, the same for every attempt, so that none is left over.
std::filesystem::path temporary_name(const std::filesystem::path& file);

}  // namespace microtome
