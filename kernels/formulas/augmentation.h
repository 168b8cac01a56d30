// Where an augmented image's pixels come from: (row, column) of what the network sees is, of the original,
//   centre + A ((row, column) - centre) + shift,   A = rotation * zoom * flips * quarter turns,
// between pixels bilinear, outside reflected about the edge: d c b a | a b c d | d c b a (Keras' fill_mode "reflect"). Then
// times the brightness, between 0 and 255. Flips, quarter turns and shifts alone are exact: all coordinates are multiples of
// 1/2. Image i of the data set draws philox words 2 i and 2 i + 1 of stream `augmentation + epoch`: the same on every backend.
#pragma once

#include "engine/check.h"
#include "engine/ops.h"
#include "engine/random.h"
#include "kernels/formulas/host_device.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace microtome {

inline void require_augmentable(const Gather& kind, const Layout& images) {
  require(!kind.augment.any() || (images.dtype == DType::u8 && images.is_packed()),
          "gather: only packed images of u8 are augmented");
  require(!kind.augment.rotate90 || images.shape.h == images.shape.w, "gather: only squares turn by 90 degrees, not ",
          to_string(images.shape));
}

/// source row = row_by_row row + row_by_column column + row_at_origin, and likewise its column.
template <class T>
struct Warp {
  T row_by_row, row_by_column, row_at_origin;
  T column_by_row, column_by_column, column_at_origin;
  T brightness;
};

/// Uniform in [-1, 1).
template <class T>
MICROTOME_HOST_DEVICE constexpr T either_way(std::uint32_t word) {
  return T(2) * T(unit_float(word)) - T(1);
}

/// By their series, for |angle| up to pi: the first term left out is below 1e-15. CUDA's own spill where an angle might be
/// large.
template <class T>
MICROTOME_HOST_DEVICE constexpr void turn(T angle, T& cosine, T& sine) {
  T even = T(1), odd = angle;
  cosine = even, sine = odd;
  for (int k = 2; k < 28; k += 2) {
    even *= -angle * angle / T((k - 1) * k);
    odd *= -angle * angle / T(k * (k + 1));
    cosine += even;
    sine += odd;
  }
}

template <class T>
MICROTOME_HOST_DEVICE Warp<T> drawn_warp(const Augment& augment, std::uint64_t seed, std::uint64_t epoch, std::uint64_t image,
                                         int height, int width) {
  const std::array<std::uint32_t, 4> words = philox(seed, stream::augmentation + epoch, 2 * image);
  const std::array<std::uint32_t, 4> more = philox(seed, stream::augmentation + epoch, 2 * image + 1);
  const T flip_rows = augment.flip && (words[0] & 1) != 0 ? T(-1) : T(1);
  const T flip_columns = augment.flip && (words[0] & 2) != 0 ? T(-1) : T(1);
  const int quarters = augment.rotate90 ? static_cast<int>(words[0] >> 2 & 3) : 0;
  const T cos_quarters = quarters == 0 ? T(1) : quarters == 2 ? T(-1) : T(0);
  const T sin_quarters = quarters == 1 ? T(1) : quarters == 3 ? T(-1) : T(0);
  const auto shift = [&augment](std::uint32_t word) {
    return T(static_cast<int>(std::uint64_t{word} * static_cast<unsigned>(2 * augment.shift + 1) >> 32) - augment.shift);
  };
  const T scale = T(1) + T(augment.zoom) * either_way<T>(words[3]);
  const T angle = T(augment.rotate) * either_way<T>(more[0]) * (std::numbers::pi_v<T> / T(180));
  T cosine = T(1), sine = T(0);
  turn(angle, cosine, sine);
  cosine *= scale;
  sine *= scale;

  Warp<T> warp;
  warp.row_by_row = cosine * flip_rows * cos_quarters + sine * flip_columns * sin_quarters;
  warp.row_by_column = cosine * flip_rows * sin_quarters - sine * flip_columns * cos_quarters;
  warp.column_by_row = sine * flip_rows * cos_quarters - cosine * flip_columns * sin_quarters;
  warp.column_by_column = sine * flip_rows * sin_quarters + cosine * flip_columns * cos_quarters;
  const T centre_row = T(height - 1) / T(2), centre_column = T(width - 1) / T(2);
  warp.row_at_origin = centre_row + shift(words[1]) - (warp.row_by_row * centre_row + warp.row_by_column * centre_column);
  warp.column_at_origin =
      centre_column + shift(words[2]) - (warp.column_by_row * centre_row + warp.column_by_column * centre_column);
  warp.brightness = T(1) + T(augment.brightness) * either_way<T>(more[1]);
  return warp;
}

MICROTOME_HOST_DEVICE constexpr int reflected(int i, int count) {
  if (i >= 0 && i < count) return i;
  i %= 2 * count;
  if (i < 0) i += 2 * count;
  return i < count ? i : 2 * count - 1 - i;
}

/// Channel `channel` at (row, column), 0 … 255, of a packed image.
template <class T>
MICROTOME_HOST_DEVICE T warped(const Warp<T>& warp, const std::uint8_t* image, int height, int width, int channels, int row,
                               int column, int channel) {
  const T from_row = warp.row_by_row * T(row) + warp.row_by_column * T(column) + warp.row_at_origin;
  const T from_column = warp.column_by_row * T(row) + warp.column_by_column * T(column) + warp.column_at_origin;
  const T above = std::floor(from_row), left = std::floor(from_column);
  const T down = from_row - above, right = from_column - left;
  const auto pixel = [&](int rows, int columns) {
    const int r = reflected(static_cast<int>(above) + rows, height), c = reflected(static_cast<int>(left) + columns, width);
    return T(image[(r * width + c) * channels + channel]);
  };
  T value = pixel(0, 0);
  if (down > T(0) || right > T(0)) {
    const T upper = value + right * (pixel(0, 1) - value), lower_left = pixel(1, 0);
    const T lower = lower_left + right * (pixel(1, 1) - lower_left);
    value = upper + down * (lower - upper);
  }
  value *= warp.brightness;
  return value < T(255) ? value : T(255);
}

}  // namespace microtome
