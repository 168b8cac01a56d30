// Labelled images from a folder: PCam's six HDF5 files or IDC's tree of PNG files, whichever is there.
#pragma once

#include "engine/dataset.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>

namespace microtome {

/// Called on the thread that loads: what is being done ("reading train"), images done, images in all.
using Progress = std::function<void(std::string_view what, std::int64_t done, std::int64_t of)>;

/// IDC names no splits. `patient` keeps each patient's patches together; `patch` deals single patches, so that neighbours
/// from one slide land on both sides: what [Bonnet2021] most likely did.
enum class SplitBy { patient, patch };

struct LoadOptions {
  bool train = true, valid = true, test = true;  // a split left out is neither read nor required to be there
  SplitBy split_by = SplitBy::patient;           // IDC only
  std::uint64_t seed = 0;                        // of IDC's split
  double valid_share = 0.1, test_share = 0.1;    // of IDC's patches, about
  std::optional<Extent> image;                   // PNG patches are padded with white to it; else IDC's 50 x 50
  int threads = 0;                               // for decoding; 0: one a core
  Progress progress = {};
};

enum class DataFormat { pcam, idc };

/// What lies in `folder`. Throws Error(ExitCode::data) where it is neither, saying what was looked for and found.
DataFormat recognise(const std::filesystem::path& folder);

/// Throws Error(ExitCode::data) for files that are missing, damaged or of another form, labels other than 0 and 1, and a
/// split without one of the classes; Error(ExitCode::memory) where the images do not fit into memory.
Dataset load(const std::filesystem::path& folder, const LoadOptions& options = {});

/// The size of the images that load() would give, told by a header.
Extent image_size(const std::filesystem::path& folder, const LoadOptions& options = {});

/// Images to score: an HDF5 file with the dataset "x", a PNG file, or a folder of PNG files (searched in depth, in the order
/// of their paths). No labels; ids are paths relative to the folder, a PNG's own path, or empty for HDF5.
/// Of options, `image`, `threads` and `progress` count; without `image` every PNG must be of the first one's size.
Images load_images(const std::filesystem::path& path, const LoadOptions& options = {});

}  // namespace microtome
