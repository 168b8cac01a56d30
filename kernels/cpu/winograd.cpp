#include "kernels/cpu/winograd.h"

#include "kernels/cpu/lane.h"
#include "kernels/cpu/register_tiles.h"

#include <omp.h>

#include <cstring>

namespace microtome {

namespace {

constexpr int group = 4 * width;                    // of filters, whose gradient is a piece of work
constexpr int cache_line = 16;                      // floats
constexpr int side = 4, frequencies = side * side;  // of a tile's cells, and as many of its transform

/// Floats from one frequency's matrix to the next: a cache line more than it has, lest a tile's 16 stores meet in one set of
/// L1.
std::ptrdiff_t apart(std::int64_t tiles, std::int64_t channels) {
  return tiles * channels + cache_line;
}

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

/// A dy.
void gradients_transform(const Floats (&dy)[2], Floats (&to)[side]) {
  to[0] = dy[0], to[1] = dy[0] + dy[1], to[2] = dy[0] - dy[1], to[3] = -dy[1];
}

/// G' u.
void filter_back_transform(const Floats (&u)[side], Floats (&to)[3]) {
  const Floats sum = (u[1] + u[2]) * 0.5f;
  to[0] = u[0] + sum, to[1] = (u[1] - u[2]) * 0.5f, to[2] = sum + u[3];
}

/// `transform` for the columns of from, then for the rows of what comes out.
template <int in, int out>
[[gnu::always_inline]] inline void both_ways(void (&transform)(const Floats (&)[in], Floats (&)[out]),
                                             const Floats (&from)[in][in], Floats (&to)[out][out]) {
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

/// Of `width` filters; the second half of the last may be missing.
int blocks_of(int filters) {
  return (filters + width - 1) / width;
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
         y.shape.c % lanes == 0 && even(p) * even(q) * blocks_of(y.shape.c) * width * 2 < p * q * y.shape.c * 3;
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
  constexpr std::int64_t floats = std::int64_t{1} << 17;  // half of a typical L2
  constexpr std::int64_t most_tiles = 56;                 // beyond, filters are loaded seldom enough
  const std::int64_t c = x.shape.c, k = blocks_of(y.shape.c) * width;
  forward_block_ = most * static_cast<int>(std::clamp<std::int64_t>(floats / (frequencies * c * most), 1, most_tiles / most));
  const auto one_a_thread = [&](ScratchPlan& plan, std::int64_t count, std::size_t& bytes) {
    bytes = aligned(count * sizeof(float));
    return plan.take(bytes * threads_);
  };
  filter_ = forward_plan_.take(frequencies * c * k * sizeof(float));
  cells_ = one_a_thread(forward_plan_, frequencies * apart(forward_block_, c), cells_bytes_);
  products_ = one_a_thread(forward_plan_, std::int64_t{frequencies} * forward_block_ * width, products_bytes_);
  forward_edge_ = one_a_thread(forward_plan_, frequencies * c, edge_bytes_);

  constexpr std::int64_t fewest_tiles = 64;                       // for which a piece's sums are loaded and stored once
  constexpr std::int64_t floats_of_sums = std::int64_t{1} << 21;  // in all pieces, unless one needs more
  filter_block_ = static_cast<int>(std::min(tiles_, std::max(fewest_tiles, floats / (frequencies * (c + group)))));
  const std::int64_t most_pieces = std::min<std::int64_t>(16, (tiles_ + filter_block_ - 1) / filter_block_);
  pieces_ = static_cast<int>(std::clamp<std::int64_t>(floats_of_sums / (frequencies * c * k), 1, most_pieces));
  filter_cells_ = one_a_thread(filter_plan_, frequencies * apart(filter_block_, c), filter_cells_bytes_);
  gradients_ = one_a_thread(filter_plan_, frequencies * apart(filter_block_, group), gradients_bytes_);
  filter_edge_ = one_a_thread(filter_plan_, frequencies * c, edge_bytes_);
  sums_ = filter_plan_.take(pieces_ * frequencies * c * k * sizeof(float));
  bias_sums_ = filter_plan_.take(pieces_ * k * sizeof(float));
}

/// To [block of k] [frequency] C width.
void Winograd::transform_filter(const float* w, Filter order, float* to) const {
  const int c = x_.shape.c, k = y_.shape.c;
  const std::int64_t step = std::int64_t{c} * width;  // from one frequency to the next
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
  for (int block = 0; block < blocks_of(k); ++block)
    for (int first = 0; first < c; first += lanes)
      for (int half = 0; half < std::min(width, k - block * width); half += lanes) {
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

void Winograd::transform_cells(const Tensor& x, std::int64_t tile, float* edge, const Places& places) const {
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
  float* to = places.to;
  for (int i = 0; i < c; i += lanes) {
    Floats d[side][side], turned[side][side];
#pragma GCC unroll 16
    for (int j = 0; j < frequencies; ++j) d[j / side][j % side] = load<Floats>(from + i + j / side * row + j % side * column);
    both_ways(cells_transform, d, turned);
#pragma GCC unroll 16
    for (int j = 0; j < frequencies; ++j) store(to + j * places.frequency, turned[j / side][j % side]);
    to += places.vector;
  }
}

void Winograd::transform_gradients(const Tensor& dy, std::int64_t tile, int k, const Places& places) const {
  const int n = static_cast<int>(tile / (rows_ * columns_));
  const int p = static_cast<int>(tile / columns_ % rows_) * 2, q = static_cast<int>(tile % columns_) * 2;
  const bool has_row = p + 1 < dy.shape.h, has_column = q + 1 < dy.shape.w;
  const float* from = pixel(dy, n, p, q) + k;
  float* to = places.to;
  for (int i = 0; i < std::min(group, dy.shape.c - k); i += lanes) {
    Floats turned[side][side];
    const auto cell = [&](bool inside, std::ptrdiff_t at) { return inside ? load<Floats>(from + at + i) : Floats{}; };
    const Floats tile_of_dy[2][2] = {{load<Floats>(from + i), cell(has_column, dy.strides.w)},
                                     {cell(has_row, dy.strides.h), cell(has_row && has_column, dy.strides.h + dy.strides.w)}};
    both_ways(gradients_transform, tile_of_dy, turned);
#pragma GCC unroll 16
    for (int j = 0; j < frequencies; ++j) store(to + j * places.frequency, turned[j / side][j % side]);
    to += i % width == 0 ? std::ptrdiff_t{lanes} : places.vector - lanes;
  }
}

/// From [frequency] [tile of the block] width; `products` is the tile's.
template <class Function>
void Winograd::transform_back(const float* products, std::int64_t tile, int k, const float* b, Function function,
                              const Tensor& y, Write write) const {
  const int n = static_cast<int>(tile / (rows_ * columns_));
  const int p = static_cast<int>(tile / columns_ % rows_) * 2, q = static_cast<int>(tile % columns_) * 2;
  const std::ptrdiff_t step = std::ptrdiff_t{forward_block_} * width;
  for (int i = 0; i < std::min(width, y.shape.c - k); i += lanes) {
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
  const std::int64_t blocks = (tiles_ + forward_block_ - 1) / forward_block_;
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t first = block * forward_block_;
    const int count = static_cast<int>(std::min<std::int64_t>(forward_block_, tiles_ - first));
    float* cells = scratch.at(cells_ + cells_bytes_ * omp_get_thread_num());
    float* products = scratch.at(products_ + products_bytes_ * omp_get_thread_num());
    float* edge = scratch.at(forward_edge_ + edge_bytes_ * omp_get_thread_num());
    for (int i = 0; i < count; ++i)
      transform_cells(x, first + i, edge, {cells + std::int64_t{i} * c, apart(forward_block_, c), lanes});
    for (int k = 0; k < y.shape.c; k += width) {
      for (int f = 0; f < frequencies; ++f)
        for_parts(count, [&](int part, int tiles) {
          forward_tile_of[tiles - 1]({.x = cells + f * apart(forward_block_, c) + std::int64_t{part} * c,
                                      .x_step = c,
                                      .x_row = 0,
                                      .w = filter + (std::int64_t{k} * frequencies + f * width) * c,
                                      .w_step = width,
                                      .rows = 1,
                                      .taps = c,
                                      .y = products + (std::int64_t{f} * forward_block_ + part) * width,
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

/// From [piece] [frequency] [block of k] C width.
void Winograd::transform_filter_back(const float* sums, float* dw, Write write) const {
  const int c = x_.shape.c, k = y_.shape.c;
  const std::int64_t step = std::int64_t{c} * blocks_of(k) * width;  // from one frequency to the next
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
  for (int block = 0; block < blocks_of(k); ++block)
    for (int first = 0; first < c; first += lanes)
      for (int half = 0; half < std::min(width, k - block * width); half += lanes) {
        float taps[9][lanes][lanes];  // of c, and of k
        for (int i = 0; i < lanes; ++i) {
          const float* from = sums + (std::int64_t{block} * c + first + i) * width + half;
          Floats u[side][side] = {}, g[3][3];
          for (int piece = 0; piece < pieces_; ++piece)
#pragma GCC unroll 16
            for (int f = 0; f < frequencies; ++f)
              u[f / side][f % side] += load<Floats>(from + (piece * frequencies + f) * step);
          both_ways(filter_back_transform, u, g);
#pragma GCC unroll 9
          for (int j = 0; j < 9; ++j) store(taps[j][i], g[j / 3][j % 3]);
        }
        for (int i = 0; i < lanes; ++i) {
          float* to = dw + std::int64_t{block * width + half + i} * 9 * c + first;
          for (int j = 0; j < 9; ++j, to += c)
            for (int l = 0; l < lanes; ++l) to[l] = write == Write::accumulate ? to[l] + taps[j][l][i] : taps[j][l][i];
        }
      }
}

/// A piece of work takes some tiles to the gradient of a group of filters. Their number does not depend on that of threads.
void Winograd::backward_filter(const Scratch& scratch, const Tensor& x, const Tensor& dy, float* dw, float* db,
                               Write write) const {
  const int c = x.shape.c, filters = dy.shape.c, blocks = blocks_of(filters);
  const std::int64_t step = std::int64_t{c} * blocks * width;  // from one frequency's sums to the next
  float* bias_sums = scratch.at(bias_sums_);
  constexpr int sum_of_four = side + 1;  // the frequency that is a tile's sum
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads_)
  for (int piece = 0; piece < pieces_; ++piece)
    for (int k = 0; k < filters; k += group) {
      // [frequency] [lanes of c or width of k] [tile] lanes or width
      float* cells = scratch.at(filter_cells_ + filter_cells_bytes_ * omp_get_thread_num());
      float* gradients = scratch.at(gradients_ + gradients_bytes_ * omp_get_thread_num());
      float* edge = scratch.at(filter_edge_ + edge_bytes_ * omp_get_thread_num());
      float* sums = scratch.at(sums_) + piece * frequencies * step;
      const std::int64_t begin = tiles_ * piece / pieces_, end = tiles_ * (piece + 1) / pieces_;
      for (std::int64_t first = begin; first < end; first += filter_block_) {
        const int count = static_cast<int>(std::min<std::int64_t>(filter_block_, end - first));
        for (int i = 0; i < count; ++i) {
          transform_cells(x, first + i, edge,
                          {cells + std::int64_t{i} * lanes, apart(count, c), std::ptrdiff_t{count} * lanes});
          transform_gradients(dy, first + i, k,
                              {gradients + std::int64_t{i} * width, apart(count, group), std::ptrdiff_t{count} * width});
        }
        for (int f = 0; f < frequencies; ++f)
          for (int block = k / width; block < std::min(blocks, (k + group) / width); ++block) {
            const float* of_block = gradients + f * apart(count, group) + std::int64_t{block * width - k} * count;
            constexpr int taps = std::max(lanes / 2, 4);  // two of four lanes would load as often as they compute
            for (int i = 0; i < c; i += taps)
              filter_tile_of[taps - 1]({.x = cells + f * apart(count, c) + std::int64_t{i} / lanes * lanes * count + i % lanes,
                                        .x_step = lanes,
                                        .x_row = 0,
                                        .dy = of_block,
                                        .dy_step = width,
                                        .dy_row = 0,
                                        .rows = 1,
                                        .columns = count,
                                        .sums = sums + f * step + (std::int64_t{block} * c + i) * width,
                                        .sums_step = width,
                                        .accumulate = first > begin});
            if (!db || f != sum_of_four) continue;
            float total[width] = {};
            for (int i = 0; i < count; ++i)
#pragma omp simd
              for (int j = 0; j < width; ++j) total[j] += of_block[i * width + j];
            float* to = bias_sums + (piece * blocks + block) * width;
            for (int j = 0; j < width; ++j) to[j] = first > begin ? to[j] + total[j] : total[j];
          }
      }
    }
  transform_filter_back(scratch.at(sums_), dw, write);
  for (int i = 0; db && i < filters; ++i) {
    float total = write == Write::accumulate ? db[i] : 0.0f;
    for (int piece = 0; piece < pieces_; ++piece) total += bias_sums[piece * blocks * width + i];
    db[i] = total;
  }
}

}  // namespace microtome
