// PNG files through libpng, which runs in a child process: what it makes of a crafted file is not trusted. For the sources of
// this folder only.
#pragma once

#include "data/sandbox.h"
#include "engine/shape.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>

namespace microtome {

struct PngImage {
  Extent size = 0;
  std::span<const std::uint8_t> pixels;  // H W 3
  bool converted = false;                // it was not 8-bit RGB
};

class PngReader {
 public:
  /// Starts the child; see Worker of when that is best.
  PngReader();

  /// `taken` is called for one file after another; its pixels are there until it returns. For a file that is missing, no PNG,
  /// damaged, cut short, larger than `most` (known from its first bytes, before anything is unpacked), or that crashes libpng,
  /// `refused` is called with Error(ExitCode::data); where there is no `refused`, that is thrown.
  using Taken = std::function<void(std::size_t index, const PngImage& image)>;
  using Refused = std::function<void(std::size_t index, const Error& error)>;
  void read(std::span<const std::filesystem::path> files, Extent most, const Taken& taken, const Refused& refused = {});

  static constexpr std::size_t most_at_once = 64;  // files that the child is given together

 private:
  std::optional<Worker> worker_;  // none after a crash
};

/// 8-bit RGB; `pixels` is H W 3. Throws Error(ExitCode::memory) where the disk is full or refuses.
void write_png(const std::filesystem::path& file, Extent size, const std::uint8_t* pixels);

}  // namespace microtome
