// The files below a folder, as if every symbolic link were what it leads to. For the sources of this folder only.
#pragma once

#include "engine/check.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

struct Tree {
  struct Some {
    std::int64_t count = 0;
    std::string first;  // by name, relative to the folder; "c -> a/b" for a link
  };
  /// A link to a folder that is listed under another name already, or to one above them all.
  struct Repeated {
    std::filesystem::path link, listed_as;  // relative to the folder; listed_as is ".." for one above
  };

  std::vector<std::filesystem::path> files;  // regular ones, relative to the folder, sorted
  Some followed;                             // links
  Some dangling;                             // links to nothing, or in circles
  Some hidden;                               // names with a dot in front, and those that systems leave: __MACOSX, Thumbs.db
  std::vector<Repeated> repeated;
  std::int64_t others = 0;  // devices, pipes, sockets
};

/// Folders before links, so that what is listed under a link is listed nowhere else; each folder once. Hidden ones are not
/// looked into. Throws Error(ExitCode::data) where a folder cannot be listed, or folders are nested deeper than any data set's;
/// or adds that to `problems`, where there are any to be added to, and leaves the folder out.
Tree walk(const std::filesystem::path& folder, std::vector<Error>* problems = nullptr);

/// Of files and folders right in it, hidden ones too, in no order; none for what is no folder. Throws as walk().
std::vector<std::string> names_in(const std::filesystem::path& folder);

/// What walk() left out or followed, a line a kind.
void add_notes(const Tree& tree, std::vector<std::string>& notes);

/// Whether `wanted` holds for one of the files that walk() would list; looks no further than the first. False for
/// what is no folder. Throws as walk() where there is none in what can be listed.
bool any_file(const std::filesystem::path& folder, const std::function<bool(const std::filesystem::path& file)>& wanted);

/// ASCII letters alone.
std::string lower_case(std::string_view text);

/// Whether the name ends in ".png", in either case.
bool is_png_name(const std::filesystem::path& path);

}  // namespace microtome
