// Image files into memory, on canvases of one size. For the sources of this folder only.
#pragma once

#include "data/format.h"
#include "data/png.h"

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace microtome {

constexpr Extent largest_image = 4096;  // where nothing else says how large an image may be

/// What was done to images, for notes.
struct Oddities {
  std::atomic<std::int64_t> padded = 0, converted = 0;

  void count(const PngImage& png, Extent canvas);
};

/// Readers of PNG files for all threads that load.
class PngReaders {
 public:
  /// For so many images. To be made before memory is filled: see Worker.
  PngReaders(std::int64_t images, const LoadOptions& options);

  /// As PngReader::read, on many threads, for `paths` below `folder`; the first that is refused is thrown where there is no
  /// `refused`. `doing` is for the progress.
  void read(const std::filesystem::path& folder, const std::vector<std::string>& paths, Extent most, const std::string& doing,
            const PngReader::Taken& taken, const PngReader::Refused& refused = {});

 private:
  const LoadOptions& options_;
  int threads_;
  std::vector<PngReader> readers_;
  std::vector<PngReader*> idle_;
  std::mutex mutex_;  // of idle_
};

/// Decodes the PNG files `paths` below `folder` onto white canvases of one size, above and left; one smaller than `smallest`
/// is refused. Ids are the paths; labels are the caller's. `doing` is for the progress.
Images decode(PngReaders& readers, const std::filesystem::path& folder, const std::vector<std::string>& paths, Extent canvas,
              Extent smallest, const std::string& doing, Oddities& oddities);

void add_notes(const Oddities& oddities, Extent canvas, std::vector<std::string>& notes);

/// A PNG file, or all PNG files below a folder; see load_images().
Images load_png_images(const std::filesystem::path& path, const LoadOptions& options, std::vector<std::string>& notes);

}  // namespace microtome
