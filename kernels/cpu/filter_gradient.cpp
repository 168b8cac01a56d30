#include "kernels/cpu/filter_gradient.h"

#include "kernels/cpu/register_tiles.h"

#include <omp.h>

#include <cstring>

namespace microtome {

namespace {

constexpr int steps = 256;  // positions that sums stay in registers for, about

}  // namespace

bool FilterGradient::serves(const Window& window, int groups, const Layout& x, const Layout& y) {
  constexpr std::int64_t largest_filter = std::int64_t{1} << 20;  // floats; its sums are kept once for each piece of the batch
  constexpr int smallest_image = 32 * 32;                         // positions
  const std::int64_t filter = std::int64_t{window.kernel.h} * window.kernel.w * x.shape.c * y.shape.c;
  return groups == 1 && y.shape.c % width == 0 && x.strides.w == x.shape.c && window.kernel.h * window.kernel.w > 1 &&
         filter <= largest_filter && y.shape.h * y.shape.w >= smallest_image && window.before.h >= 0 && window.before.w >= 0;
}

FilterGradient::FilterGradient(const Window& window, const Layout& x, const Layout& y)
    : window_(window),
      x_(x),
      y_(y),
      taps_(window.kernel.w * x.shape.c),
      threads_(omp_get_max_threads()),
      pads_(window.before.h > 0 || window.before.w > 0 || window.after.h > 0 || window.after.w > 0),
      padded_columns_(std::int64_t{y.shape.w - 1} * window.stride.w + window.kernel.w) {
  const std::int64_t filter = std::int64_t{window.kernel.h} * taps_ * y.shape.c;
  constexpr std::int64_t floats_of_sums = std::int64_t{1} << 20;  // in all pieces, unless four need more
  pieces_ = static_cast<int>(std::min<std::int64_t>(x.shape.n, std::clamp<std::int64_t>(floats_of_sums / filter, 4, 32)));
  const int rows = steps / y.shape.w + 1;
  if (pads_) {
    padded_bytes_ = aligned(((rows - 1) * window.stride.h + window.kernel.h) * padded_columns_ * x.shape.c * sizeof(float));
    padded_ = plan_.take(padded_bytes_ * threads_);
  }
  packed_bytes_ = sizeof(float) * (steps + y.shape.w) * width;
  packed_ = plan_.take(packed_bytes_ * threads_);
  sums_ = plan_.take(pieces_ * filter * sizeof(float));
  bias_sums_ = plan_.take(std::size_t{sizeof(float)} * pieces_ * y.shape.c);
}

/// `rows` rows of image n under the windows of output row `first` and on; without padding, x itself.
const float* FilterGradient::rows_of(const Tensor& x, int n, int first, int rows, float* padded) const {
  const int top = first * window_.stride.h - window_.before.h;
  if (!pads_) return pixel(x, n, top, 0);
  const std::int64_t c = x.shape.c, left = std::min<std::int64_t>(window_.before.w, padded_columns_);
  const std::int64_t inside = std::min<std::int64_t>(x.shape.w, padded_columns_ - left);
  for (int i = 0; i < rows; ++i) {
    float* to = padded + i * padded_columns_ * c;
    const int h = top + i;
    if (h < 0 || h >= x.shape.h) {
      std::fill_n(to, padded_columns_ * c, 0.0f);
      continue;
    }
    std::fill_n(to, left * c, 0.0f);
    std::memcpy(to + left * c, pixel(x, n, h, 0), inside * c * sizeof(float));
    std::fill_n(to + (left + inside) * c, (padded_columns_ - left - inside) * c, 0.0f);
  }
  return padded;
}

void FilterGradient::run(const Scratch& scratch, const Tensor& x, const Tensor& dy, float* dw, float* db, Write write) const {
  const int channels = dy.shape.c, r = window_.kernel.h, blocks = channels / width, images = x.shape.n;
  const std::int64_t filter = std::int64_t{r} * taps_ * channels;
  const int rows_at_once = std::min(steps / dy.shape.w + 1, dy.shape.h);
  const std::ptrdiff_t x_step = std::ptrdiff_t{window_.stride.w} * x.shape.c;
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
  for (int piece = 0; piece < pieces_; ++piece) {
    float* sums = scratch.at(sums_) + piece * filter;  // R [block] T width
    float* bias = scratch.at(bias_sums_) + std::int64_t{piece} * channels;
    float* padded = scratch.at(padded_ + padded_bytes_ * omp_get_thread_num());
    // `width` channels of a band of dy, each row of a tile's step beside the next: as they lie, a power of two apart, they
    // would meet in a few of L1's sets.
    float* packed = scratch.at(packed_ + packed_bytes_ * omp_get_thread_num());
    std::fill_n(sums, filter, 0.0f);
    std::fill_n(bias, channels, 0.0f);
    for (int n = images * piece / pieces_; n < images * (piece + 1) / pieces_; ++n)
      for (int first = 0; first < dy.shape.h; first += rows_at_once) {
        const int rows = std::min(rows_at_once, dy.shape.h - first);
        const float* from = rows_of(x, n, first, (rows - 1) * window_.stride.h + r, padded);
        for (int block = 0; block < blocks; ++block) {
          float* gradients = packed;
          Floats bias0 = load<Floats>(bias + block * width), bias1 = load<Floats>(bias + block * width + lanes);
          for (int p = 0; p < rows; ++p)
            for (int q = 0; q < dy.shape.w; ++q, gradients += width) {
              const float* at = pixel(dy, n, first + p, q) + block * width;
              const Floats dy0 = load<Floats>(at), dy1 = load<Floats>(at + lanes);
              store(gradients, dy0), store(gradients + lanes, dy1);
              bias0 += dy0, bias1 += dy1;
            }
          store(bias + block * width, bias0), store(bias + block * width + lanes, bias1);
          for (int i = 0; i < r; ++i)
            for_parts(taps_, [&](int t, int taps) {
              filter_tile_of[taps - 1]({.x = from + i * row_stride() + t,
                                        .x_step = x_step,
                                        .x_row = row_stride() * window_.stride.h,
                                        .dy = packed,
                                        .dy_step = width,
                                        .dy_row = std::ptrdiff_t{dy.shape.w} * width,
                                        .rows = rows,
                                        .columns = dy.shape.w,
                                        .sums = sums + (std::int64_t{i * blocks + block} * taps_ + t) * width,
                                        .sums_step = width,
                                        .accumulate = true});
            });
        }
      }
  }

  const float *sums = scratch.at(sums_), *bias = scratch.at(bias_sums_);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
  for (int i = 0; i < r; ++i)
    for (int block = 0; block < blocks; ++block)
      for (int t = 0; t < taps_; ++t) {
        float total[width] = {};
        for (int piece = 0; piece < pieces_; ++piece) {
          const float* part = sums + piece * filter + (std::int64_t{i * blocks + block} * taps_ + t) * width;
#pragma omp simd
          for (int k = 0; k < width; ++k) total[k] += part[k];
        }
        for (int k = 0; k < width; ++k) {
          float& to = dw[(std::int64_t{block * width + k} * r + i) * taps_ + t];
          to = write == Write::accumulate ? to + total[k] : total[k];
        }
      }
  for (int k = 0; db && k < channels; ++k) {
    float total = write == Write::accumulate ? db[k] : 0.0f;
    for (int piece = 0; piece < pieces_; ++piece) total += bias[piece * channels + k];
    db[k] = total;
  }
}

}  // namespace microtome
