#include "kernels/cpu/winograd.h"

#include "kernels/cpu/lane.h"
#include "kernels/cpu/register_tiles.h"

#include <omp.h>

#include <cstring>

namespace microtome {

namespace {

constexpr int side = 4, frequencies = side * side;  // of a tile's cells, and as many of its transform

/// B' d, of a row or column of cells.
void cells_transform(const Floats (&d)[side], Floats (&to)[side]) {
  to[0] = d[0] - d[2], to[1] = d[1] + d[2], to[2] = d[2] - d[1], to[3] = d[1] - d[3];
}

/// G g.
void filter_transform(const Floats (&g)[3], Floats (&to)[side]) {
  const Floats outer = (g[0] + g[2]) * 0.5f, inner = g[1] * 0.5f;
  to[0] = g[0], to[1] = outer + inner, to[2] = outer - inner, to[3] = g[2];
}

/// A' m.
void back_transform(const Floats (&m)[side], Floats (&to)[2]) {
  to[0] = m[0] + m[1] + m[2], to[1] = m[1] - m[2] - m[3];
}

/// `transform` for the columns of from, then for the rows of what comes out.
template <int in, int out>
void both_ways(void (&transform)(const Floats (&)[in], Floats (&)[out]), const Floats (&from)[in][in], Floats (&to)[out][out]) {
  Floats half[out][in];
#pragma GCC unroll 4
  for (int j = 0; j < in; ++j) {
    Floats column[in], turned[out];
#pragma GCC unroll 4
    for (int i = 0; i < in; ++i) column[i] = from[i][j];
    transform(column, turned);
#pragma GCC unroll 4
    for (int i = 0; i < out; ++i) half[i][j] = turned[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < out; ++i) transform(half[i], to[i]);
}

template <class Function>
Floats activated(Function function, Floats values) {
  if constexpr (Function::value != Activation::none) {
    float each[lanes];
    store(each, values);
#pragma omp simd
    for (int i = 0; i < lanes; ++i) each[i] = activate(function(), each[i]);
    return load<Floats>(each);
  }
  return values;
}

}  // namespace

bool Winograd::serves(const Window& window, int groups, const Layout& x, const Layout& y) {
  const auto even = [](int size) { return (size + 1) / 2 * 2; };
  const int p = y.shape.h, q = y.shape.w;
  return groups == 1 && window.kernel == Extent(3) && window.stride == Extent(1) && x.shape.c % lanes == 0 &&
         y.shape.c % width == 0 && even(p) * even(q) * 3 < p * q * 4;
}

Window Winograd::transposed(const Window& w) {
  const auto rest = [&](Extent padding) { return Extent(w.kernel.h - 1 - padding.h, w.kernel.w - 1 - padding.w); };
  return {w.kernel, w.stride, rest(w.before), rest(w.after)};
}

Winograd::Winograd(const Window& window, const Layout& x, const Layout& y)
    : window_(window),
      x_(x),
      y_(y),
      rows_((y.shape.h + 1) / 2),
      columns_((y.shape.w + 1) / 2),
      tiles_(std::int64_t{y.shape.n} * rows_ * columns_),
      threads_(omp_get_max_threads()) {
  constexpr std::int64_t floats_of_cells = std::int64_t{1} << 17;  // half of a typical L2
  const std::int64_t c = x.shape.c, k = y.shape.c;
  block_ = most * static_cast<int>(std::clamp<std::int64_t>(floats_of_cells / (frequencies * c * most), 1, 4));
  filter_ = plan_.take(frequencies * c * k * sizeof(float));
  const auto one_a_thread = [&](std::int64_t floats, std::size_t& bytes) {
    bytes = (floats * sizeof(float) + 255) / 256 * 256;
    return plan_.take(bytes * threads_);
  };
  cells_ = one_a_thread(frequencies * block_ * c, cells_bytes_);
  products_ = one_a_thread(std::int64_t{frequencies} * block_ * width, products_bytes_);
  edge_ = one_a_thread(frequencies * c, edge_bytes_);
}

/// To [block of 32 k] [frequency] C 32.
void Winograd::transform_filter(const float* w, Filter order, float* to) const {
  const int c = x_.shape.c, k = y_.shape.c;
  const std::int64_t step = std::int64_t{c} * width;  // from one frequency to the next
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
  for (int block = 0; block < k / width; ++block)
    for (int first = 0; first < c; first += lanes)
      for (int half = 0; half < width; half += lanes) {
        float* target = to + block * frequencies * step + std::int64_t{first} * width + half;
        Floats g[3][3], turned[side][side];
        if (order == Filter::transposed) {
          for (int i = 0; i < lanes; ++i) {
            const float* taps = w + std::int64_t{first + i} * 9 * k + block * width + half;
#pragma GCC unroll 9
            for (int j = 0; j < 9; ++j) g[j / 3][j % 3] = load<Floats>(taps + (8 - j) * std::int64_t{k});
            both_ways(filter_transform, g, turned);
#pragma GCC unroll 16
            for (int f = 0; f < frequencies; ++f) store(target + f * step + i * width, turned[f / side][f % side]);
          }
        } else {
          float rows[frequencies][lanes][lanes];  // of k, and of c
          for (int i = 0; i < lanes; ++i) {
            const float* taps = w + std::int64_t{block * width + half + i} * 9 * c + first;
#pragma GCC unroll 9
            for (int j = 0; j < 9; ++j) g[j / 3][j % 3] = load<Floats>(taps + j * std::int64_t{c});
            both_ways(filter_transform, g, turned);
#pragma GCC unroll 16
            for (int f = 0; f < frequencies; ++f) store(rows[f][i], turned[f / side][f % side]);
          }
          for (int f = 0; f < frequencies; ++f)
            for (int j = 0; j < lanes; ++j)
              for (int i = 0; i < lanes; ++i) target[f * step + j * width + i] = rows[f][i][j];
        }
      }
}

/// To [frequency] [tile of the block] C; `to` is the tile's.
void Winograd::transform_cells(const Tensor& x, std::int64_t tile, float* edge, float* to) const {
  const int c = x.shape.c, n = static_cast<int>(tile / (rows_ * columns_));
  const int top = static_cast<int>(tile / columns_ % rows_) * 2 - window_.before.h;
  const int left = static_cast<int>(tile % columns_) * 2 - window_.before.w;
  const float* from = pixel(x, n, top, left);
  std::ptrdiff_t row = x.strides.h, column = x.strides.w;
  if (top < 0 || left < 0 || top + side > x.shape.h || left + side > x.shape.w) {
    for (int i = 0; i < frequencies; ++i) {
      const int h = top + i / side, w = left + i % side;
      if (h >= 0 && h < x.shape.h && w >= 0 && w < x.shape.w)
        std::memcpy(edge + std::int64_t{i} * c, pixel(x, n, h, w), c * sizeof(float));
      else
        std::fill_n(edge + std::int64_t{i} * c, c, 0.0f);
    }
    from = edge, row = std::ptrdiff_t{side} * c, column = c;
  }
  const std::ptrdiff_t step = std::ptrdiff_t{block_} * c;
  for (int i = 0; i < c; i += lanes) {
    Floats d[side][side], turned[side][side];
#pragma GCC unroll 16
    for (int j = 0; j < frequencies; ++j) d[j / side][j % side] = load<Floats>(from + i + j / side * row + j % side * column);
    both_ways(cells_transform, d, turned);
#pragma GCC unroll 16
    for (int j = 0; j < frequencies; ++j) store(to + j * step + i, turned[j / side][j % side]);
  }
}

/// From [frequency] [tile of the block] 32; `products` is the tile's.
template <class Function>
void Winograd::transform_back(const float* products, std::int64_t tile, int k, const float* b, Function function,
                              const Tensor& y, Write write) const {
  const int n = static_cast<int>(tile / (rows_ * columns_));
  const int p = static_cast<int>(tile / columns_ % rows_) * 2, q = static_cast<int>(tile % columns_) * 2;
  const std::ptrdiff_t step = std::ptrdiff_t{block_} * width;
  for (int i = 0; i < width; i += lanes) {
    Floats m[side][side], values[2][2];
#pragma GCC unroll 16
    for (int j = 0; j < frequencies; ++j) m[j / side][j % side] = load<Floats>(products + j * step + i);
    both_ways(back_transform, m, values);
    const Floats bias = b ? load<Floats>(b + k + i) : Floats{};
    for (int j = 0; j < 4; ++j) {
      if (p + j / 2 >= y.shape.h || q + j % 2 >= y.shape.w) continue;
      float* to = pixel(y, n, p + j / 2, q + j % 2) + k + i;
      const Floats sum = values[j / 2][j % 2] + (write == Write::accumulate ? load<Floats>(to) : bias);
      store(to, activated(function, sum));
    }
  }
}

void Winograd::forward(const Scratch& scratch, const Tensor& x, const float* w, Filter order, const float* b,
                       Activation activation, const Tensor& y, Write write) const {
  float* filter = scratch.at(filter_);
  transform_filter(w, order, filter);
  const int c = x.shape.c;
  const std::int64_t blocks = (tiles_ + block_ - 1) / block_;
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t first = block * block_;
    const int count = static_cast<int>(std::min<std::int64_t>(block_, tiles_ - first));
    float* cells = scratch.at(cells_ + cells_bytes_ * omp_get_thread_num());
    float* products = scratch.at(products_ + products_bytes_ * omp_get_thread_num());
    float* edge = scratch.at(edge_ + edge_bytes_ * omp_get_thread_num());
    for (int i = 0; i < count; ++i) transform_cells(x, first + i, edge, cells + std::int64_t{i} * c);
    for (int k = 0; k < y.shape.c; k += width) {
      for (int f = 0; f < frequencies; ++f)
        for_parts(count, [&](int part, int tiles) {
          forward_tile_of[tiles - 1]({.x = cells + (std::int64_t{f} * block_ + part) * c,
                                      .x_step = c,
                                      .x_row = 0,
                                      .w = filter + (std::int64_t{k} * frequencies + f * width) * c,
                                      .w_step = width,
                                      .rows = 1,
                                      .taps = c,
                                      .y = products + (std::int64_t{f} * block_ + part) * width,
                                      .y_step = width,
                                      .b = nullptr,
                                      .accumulate = false});
        });
      with_activation(activation, [&](auto function) {
        for (int i = 0; i < count; ++i) transform_back(products + std::int64_t{i} * width, first + i, k, b, function, y, write);
      });
    }
  }
}

}  // namespace microtome
