#include "data/decode.h"

#include "data/checks.h"
#include "data/parallel.h"
#include "data/tree.h"
#include "engine/check.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace microtome {

namespace fs = std::filesystem;

void Oddities::count(const PngImage& png, Extent canvas) {
  if (png.size != canvas) ++padded;
  if (png.converted) ++converted;
}

PngReaders::PngReaders(std::int64_t images, const LoadOptions& options)
    : options_(options), threads_(thread_count(options.threads)) {
  for (std::int64_t i = std::clamp<std::int64_t>(images, 1, threads_); i > 0; --i) readers_.emplace_back();
  for (PngReader& reader : readers_) idle_.push_back(&reader);
}

void PngReaders::read(const fs::path& folder, const std::vector<std::string>& paths, Extent most, const std::string& doing,
                      const PngReader::Taken& taken, const PngReader::Refused& refused) {
  // Few enough that every thread has some at the end, too.
  constexpr std::int64_t shares = 8;
  const auto count = std::ssize(paths);
  const std::int64_t step = std::clamp<std::int64_t>(count / (threads_ * shares), 1, PngReader::most_at_once);
  const auto put_back = [this](PngReader* reader) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(reader);
  };
  const auto take_reader = [&] {
    const std::lock_guard lock(mutex_);
    PngReader* const reader = idle_.back();
    idle_.pop_back();
    return std::unique_ptr<PngReader, decltype(put_back)>(reader, put_back);
  };
  const auto read_some = [&](std::int64_t part) {
    const auto begin = static_cast<std::size_t>(part * step),
               end = static_cast<std::size_t>(std::min(count, (part + 1) * step));
    std::vector<fs::path> files;
    for (std::size_t i = begin; i < end; ++i) files.push_back(folder / paths[i]);
    take_reader()->read(
        files, most, [&](std::size_t i, const PngImage& image) { taken(begin + i, image); },
        refused ? [&](std::size_t i, const Error& error) { refused(begin + i, error); } : PngReader::Refused());
  };
  for_each_index((count + step - 1) / step, static_cast<int>(std::ssize(readers_)), read_some, [&](std::int64_t parts) {
    if (options_.progress) options_.progress(doing, std::min(count, parts * step), count);
  });
}

Images decode(PngReaders& readers, const fs::path& folder, const std::vector<std::string>& paths, Extent canvas,
              Extent smallest, const std::string& doing, Oddities& oddities) {
  Images images;
  images.shape = {static_cast<int>(paths.size()), canvas.h, canvas.w, 3};
  require_memory(images.shape.count(), folder.string());
  constexpr std::uint8_t white = 255;
  images.pixels.assign(static_cast<std::size_t>(images.shape.count()), white);
  images.ids = paths;
  const std::size_t row = static_cast<std::size_t>(canvas.w) * 3, image = row * static_cast<std::size_t>(canvas.h);
  readers.read(folder, paths, canvas, doing, [&](std::size_t i, const PngImage& png) {
    if (png.size.h < smallest.h || png.size.w < smallest.w) {
      fail(ExitCode::data, "images differ in size",
           {.where = (folder / paths[i]).string(),
            .expected = fmt::format("{} x {}, as the first one", smallest.h, smallest.w),
            .found = fmt::format("{} x {}", png.size.h, png.size.w)});
    }
    oddities.count(png, canvas);
    const std::size_t width = static_cast<std::size_t>(png.size.w) * 3;
    std::uint8_t* to = images.pixels.data() + i * image;
    for (std::size_t y = 0; y < static_cast<std::size_t>(png.size.h); ++y)
      std::memcpy(to + y * row, png.pixels.data() + y * width, width);
  });
  return images;
}

void add_notes(const Oddities& oddities, Extent canvas, std::vector<std::string>& notes) {
  add_note(notes, oddities.padded, "patch", "patches",
           fmt::format("smaller than {}x{}: padded with white below and on the right", canvas.h, canvas.w));
  add_note(notes, oddities.converted, "patch", "patches",
           "converted to 8-bit RGB (from a palette, grey, 16 bits, or transparency over white)");
}

Images load_png_images(const fs::path& path, const LoadOptions& options, std::vector<std::string>& notes) {
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  std::vector<std::string> paths;
  if (folder) {
    const Tree tree = walk(path);
    for (const fs::path& file : tree.files) {
      if (is_png_name(file)) paths.push_back(file.string());
    }
    add_notes(tree, notes);
    if (paths.empty()) {
      std::string found = fmt::format("{} other files", tree.files.size());
      for (const std::string& note : notes) found += "; " + note;
      fail(ExitCode::data, "a folder holds no images",
           {.where = path.string(), .expected = "PNG files, or name one HDF5 file", .found = found});
    }
  } else {
    paths.push_back(path.string());
  }
  const fs::path root = folder ? path : fs::path();
  Oddities oddities;
  PngReaders readers(std::ssize(paths), options);
  Extent first = 1;
  if (!options.image)
    readers.read(root, {paths[0]}, largest_image, "reading images",
                 [&](std::size_t, const PngImage& png) { first = png.size; });
  const Extent canvas = options.image.value_or(first);
  Images images = decode(readers, root, paths, canvas, first, "reading images", oddities);
  add_notes(oddities, canvas, notes);
  return images;
}

}  // namespace microtome
