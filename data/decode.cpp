#include "data/decode.h"

#include "data/checks.h"
#include "data/parallel.h"
#include "data/tree.h"
#include "engine/check.h"

#include <cstring>

namespace microtome {

namespace fs = std::filesystem;

void Oddities::count(const PngImage& png, Extent canvas) {
  if (png.size != canvas) ++padded;
  if (png.converted) ++converted;
}

Images decode(const fs::path& folder, const std::vector<std::string>& paths, Extent canvas, Extent smallest,
              const LoadOptions& options, const std::string& doing, Oddities& oddities) {
  Images images;
  images.shape = {static_cast<int>(paths.size()), canvas.h, canvas.w, 3};
  require_memory(images.shape.count(), folder.string());
  constexpr std::uint8_t white = 255;
  images.pixels.assign(static_cast<std::size_t>(images.shape.count()), white);
  images.ids = paths;
  const std::size_t row = static_cast<std::size_t>(canvas.w) * 3, image = row * static_cast<std::size_t>(canvas.h);
  const auto body = [&](std::int64_t i) {
    const fs::path file =
        folder.empty() ? fs::path(paths[static_cast<std::size_t>(i)]) : folder / paths[static_cast<std::size_t>(i)];
    const PngImage png = read_png(file, canvas);
    if (png.size.h < smallest.h || png.size.w < smallest.w) {
      fail(ExitCode::data, "images differ in size",
           {.where = file.string(),
            .expected = fmt::format("{} x {}, as the first one", smallest.h, smallest.w),
            .found = fmt::format("{} x {}", png.size.h, png.size.w)});
    }
    oddities.count(png, canvas);
    const std::size_t width = static_cast<std::size_t>(png.size.w) * 3;
    std::uint8_t* to = images.pixels.data() + static_cast<std::size_t>(i) * image;
    for (std::size_t y = 0; y < static_cast<std::size_t>(png.size.h); ++y)
      std::memcpy(to + y * row, png.pixels.data() + y * width, width);
  };
  const auto progress = [&](std::int64_t done) {
    if (options.progress) options.progress(doing, done, images.shape.n);
  };
  for_each_index(images.shape.n, options.threads, body, progress);
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
  const Extent first = options.image ? Extent(1) : read_png(folder ? root / paths[0] : path, largest_image).size;
  const Extent canvas = options.image.value_or(first);
  Images images = decode(root, paths, canvas, first, options, "reading images", oddities);
  add_notes(oddities, canvas, notes);
  return images;
}

}  // namespace microtome
