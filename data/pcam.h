// PatchCamelyon [Veeling2018]: camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5, each with one dataset.
//   x: uint8 (N, H, W, 3)   y: any integer type, (N, 1, 1, 1), (N, 1) or (N); 1 where the centre 32 x 32 holds tumour
// Contiguous or chunked, deflated, shuffled. Official patches are 96 x 96; every size is read.
#pragma once

#include "data/loader.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace microtome {

/// "camelyonpatch_level_2_split_train_x.h5" for ("train", 'x').
std::string pcam_file_name(std::string_view split, char what);

/// The three splits of a folder that recognise() calls PCam's; errors as load().
Dataset load_pcam(const std::filesystem::path& folder, const LoadOptions& options);

/// The images of dataset "x" of one HDF5 file, without labels.
Images load_hdf5_images(const std::filesystem::path& file, const LoadOptions& options);

/// Writes one split as the two files, contiguous, y as uint8 (N, 1, 1, 1). Throws Error(ExitCode::memory) where the disk is
/// full or refuses.
void write_pcam_split(const std::filesystem::path& folder, std::string_view split, const Images& images);

}  // namespace microtome
