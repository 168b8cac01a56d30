#include "data/loader.h"

#include "data/checks.h"
#include "data/decode.h"
#include "data/pcam.h"
#include "data/tree.h"
#include "engine/check.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
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

bool is_image_ending(const std::string& ending) {
  constexpr std::array<std::string_view, 8> endings{".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".svs", ".webp"};
  return std::ranges::find(endings, ending) != endings.end();
}

/// For a message: the files below the folder by their endings, where images are the folders that hold them, and what was not
/// looked at.
std::string contents(const fs::path& folder) {
  struct Kind {
    std::string ending;
    std::int64_t count = 0;
    fs::path first;
    std::set<std::string> folders;
  };
  const Tree tree = walk(folder);
  std::map<std::string, Kind> by_ending;
  for (const fs::path& file : tree.files) {
    const std::string ending = lower_case(file.extension().string());
    Kind& kind = by_ending.try_emplace(ending, Kind{.ending = ending, .first = file}).first->second;
    ++kind.count;
    kind.folders.insert(file.has_parent_path() ? file.parent_path().string() : ".");
  }
  std::vector<Kind> kinds;
  for (auto& [ending, kind] : by_ending) kinds.push_back(std::move(kind));
  std::ranges::stable_sort(kinds, std::greater(), &Kind::count);
  constexpr std::size_t shown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(shown, kinds.size()); ++i) {
    const Kind& kind = kinds[i];
    if (i > 0) text += ", ";
    if (kind.count == 1) {
      text += kind.first.string();
      continue;
    }
    text += fmt::format("{} {}", kind.count, kind.ending.empty() ? "files without an ending" : kind.ending + " files");
    text += is_image_ending(kind.ending) ? " in " + listed({kind.folders.begin(), kind.folders.end()})
                                         : fmt::format(" ({}, …)", kind.first.string());
  }
  if (kinds.size() > shown) text += fmt::format(" and files of {} more kinds", kinds.size() - shown);
  if (kinds.empty()) {
    std::error_code failure;
    text = fs::is_empty(folder, failure) ? "an empty folder" : "no file that was looked at";
  }
  std::vector<std::string> notes;
  add_notes(tree, notes);
  for (const std::string& note : notes) text += "; " + note;
  return text;
}

/// What helps where images are of a kind that is not read.
std::string next_step(const std::string& found) {
  for (const std::string_view ending : {".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}) {
    if (found.find(fmt::format("{} files in", ending)) != found.npos)
      return fmt::format("images are read from PNG files: convert these, say with ImageMagick's mogrify -format png *{}",
                         ending);
  }
  if (found.find(".png files in") != found.npos)
    return "name the folder of the data set; or call its folders as above, the classes' 0 and 1 among them: links will do";
  return "name the folder that holds the files themselves";
}

/// A data set of another format beside the one that is read.
void note_others_within(const fs::path& path, const Format& read, std::vector<std::string>& notes) {
  std::error_code failure;
  for (fs::directory_iterator entry(path, failure), end; !failure && entry != end; entry.increment(failure)) {
    if (!entry->is_directory(failure)) continue;
    for (const Format* other : formats()) {
      if (other == &read) continue;
      bool is_one = false;
      std::vector<Error> unreadable;  // what is not read may be so
      succeeds(unreadable, [&] { is_one = other->recognise(entry->path()); });
      if (is_one)
        notes.push_back(fmt::format("read in {}'s format; {} holds a data set in {}'s, which is not read: --data {}", read.name,
                                    entry->path().filename().string(), other->name, entry->path().string()));
    }
  }
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
  const std::string found = contents(path);
  fail(ExitCode::data, "a folder holds no data set that is known here",
       {.where = path.string(), .expected = layouts(), .found = found, .next = next_step(found)});
}

Dataset load(const fs::path& path, const LoadOptions& options) {
  const Format& format = recognise(path);
  Dataset data = format.load(path, options);
  data.name = format.name;
  note_others_within(path, format, data.notes);
  return data;
}

Verified verify(const fs::path& path, const LoadOptions& options) {
  const Format& format = recognise(path);
  Verified verified;
  verified.data = format.verify(path, options, verified.problems);
  verified.data.name = format.name;
  note_others_within(path, format, verified.data.notes);
  return verified;
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
