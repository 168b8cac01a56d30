// IDC [Janowczyk2016]: PATIENT/{0,1}/PATIENT_idx5_xX_yY_classC.png, RGB, 50 x 50, smaller at a slide's edge. The archive on
// Kaggle holds the tree twice: a second file of the same patient, class and name is left out. Symbolic links, devices and
// pipes below the folder are not opened. Palette, grey, alpha (over white) and 16 bits become 8-bit RGB and are counted.
#pragma once

#include "data/loader.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace microtome {

struct IdcPatch {
  std::string path;  // below the folder
  std::string patient;
  std::uint8_t label = 0;
  std::size_t split = 0;  // 0 train, 1 valid, 2 test
};

/// Every patch below the folder, in the order of paths, and the split that load_idc() puts it into; no file is opened. Notes
/// and errors as there, but for splits that lack a class.
std::vector<IdcPatch> find_idc_patches(const std::filesystem::path& folder, const LoadOptions& options,
                                       std::vector<std::string>& notes);

/// Errors as load(). Ids are paths relative to the folder. What was padded, converted or left out is in Dataset::notes.
Dataset load_idc(const std::filesystem::path& folder, const LoadOptions& options);

Extent idc_image_size(const LoadOptions& options);

/// A PNG file, or all PNG files below a folder; see load_images().
Images load_png_images(const std::filesystem::path& path, const LoadOptions& options);

}  // namespace microtome
