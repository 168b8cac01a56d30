#include "data/tree.h"

#include "engine/check.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <system_error>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr int deepest = 16;

/// Until `file` returns false.
void visit(const fs::path& folder, Tree& tree, const std::function<bool(fs::path file)>& file) {
  try {
    for (fs::recursive_directory_iterator it(folder), end; it != end; ++it) {
      const fs::file_status status = it->symlink_status();
      if (it.depth() > deepest) {
        fail(ExitCode::data, "folders are nested too deeply",
             {.where = it->path().string(), .expected = fmt::format("at most {} levels", deepest)});
      }
      if (fs::is_regular_file(status)) {
        if (!file(it->path().lexically_relative(folder))) return;
      } else if (fs::is_symlink(status)) {
        ++tree.links;
      } else if (!fs::is_directory(status)) {
        ++tree.others;
      }
    }
  } catch (const fs::filesystem_error& error) {
    fail(ExitCode::data, "a folder cannot be listed", {.where = error.path1().string(), .found = error.code().message()});
  }
}

}  // namespace

Tree walk(const fs::path& folder) {
  Tree tree;
  visit(folder, tree, [&](fs::path file) {
    tree.files.push_back(std::move(file));
    return true;
  });
  std::ranges::sort(tree.files);
  return tree;
}

bool any_file(const fs::path& folder, const std::function<bool(const fs::path& file)>& wanted) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return false;
  Tree unused;
  bool found = false;
  visit(folder, unused, [&](const fs::path& file) { return !(found = wanted(file)); });
  return found;
}

bool is_png_name(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending == ".png";
}

}  // namespace microtome
