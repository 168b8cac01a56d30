// HDF5 and PNG files of every kind, sound and not, for the tests of this folder.
#pragma once

#include "data/hdf5.h"
#include "data/pcam.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// How a dataset is to be stored.
struct Storage {
  std::vector<hsize_t> chunk;  // empty: contiguous
  bool deflate = false, shuffle = false, checksum = false;
};

template <class T>
void write_hdf5(const std::filesystem::path& file, const char* name, const std::vector<hsize_t>& shape, hid_t type,
                const std::vector<T>& values, hid_t memory_type, const Storage& storage = {}) {
  const hdf5::Id out = hdf5::create_file(file);
  const hdf5::Id space(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr)),
      creation(H5Pcreate(H5P_DATASET_CREATE));
  if (!storage.chunk.empty()) H5Pset_chunk(creation, static_cast<int>(storage.chunk.size()), storage.chunk.data());
  if (storage.shuffle) H5Pset_shuffle(creation);
  if (storage.deflate) H5Pset_deflate(creation, 6);
  if (storage.checksum) H5Pset_fletcher32(creation);
  const hdf5::Id dataset(H5Dcreate2(out, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT));
  if (!values.empty()) H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
}

/// Bytes that differ from one position to the next.
inline std::vector<std::uint8_t> some_pixels(std::size_t count, unsigned seed = 1) {
  std::vector<std::uint8_t> pixels(count);
  for (std::size_t i = 0; i < count; ++i) pixels[i] = static_cast<std::uint8_t>((i * 2654435761u + seed * 40503u) >> 7);
  return pixels;
}

/// The six files: `n` images of h x w a split, labels 0 1 0 1 …
inline void write_pcam(const std::filesystem::path& folder, int n = 4, int h = 6, int w = 5) {
  for (const char* split : {"train", "valid", "test"}) {
    PcamWriter writer(folder, split, {n, h, w, 3});
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = i % 2;
    writer.append(some_pixels(static_cast<std::size_t>(n * h * w * 3), static_cast<unsigned>(split[0])), labels);
    writer.finish();
  }
}

}  // namespace microtome
