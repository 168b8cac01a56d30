// Files that appear whole or not at all, files read whole, and the system calls beneath, which a test can make fail.
#pragma once

#include "engine/check.h"

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// As the system calls of these names: -1 and errno on failure.
struct FileOperations {
  std::function<int(const char* path, int flags, mode_t mode)> open;
  std::function<ssize_t(int fd, const void* bytes, std::size_t count)> write;
  std::function<int(int fd)> fsync;
  std::function<int(int fd)> close;
  std::function<int(const char* from, const char* to)> rename;
  std::function<int(const char* path)> unlink;
  std::function<ssize_t(int fd, void* bytes, std::size_t count)> read;
  std::function<int(int fd, int operation)> flock;
};

/// What the functions below and FileLock use; a test replaces single calls and puts them back.
FileOperations& file_operations();

using Bytes = std::span<const std::byte>;

/// Writes the parts under a temporary name beside `file`, syncs, renames over `file`, syncs the folder. On failure the
/// temporary file is removed and Error(ExitCode::memory) says that `what` ("the checkpoint") could not be written; an older
/// `file` is as it was, or, where the folder's sync alone failed, wholly replaced. A link stays one, and what it leads to is
/// replaced; a pipe or a device, which nothing can replace, is written to.
void write_whole(const std::filesystem::path& file, std::span<const Bytes> parts, std::string_view what);

/// The same, for what shall not lie in memory all at once: `produce` hands on part after part.
using Put = std::function<void(Bytes)>;
void write_whole(const std::filesystem::path& file, const std::function<void(const Put&)>& produce, std::string_view what);

/// A file that a program reads, and the option that names it: "--weights".
struct InputFile {
  std::string_view option;
  std::filesystem::path path;  // of a file or a folder; empty: none
};

/// Throws Error(ExitCode::usage) where writing `output`, which `option` names, would destroy one of the inputs: it is the same
/// file, or is in one of the folders.
void require_apart(std::string_view option, const std::filesystem::path& output, std::span<const InputFile> inputs);

/// Where write_whole works: hidden, beside `file`, the same name every time, so that a killed writer leaves at most one.
std::filesystem::path temporary_name(const std::filesystem::path& file);

/// What a file is by its first bytes, for messages: "an HTML page", "an empty file", "a JPEG image"; empty where they tell
/// nothing. Touches no stream.
std::string kind_of_file(const std::filesystem::path& file);

/// A regular file's bytes. Throws Error(code) where it is missing, no regular file, unreadable or longer than `limit`.
std::vector<std::byte> read_whole(const std::filesystem::path& file, ExitCode code, std::size_t limit);

/// Its first bytes, as many of `count` as there are. Throws Error(code) where it cannot be read.
std::string first_bytes(const std::filesystem::path& file, std::size_t count, ExitCode code);

/// The same as text. A stream of the C++ library would end at an error as if the file did.
std::string read_text(const std::filesystem::path& file, ExitCode code);

/// Nothing where there is no such file; one that is there and cannot be read is no reason to take it for missing.
std::optional<std::string> read_text_if_there(const std::filesystem::path& file, ExitCode code);

/// What helps against a system call's errno; `otherwise` where it tells nothing.
std::string remedy(int error, std::string otherwise = {});

/// ExitCode::memory where it is the machine that lacks something: room, memory, descriptors, a sound disk.
ExitCode code_of(int error, ExitCode otherwise);

/// Takes the next line, without its end, from what is left of a text; false where nothing is.
bool take_line(std::string_view& left, std::string_view& line);

}  // namespace microtome
