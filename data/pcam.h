// PatchCamelyon [Veeling2018]: camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5, each with one dataset.
//   x: uint8 (N, H, W, 3)   y: any integer type, (N, 1, 1, 1), (N, 1) or (N); 1 where the centre 32 x 32 holds tumour
// camelyonpatch_level_2_split_*_meta.csv, where it lies there: its column `wsi` is the slide that each patch was cut from.
// Contiguous or chunked, deflated, shuffled. Official patches are 96 x 96; every size is read.
#pragma once

#include "data/format.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// "camelyonpatch_level_2_split_train_x.h5" for ("train", 'x').
std::string pcam_file_name(std::string_view split, char what);

std::string pcam_meta_name(std::string_view split);

/// The labels of a file's dataset "y", 0 or 1; `split` is for messages. Throws Error(ExitCode::data).
std::vector<std::uint8_t> read_labels(const std::filesystem::path& file, std::string_view split);

/// The slide of each patch, a line a label, from a file whose first line names its columns. `notes` get what says that its
/// lines stand in another order than the labels. Throws Error(ExitCode::data).
std::vector<std::string> read_slides(const std::filesystem::path& meta, std::span<const std::uint8_t> labels,
                                     std::vector<std::string>& notes);

/// The file that PCam's authors offer with this MD5 digest; empty: none.
std::string published_pcam_name(std::string_view md5);

/// The images of dataset "x" of one HDF5 file, without labels.
Images load_hdf5_images(const std::filesystem::path& file, const LoadOptions& options);

/// Writes one split as its two files, contiguous, y as uint8 (N, 1, 1, 1), piece by piece: no more in memory than a piece.
/// Both appear under their names in finish() and not before. Throws Error(ExitCode::memory) where the disk is full or refuses.
class PcamWriter {
 public:
  /// `shape`: N H W 3 of the whole split.
  PcamWriter(const std::filesystem::path& folder, std::string_view split, const Shape& shape);
  ~PcamWriter();

  /// The next `labels.size()` images.
  void append(std::span<const std::uint8_t> pixels, std::span<const std::uint8_t> labels);
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace microtome
