// The files below a folder. For the sources of this folder only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

namespace microtome {

struct Tree {
  std::vector<std::filesystem::path> files;  // regular ones, relative to the folder, sorted
  std::int64_t links = 0;                    // symbolic: counted, never followed, so nothing outside the folder is opened
  std::int64_t others = 0;                   // devices, pipes, sockets
};

/// Throws Error(ExitCode::data) where a folder cannot be listed, or folders are nested deeper than any data set's.
Tree walk(const std::filesystem::path& folder);

/// Whether `wanted` holds for one of the files that walk() would list; looks no further than the first. False for
/// what is no folder.
bool any_file(const std::filesystem::path& folder, const std::function<bool(const std::filesystem::path& file)>& wanted);

/// Whether the name ends in ".png", in either case.
bool is_png_name(const std::filesystem::path& path);

}  // namespace microtome
