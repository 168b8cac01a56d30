// Labelled images from whatever data set lies in a folder, and images to score.
#pragma once

#include "data/format.h"

#include <filesystem>
#include <string>
#include <vector>

namespace microtome {

/// What lies at `path`, told by the first sign of it. Throws Error(ExitCode::data) where no format is, saying what was looked
/// for and found.
const Format& recognise(const std::filesystem::path& path);

/// Throws Error(ExitCode::data) for files that are missing, damaged or of another form, labels other than 0 and 1, and a
/// split without one of the classes; Error(ExitCode::memory) where the images do not fit into memory.
Dataset load(const std::filesystem::path& path, const LoadOptions& options = {});

struct Verified {
  Dataset data;                 // as load() gives it, but for the pixels
  std::vector<Error> problems;  // all that load() might refuse; none: the data set is sound
};

/// Reads every image without keeping any. Throws as load() where nothing can be said of single files.
Verified verify(const std::filesystem::path& path, const LoadOptions& options = {});

/// How many images load() would put into train, valid and test, told without decoding one.
std::array<std::int64_t, split_count> count_images(const std::filesystem::path& path, const LoadOptions& options = {});

/// The size of the images that load() would give, told by a header.
Extent image_size(const std::filesystem::path& path, const LoadOptions& options = {});

/// Images to score: an HDF5 file with the dataset "x", a PNG file, or a folder of PNG files (searched in depth, in the order
/// of their paths). No labels; ids are paths relative to the folder, a PNG's own path, or empty for HDF5.
/// Of options, `image`, `threads` and `progress` count; without `image` every PNG must be of the first one's size. What was
/// left out, padded or converted is added to `notes`.
Images load_images(const std::filesystem::path& path, const LoadOptions& options, std::vector<std::string>& notes);

}  // namespace microtome
