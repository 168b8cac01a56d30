// PNG files through libpng. For the sources of this folder only.
#pragma once

#include "engine/shape.h"

#include <cstdint>
#include <filesystem>
#include <vector>

namespace microtome {

struct PngImage {
  Extent size = 0;
  std::vector<std::uint8_t> pixels;  // H W 3
  bool converted = false;            // it was not 8-bit RGB
};

/// Throws Error(ExitCode::data) for a file that is missing, no PNG, damaged, cut short, or larger than `most` (known from its
/// first bytes, before anything is unpacked).
PngImage read_png(const std::filesystem::path& file, Extent most);

/// 8-bit RGB; `pixels` is H W 3. Throws Error(ExitCode::memory) where the disk is full or refuses.
void write_png(const std::filesystem::path& file, Extent size, const std::uint8_t* pixels);

}  // namespace microtome
