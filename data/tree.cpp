#include "data/tree.h"

#include "data/checks.h"
#include "data/file.h"
#include "engine/check.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr int deepest = 16;

/// What file systems and desktops leave behind beside names with a dot in front, in lower case.
constexpr std::array<std::string_view, 8> left_behind{
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information", "lost+found"};

bool is_hidden(const std::string& name) {
  return name.starts_with('.') || std::ranges::find(left_behind, lower_case(name)) != left_behind.end();
}

void count(Tree::Some& some, const std::string& path) {
  if (some.count++ == 0 || path < some.first) some.first = path;
}

using Identity = std::pair<dev_t, ino_t>;

std::optional<Identity> identity(const fs::path& folder) {
  struct stat status;
  if (::stat(folder.c_str(), &status) < 0) return {};
  return Identity(status.st_dev, status.st_ino);
}

[[noreturn]] void refuse(const fs::path& folder, int error) {
  fail(ExitCode::data, "a folder cannot be listed",
       {.where = folder.string(),
        .found = std::system_category().message(error),
        .next = error == EACCES ? "let it be read (chmod), or take it out of the data set" : remedy(error)});
}

class Walk {
 public:
  /// `file` gets regular files and returns false to stop; `problems` as walk() says.
  Walk(const fs::path& root, Tree& tree, std::vector<Error>* problems, const std::function<bool(fs::path file)>& file)
      : root_(root), tree_(tree), problems_(problems), file_(file) {}

  void run() {
    std::error_code unknown;
    for (fs::path folder = fs::canonical(root_, unknown); folder.has_relative_path();) {
      folder = folder.parent_path();
      if (const auto id = identity(folder)) above_.insert(*id);
    }
    tell([&] { enter({}, 0); });
    // Links lead on to further links: by depth, and in the order of their names.
    while (!links_.empty() && !stopped_) {
      std::vector<Link> links = std::exchange(links_, {});
      std::ranges::sort(links, {}, &Link::path);
      for (const Link& link : links) {
        if (stopped_) break;
        tell([&] { follow(link); });
      }
    }
  }

 private:
  struct Link {
    fs::path path;  // below root_
    int depth;
  };

  void tell(const std::function<void()>& step) {
    if (problems_ == nullptr)
      step();
    else
      succeeds(*problems_, step);
  }

  /// A folder once.
  void enter(const fs::path& below, int depth) {
    const fs::path folder = below.empty() ? root_ : root_ / below;
    if (depth > deepest) {
      fail(ExitCode::data, "folders are nested too deeply",
           {.where = folder.string(), .expected = fmt::format("at most {} levels", deepest)});
    }
    const std::optional<Identity> id = identity(folder);
    if (!id) refuse(folder, errno);
    if (above_.contains(*id)) {
      tree_.repeated.push_back({below, ".."});
      return;
    }
    const auto [known, is_new] = entered_.emplace(*id, below.empty() ? "." : below);
    if (!is_new) {
      tree_.repeated.push_back({below, known->second});
      return;
    }
    std::error_code failure;
    std::vector<fs::path> folders;
    fs::directory_iterator entry(folder, failure);
    for (; !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
      const std::string name = entry->path().filename().string();
      fs::path path = below / name;
      std::error_code unknown;
      if (is_hidden(name)) {
        count(tree_.hidden, path.string());
      } else if (entry->is_symlink(unknown)) {
        links_.push_back({std::move(path), depth + 1});
      } else if (entry->is_directory(unknown)) {
        folders.push_back(std::move(path));
      } else if (!entry->is_regular_file(unknown)) {
        ++tree_.others;
      } else if (!file_(std::move(path))) {
        stopped_ = true;
        return;
      }
    }
    if (failure) refuse(folder, failure.value());
    std::ranges::sort(folders);
    for (const fs::path& each : folders) {
      if (stopped_) return;
      tell([&] { enter(each, depth + 1); });
    }
  }

  void follow(const Link& link) {
    const fs::path path = root_ / link.path;
    std::error_code failure;
    const fs::file_status status = fs::status(path, failure);
    if (failure == std::errc::permission_denied) refuse(path, failure.value());
    const std::string text = fmt::format("{} -> {}", link.path.string(), fs::read_symlink(path, failure).string());
    if (fs::is_directory(status)) {
      const std::size_t repeated = tree_.repeated.size();
      enter(link.path, link.depth);
      if (tree_.repeated.size() == repeated) count(tree_.followed, text);
    } else if (fs::is_regular_file(status)) {
      count(tree_.followed, text);
      stopped_ = !file_(link.path);
    } else if (fs::exists(status)) {
      ++tree_.others;
    } else {
      count(tree_.dangling, text);
    }
  }

  const fs::path& root_;
  Tree& tree_;
  std::vector<Error>* problems_;
  const std::function<bool(fs::path)>& file_;
  std::set<Identity> above_;  // folders that hold the root: links there lead round and round
  std::map<Identity, fs::path> entered_;
  std::vector<Link> links_;
  bool stopped_ = false;
};

}  // namespace

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code failure;
  if (!fs::is_directory(folder, failure)) return names;
  fs::directory_iterator entry(folder, failure);
  for (; !failure && entry != fs::directory_iterator(); entry.increment(failure))
    names.push_back(entry->path().filename().string());
  if (failure) refuse(folder, failure.value());
  return names;
}

Tree walk(const fs::path& folder, std::vector<Error>* problems) {
  Tree tree;
  Walk(folder, tree, problems, [&](fs::path file) {
    tree.files.push_back(std::move(file));
    return true;
  }).run();
  std::ranges::sort(tree.files);
  return tree;
}

void add_notes(const Tree& tree, std::vector<std::string>& notes) {
  const auto add = [&](const Tree::Some& some, std::string_view one, std::string_view many, std::string_view what) {
    add_note(notes, some.count, one, many, fmt::format("{} ({}{})", what, some.first, some.count > 1 ? ", …" : ""));
  };
  add(tree.hidden, "hidden file or folder", "hidden files or folders", "left out");
  add(tree.followed, "symbolic link", "symbolic links", "followed");
  add(tree.dangling, "symbolic link", "symbolic links", "left out, leading nowhere");
  if (tree.repeated.empty()) return;
  const auto& [link, listed_as] = tree.repeated.front();
  const Tree::Some repeated{static_cast<std::int64_t>(tree.repeated.size()),
                            fmt::format("{} is {}", link.string(), listed_as.string())};
  add(repeated, "symbolic link", "symbolic links", "left out, to folders that are read already or hold this one");
}

bool any_file(const fs::path& folder, const std::function<bool(const fs::path& file)>& wanted) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return false;
  Tree unused;
  std::vector<Error> problems;
  bool found = false;
  Walk(folder, unused, &problems, [&](const fs::path& file) { return !(found = wanted(file)); }).run();
  if (!found && !problems.empty()) throw problems.front();
  return found;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

bool is_png_name(const fs::path& path) {
  return lower_case(path.extension().string()) == ".png";
}

}  // namespace microtome
