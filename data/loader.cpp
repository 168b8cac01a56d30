#include "data/loader.h"

#include "data/idc.h"
#include "data/pcam.h"
#include "data/tree.h"
#include "engine/check.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view pcam_prefix = "camelyonpatch_level_2_split_";

/// A folder's first few names, for messages.
std::string listing(const fs::path& folder) {
  constexpr std::size_t shown = 6;
  std::vector<std::string> names;
  std::error_code failure;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, failure))
    names.push_back(entry.path().filename().string());
  if (failure) return failure.message();
  if (names.empty()) return "an empty folder";
  std::ranges::sort(names);
  std::string text;
  for (std::size_t i = 0; i < std::min(shown, names.size()); ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", names[i]);
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

bool holds_pcam(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().starts_with(pcam_prefix)) return true;
  }
  return false;
}

bool holds_idc(const fs::path& folder) {
  const Tree tree = walk(folder);
  return std::ranges::any_of(tree.files, [](const fs::path& path) {
    const fs::path label = path.parent_path().filename();
    return is_png_name(path) && (label == "0" || label == "1") && path.parent_path().has_parent_path();
  });
}

}  // namespace

DataFormat recognise(const fs::path& folder) {
  std::error_code failure;
  const fs::file_status status = fs::status(folder, failure);
  if (!fs::exists(status))
    fail(ExitCode::data, "the data folder is missing",
         {.where = folder.string(), .next = "name the folder that holds the data set"});
  if (!fs::is_directory(status))
    fail(ExitCode::data, "the data set is no folder", {.where = folder.string(), .next = "name the folder that holds it"});
  if (holds_pcam(folder)) return DataFormat::pcam;
  if (holds_idc(folder)) return DataFormat::idc;
  fail(ExitCode::data, "a folder holds no data set that is known here",
       {.where = folder.string(),
        .expected = fmt::format("PCam's six files ({}, …) or IDC's tree (PATIENT/0/*.png, PATIENT/1/*.png)",
                                pcam_file_name("train", 'x')),
        .found = listing(folder),
        .next = "name the folder that holds the files themselves"});
}

Dataset load(const fs::path& folder, const LoadOptions& options) {
  return recognise(folder) == DataFormat::pcam ? load_pcam(folder, options) : load_idc(folder, options);
}

Extent image_size(const fs::path& folder, const LoadOptions& options) {
  return recognise(folder) == DataFormat::pcam ? pcam_image_size(folder) : idc_image_size(options);
}

Images load_images(const fs::path& path, const LoadOptions& options) {
  if (!fs::exists(path))
    fail(ExitCode::data, "there are no images", {.where = path.string(), .found = "no such file or folder"});
  if (fs::is_directory(path) || is_png_name(path)) return load_png_images(path, options);
  const std::string ending = path.extension().string();
  if (ending == ".h5" || ending == ".hdf5") return load_hdf5_images(path, options);
  fail(ExitCode::data, "images of this kind are not read",
       {.where = path.string(),
        .expected = "a PNG file, a folder of PNG files, or an HDF5 file (.h5, .hdf5) with a dataset \"x\""});
}

}  // namespace microtome
