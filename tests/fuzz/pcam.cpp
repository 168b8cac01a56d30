// HDF5 files of images and labels: what the child does with them, without the child.
#include "data/pcam.h"

#include "data/files.h"
#include "data/format.h"
#include "fuzz/fuzz.h"

namespace microtome::fuzz {

std::vector<std::string> seeds() {
  constexpr std::size_t n = 4, h = 6, w = 5;
  const auto pixels = some_pixels(n * h * w * 3);
  const std::vector<std::uint8_t> labels{0, 1, 1, 0};
  const auto images = [&](const Storage& storage) {
    return written_by([&](const auto& file) {
      write_hdf5(file, "x", {n, h, w, 3}, H5T_STD_U8LE, pixels, H5T_NATIVE_UINT8, storage);
    });
  };
  const auto written = [&](const char* name, const std::vector<hsize_t>& shape, hid_t type) {
    return written_by([&](const auto& file) { write_hdf5(file, name, shape, type, labels, H5T_NATIVE_UINT8); });
  };
  return {images({}),
          images({.chunk = {2, 3, 5, 3}, .deflate = true, .shuffle = true, .checksum = true}),
          images({.chunk = {1, 6, 5, 3}}),
          written("y", {n, 1, 1, 1}, H5T_STD_U8LE),
          written("y", {n}, H5T_STD_I64BE),
          written("images", {n, 1}, H5T_STD_U8LE)};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile file;
  file.hold({bytes, size});
  may_refuse([&] {
    const Images images = load_hdf5_images(file.path(), {});
    expect(static_cast<std::int64_t>(images.pixels.size()) == images.shape.count(), "pixels of another number");
  });
  may_refuse([&] {
    for (const std::uint8_t label : read_labels(file.path(), "train")) expect(label <= 1, "a label that cannot be one");
  });
  return 0;
}
