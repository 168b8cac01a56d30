#include "data/loader.h"

#include "data/decode.h"
#include "data/pcam.h"
#include "data/tree.h"
#include "engine/check.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace microtome {

namespace fs = std::filesystem;

namespace {

/// The first few of sorted names.
std::string listed(std::vector<std::string> names) {
  constexpr std::size_t shown = 6;
  std::ranges::sort(names);
  std::string text;
  for (std::size_t i = 0; i < std::min(shown, names.size()); ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", names[i]);
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

/// For a message: the folder's first few names, where images lie below it, and what was not looked at.
std::string contents(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code failure;
  fs::directory_iterator entry(folder, failure);
  for (; !failure && entry != fs::directory_iterator(); entry.increment(failure))
    names.push_back(entry->path().filename().string());
  if (failure) return failure.message();
  if (names.empty()) return "an empty folder";
  std::string text = listed(names);
  const Tree tree = walk(folder);
  std::set<std::string> with_images;
  for (const fs::path& file : tree.files) {
    if (is_png_name(file)) with_images.insert(file.has_parent_path() ? file.parent_path().string() : ".");
  }
  if (!with_images.empty()) text += "; PNG files in " + listed({with_images.begin(), with_images.end()});
  std::vector<std::string> notes;
  add_notes(tree, notes);
  for (const std::string& note : notes) text += "; " + note;
  return text;
}

}  // namespace

const Format& recognise(const fs::path& path) {
  std::error_code failure;
  const fs::file_status status = fs::status(path, failure);
  if (!fs::exists(status)) {
    const bool missing = status.type() == fs::file_type::not_found;
    fail(
        ExitCode::data, missing ? "the data folder is missing" : "the data folder cannot be reached",
        {.where = path.string(), .found = missing ? "" : failure.message(), .next = "name the folder that holds the data set"});
  }
  if (fs::exists(path / unfinished_name, failure)) {
    fail(ExitCode::data, "the data set is not finished: what wrote it was stopped, or is still at it",
         {.where = path.string(), .next = "where it was stopped, delete the folder and make the data set again"});
  }
  for (const Format* format : formats()) {
    if (format->recognise(path)) return *format;
  }
  if (!fs::is_directory(status))
    fail(ExitCode::data, "the data set is no folder", {.where = path.string(), .next = "name the folder that holds it"});
  fail(ExitCode::data, "a folder holds no data set that is known here",
       {.where = path.string(),
        .expected = layouts(),
        .found = contents(path),
        .next = "name the folder that holds the files themselves"});
}

Dataset load(const fs::path& path, const LoadOptions& options) {
  const Format& format = recognise(path);
  Dataset data = format.load(path, options);
  data.name = format.name;
  return data;
}

std::array<std::int64_t, split_count> count_images(const fs::path& path, const LoadOptions& options) {
  return recognise(path).count(path, options);
}

Extent image_size(const fs::path& path, const LoadOptions& options) {
  return recognise(path).image_size(path, options);
}

Images load_images(const fs::path& path, const LoadOptions& options, std::vector<std::string>& notes) {
  std::error_code failure;
  const fs::file_status status = fs::status(path, failure);
  if (!fs::exists(status)) {
    const bool missing = status.type() == fs::file_type::not_found;
    fail(ExitCode::data, "there are no images",
         {.where = path.string(), .found = missing ? "no such file or folder" : failure.message()});
  }
  if (fs::is_directory(status) || is_png_name(path)) return load_png_images(path, options, notes);
  const std::string ending = path.extension().string();
  if (ending == ".h5" || ending == ".hdf5") return load_hdf5_images(path, options);
  fail(ExitCode::data, "images of this kind are not read",
       {.where = path.string(),
        .expected = "a PNG file, a folder of PNG files, or an HDF5 file (.h5, .hdf5) with a dataset \"x\""});
}

}  // namespace microtome
