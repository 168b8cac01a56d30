// 1 x 1 convolution at stride 1 as products of matrices, bf16, for what cuDNN has no engine for: a batch-norm applied to x on
// the way, f (deferred.h), and partial statistics of y. With pixels i and f the identity where nothing is deferred,
//   y[i,k] = b[k] + sum over c of f(x)[i,c] w[k,c]      dz[i,c] = sum over k of dy[i,k] w[k,c]
//   dw[k,c] = sum over i of dy[i,k] f(x)[i,c]
// Mapping: a block makes tiles of 128 x 32, 64 or 128 results, 32 terms of the sum at a time, its eight warps 16, 32 or 64 rows
// x 32 columns each by mma.m16n8k16, while the next terms are on their way into registers. Forward and for dx a block keeps its
// columns and walks over tiles of pixels, for dw it keeps its tile and walks over its share of the pixels. Traffic: each pass
// its tensors once; from L2, in blocks that run side by side, x again for each further 128 channels of y and dy for each
// further 64 of x, and w for each tile; for dw a tile of partial results a block. Numerics: f(x) rounded to bf16 as a factor of
// products, sums in float32 in a fixed order, rounded once.
#include "kernels/cuda/deferred.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/vector.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace microtome::cuda {

namespace {

using Element = __nv_bfloat16;

constexpr unsigned width = vector_width<Element>;  // elements a 16-byte vector
constexpr unsigned tile_m = 128, tile_n = 128;     // of a tile; tile_m x N, N = 32, 64 or 128
constexpr unsigned widest_of_dx = 64;              // a batch-norm's gradient wants the registers
constexpr unsigned tile_k = 32;                    // terms of the sum at a time
constexpr unsigned warp_columns = 32;
constexpr unsigned blocks_a_multiprocessor = 2;

/// Eight elements in registers. As elements nvcc 13.0 would store them one by one.
using Words = Vector<std::uint32_t, width / 2>;

__device__ inline std::uint32_t pack(float low, float high) {
  const auto bits = [](float value) { return std::uint32_t{std::bit_cast<std::uint16_t>(from_float<Element>(value))}; };
  return bits(low) | bits(high) << 16;
}

/// P is T* or const T*. Of tensors a line is a pixel.
template <class P>
struct Matrix {
  P data;
  unsigned pitch;  // elements from line to line
  unsigned lines, columns;

  __device__ P at(unsigned line, unsigned column) const { return data + (line * pitch + column); }
};

/// Whether the terms of a sum lie along an operand's lines, or across them.
enum class Terms { along, across };

/// `Rows` rows of the result, columns for the right operand, x `tile_k` terms of an operand, on their way through registers
/// into shared memory. There the vectors of a line change places, so that neither eight threads that store nor eight rows that
/// ldmatrix reads meet in a bank.
template <Terms terms, unsigned Rows>
struct Part {
  static constexpr unsigned lines = terms == Terms::along ? Rows : tile_k, columns = terms == Terms::along ? tile_k : Rows;
  static constexpr unsigned vectors_a_line = columns / width, vectors = lines * vectors_a_line;
  static constexpr unsigned share = (vectors + block_threads - 1) / block_threads, lines_apart = block_threads / vectors_a_line;
  static constexpr unsigned size = lines * columns;

  Words staged[share];

  static __device__ unsigned offset(unsigned line, unsigned vector) {
    constexpr unsigned turns = vectors_a_line < 8 ? vectors_a_line : 8;
    return line * columns + (vector ^ (line / (8 / turns) % turns)) * width;
  }

  /// Beyond the matrix there are zeros.
  __device__ void fetch(const Matrix<const Element*>& from, unsigned row, unsigned term) {
    const unsigned line = (terms == Terms::along ? row : term) + threadIdx.x / vectors_a_line;
    const unsigned column = (terms == Terms::along ? term : row) + threadIdx.x % vectors_a_line * width;
#pragma unroll
    for (unsigned j = 0; j < share; ++j) {
      const unsigned l = line + j * lines_apart;
      staged[j] = {};
      if (threadIdx.x < vectors && l < from.lines && column < from.columns)
        staged[j] = *reinterpret_cast<const Words*>(from.at(l, column));
    }
  }

  /// Channels of the norm are the matrix's columns.
  __device__ void put(Element* tile, const Norm& norm, unsigned row, unsigned term) {
    const unsigned line = threadIdx.x / vectors_a_line, vector = threadIdx.x % vectors_a_line;
    if (threadIdx.x >= vectors) return;
    if (const unsigned channel = (terms == Terms::along ? term : row) + vector * width; channel < norm.channels) {
      constexpr unsigned half = width / 2;  // of a vector: there are no registers for all coefficients at once
#pragma unroll
      for (unsigned first = 0; first < width; first += half) {
        const NormOf<half> mine = load_norm<half>(norm, channel + first);
#pragma unroll
        for (unsigned j = 0; j < share; ++j) {
          float values[half];
          std::uint32_t* words = staged[j].at + first / 2;
#pragma unroll
          for (unsigned i = 0; i < half; ++i)
            values[i] = std::bit_cast<float>(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
          apply<half>(mine, norm.activation, values);
#pragma unroll
          for (unsigned i = 0; i < half; i += 2) words[i / 2] = pack(values[i], values[i + 1]);
        }
      }
    }
#pragma unroll
    for (unsigned j = 0; j < share; ++j) *reinterpret_cast<Words*>(tile + offset(line + j * lines_apart, vector)) = staged[j];
  }

  /// 16 rows x 16 terms.
  static __device__ Fragment fragment(const Element* tile, unsigned row, unsigned term) {
    const unsigned lane = threadIdx.x % 32, quarter = lane / 8;
    row += quarter % 2 * 8, term += quarter / 2 * 8;
    if constexpr (terms == Terms::along) return load_quarters(tile + offset(row + lane % 8, term / width));
    return load_quarters_transposed(tile + offset(term + lane % 8, row / width));
  }
};

/// Which results a warp makes of a block's tile of N columns.
template <unsigned N>
struct WarpTile {
  static constexpr unsigned warps_n = N / warp_columns, warps_m = block_threads / 32 / warps_n, rows = tile_m / warps_m;

  static __device__ unsigned row() { return threadIdx.x / 32 / warps_n * rows; }
  static __device__ unsigned column() { return threadIdx.x / 32 % warps_n * warp_columns; }
};

/// 16 x 32 results a piece, as multiply_add leaves them: columns 8 j and on in [j].
template <unsigned N>
using Sums = float[WarpTile<N>::rows / 16][warp_columns / 8][4];

struct Range {
  unsigned first, last, step;
};

/// For each tile that starts in a row of `rows`: f(row, sums over `terms`, a multiple of `tile_k` or up to the matrices' end).
/// All threads of the block are in f together.
template <Terms left_terms, Terms right_terms, unsigned N, class F>
__device__ inline void multiply(const Matrix<const Element*>& left, const Norm& left_norm, Range rows,
                                const Matrix<const Element*>& right, const Norm& right_norm, unsigned column, Range terms,
                                const F& f) {
  using Left = Part<left_terms, tile_m>;
  using Right = Part<right_terms, N>;
  alignas(16) __shared__ Element left_tile[2][Left::size], right_tile[2][Right::size];
  using Mine = WarpTile<N>;
  Left left_part;
  Right right_part;
  Sums<N> sums = {};

  unsigned row = rows.first, term = terms.first;
  const auto fetch = [&] {
    left_part.fetch(left, row, term);
    right_part.fetch(right, column, term);
  };
  const auto put = [&](unsigned turn) {
    right_part.put(right_tile[turn], right_norm, column, term);
    left_part.put(left_tile[turn], left_norm, row, term);
  };
  fetch();
  put(0);
  for (unsigned turn = 0;; turn ^= 1) {
    __syncthreads();

    const bool last_terms = term + terms.step >= terms.last;
    const unsigned tile_row = row;
    if (last_terms) row += rows.step;
    term = last_terms ? terms.first : term + terms.step;
    const bool more = row < rows.last;
    if (more) fetch();

#pragma unroll
    for (unsigned k = 0; k < tile_k; k += 16) {
      Fragment b[warp_columns / 16];
#pragma unroll
      for (unsigned j = 0; j < warp_columns / 16; ++j) b[j] = Right::fragment(right_tile[turn], Mine::column() + 16 * j, k);
#pragma unroll
      for (unsigned i = 0; i < Mine::rows / 16; ++i) {
        const Fragment a = Left::fragment(left_tile[turn], Mine::row() + 16 * i, k);
#pragma unroll
        for (unsigned j = 0; j < warp_columns / 8; ++j) multiply_add(sums[i][j], a, b[j / 2].at[j % 2], b[j / 2].at[2 + j % 2]);
      }
    }

    if (more) put(turn ^ 1);  // before f, which wants the registers
    if (last_terms) {
      f(tile_row, sums);
#pragma unroll
      for (auto& piece : sums)
        for (auto& some : piece)
          for (float& sum : some) sum = 0;
    }
    if (!more) return;
  }
}

/// Lanes that differ in `bit` swap: of two neighbours' vectors each keeps what is of its own column.
template <unsigned bit>
__device__ inline void swap_across(float (&values)[4][2]) {
  const bool upper = threadIdx.x & bit;
#pragma unroll
  for (unsigned j = 0; j < 4; ++j) {
    if (j & bit) continue;
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      float &low = values[j][i], &high = values[j | bit][i];
      const float got = __shfl_xor_sync(~0u, upper ? low : high, bit);
      (upper ? low : high) = got;
    }
  }
}

/// Of a warp's tile a lane's results in full vectors: f(row, eight values of its columns). Four lanes have a row among them.
template <unsigned N, class F>
__device__ inline void for_each_row(Sums<N>& sums, const F& f) {
  using Mine = WarpTile<N>;
#pragma unroll
  for (unsigned i = 0; i < Mine::rows / 16; ++i) {
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      float parts[4][2];
#pragma unroll
      for (unsigned j = 0; j < 4; ++j) parts[j][0] = sums[i][j][2 * half], parts[j][1] = sums[i][j][2 * half + 1];
      swap_across<1>(parts);
      swap_across<2>(parts);
      float values[width];
#pragma unroll
      for (unsigned j = 0; j < width; ++j) values[j] = parts[j / 2][j % 2];
      f(Mine::row() + 16 * i + 8 * half + threadIdx.x % 32 / 4, values);
    }
  }
}

/// Where a lane's eight columns begin.
template <unsigned N>
__device__ inline unsigned column_of_lane() {
  return WarpTile<N>::column() + threadIdx.x % 4 * width;
}

/// Two sums a column of the block's tile. A lane has those of one of its eight columns, for its warp's rows.
template <unsigned N>
class ColumnSums {
 public:
  /// Adds what the eight lanes with the same columns bring.
  __device__ void add(NormSums<width>& share) {
    halve<16>(share.g), halve<16>(share.products);
    halve<8>(share.g), halve<8>(share.products);
    halve<4>(share.g), halve<4>(share.products);
    mine_[0] += share.g[0];
    mine_[1] += share.products[0];
  }

  /// f(column in the tile, first sum, second sum) over all rows of the block, one thread a column.
  template <class F>
  __device__ void finish(const F& f) const {
    using Tile = WarpTile<N>;
    __shared__ float of_warps[2][Tile::warps_m][N];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned column = column_of_lane<N>() + (lane & 16) / 4 + (lane & 8) / 4 + (lane & 4) / 4;
    of_warps[0][warp / Tile::warps_n][column] = mine_[0];
    of_warps[1][warp / Tile::warps_n][column] = mine_[1];
    __syncthreads();
    if (threadIdx.x >= N) return;
    float first = 0, second = 0;
    for (unsigned i = 0; i < Tile::warps_m; ++i) {
      first += of_warps[0][i][threadIdx.x];
      second += of_warps[1][i][threadIdx.x];
    }
    f(threadIdx.x, first, second);
  }

 private:
  /// Of two lanes that differ in `bit` the upper keeps the upper half of the sums, 16: 4 of 8, 8: 2 of 4, 4: 1 of 2.
  template <unsigned bit>
  static __device__ void halve(float (&values)[width]) {
    constexpr unsigned half = bit / 4;
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (unsigned i = 0; i < half; ++i) {
      const float kept = upper ? values[half + i] : values[i], given = upper ? values[i] : values[half + i];
      values[i] = kept + __shfl_xor_sync(~0u, given, bit);
    }
  }

  float mine_[2] = {};
};

/// blockIdx.x counts tiles of N channels of y, blockIdx.y rows of statistics.
template <unsigned N>
__global__ void __launch_bounds__(block_threads, blocks_a_multiprocessor)
    pointwise_forward(Matrix<const Element*> x, Norm norm, Matrix<const Element*> w, const float* b, Matrix<Element*> y,
                      float* statistics) {
  alignas(32) __shared__ float origin[N];  // y's first pixel of the block: deviations from it cancel little
  const unsigned first_column = blockIdx.x * N, first_row = blockIdx.y * tile_m, in_tile = column_of_lane<N>();
  const unsigned column = first_column + in_tile;
  ColumnSums<N> deviations;
  const auto put = [&](unsigned row, Sums<N>& sums) {
    NormSums<width> share;
    if (statistics != nullptr) {
      if (row == first_row) {
        if (WarpTile<N>::row() == 0 && threadIdx.x % 32 < 4) {
#pragma unroll
          for (unsigned j = 0; j < width; ++j) {
            const unsigned at = WarpTile<N>::column() + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
            const float offset = b != nullptr && first_column + at < y.columns ? b[first_column + at] : 0;
            origin[at] = to_float(from_float<Element>(sums[0][j / 2][j % 2] + offset));
          }
        }
        __syncthreads();
      }
    }
    for_each_row<N>(sums, [&](unsigned in_tile_row, float(&values)[width]) {
      const unsigned pixel = row + in_tile_row;
      if (pixel >= y.lines || column >= y.columns) return;
      if (b != nullptr) {
        float bias[width];
        load<width>(bias, b + column);
#pragma unroll
        for (unsigned i = 0; i < width; ++i) values[i] += bias[i];
      }
      store<width>(y.at(pixel, column), values);
      if (statistics == nullptr) return;
      float shift[width];
      load<width>(shift, origin + in_tile);
#pragma unroll
      for (unsigned i = 0; i < width; ++i) {
        const float d = to_float(from_float<Element>(values[i])) - shift[i];
        share.g[i] += d;
        share.products[i] += d * d;
      }
    });
    if (statistics != nullptr) deviations.add(share);
  };
  multiply<Terms::along, Terms::along, N>(x, norm, {first_row, x.lines, gridDim.y * tile_m}, w, {}, first_column,
                                          {0, x.columns, tile_k}, put);
  if (statistics == nullptr) return;
  unsigned count = 0;
  for (unsigned row = first_row; row < y.lines; row += gridDim.y * tile_m) count += min(tile_m, y.lines - row);
  deviations.finish([&](unsigned at, float sum, float squares) {
    if (first_column + at >= y.columns) return;
    float* row = statistics + std::size_t{blockIdx.y} * 3 * y.columns + first_column + at;
    const auto pixels = static_cast<float>(count);
    row[0] = pixels;
    row[y.columns] = origin[at] + sum / pixels;
    row[2 * y.columns] = squares - sum * (sum / pixels);
  });
}

/// blockIdx.x counts tiles of N channels of x, blockIdx.y rows of sums.
template <unsigned N>
__global__ void __launch_bounds__(block_threads, blocks_a_multiprocessor)
    pointwise_backward_data(Matrix<const Element*> dy, Matrix<const Element*> w, Matrix<const Element*> x, Norm norm,
                            Matrix<Element*> dx, bool accumulate, float* sums_of_g) {
  const unsigned first_column = blockIdx.x * N, column = first_column + column_of_lane<N>();
  const bool deferred = norm.coefficients != nullptr;
  ColumnSums<N> total;
  const auto put = [&](unsigned row, Sums<N>& sums) {
    const NormOf<width> mine = load_norm<width>(norm, column, deferred && column < dx.columns ? width : 0);
    NormSums<width> share;
    for_each_row<N>(sums, [&](unsigned in_tile_row, float(&values)[width]) {
      const unsigned pixel = row + in_tile_row;
      if (pixel >= dx.lines || column >= dx.columns) return;
      if (deferred) {
        float before[width];
        load<width>(before, x.at(pixel, column));
        derive<width>(mine, norm.activation, before, values, share);
      }
      write<width>(dx.at(pixel, column), values, accumulate);
    });
    if (deferred) total.add(share);
  };
  multiply<Terms::along, Terms::across, N>(dy, {}, {blockIdx.y * tile_m, dy.lines, gridDim.y * tile_m}, w, {}, first_column,
                                           {0, dy.columns, tile_k}, put);
  if (!deferred) return;
  total.finish([&](unsigned at, float g, float products) {
    if (first_column + at >= dx.columns) return;
    float* row = sums_of_g + std::size_t{blockIdx.y} * 2 * dx.columns + first_column + at;
    row[0] = g;
    row[dx.columns] = products;
  });
}

/// blockIdx.x counts tiles of N channels of x, blockIdx.z of `tile_m` channels of y, blockIdx.y chunks of pixels, each with
/// partial results of its own.
template <unsigned N>
__global__ void __launch_bounds__(block_threads, blocks_a_multiprocessor)
    pointwise_backward_filter(Matrix<const Element*> dy, Matrix<const Element*> x, Norm norm, unsigned chunk, float* partial) {
  const unsigned first_column = blockIdx.x * N, column = first_column + column_of_lane<N>(), first_row = blockIdx.z * tile_m;
  const unsigned first_pixel = blockIdx.y * chunk;
  float* dw = partial + std::size_t{blockIdx.y} * dy.columns * x.columns;
  const auto put = [&](unsigned row, Sums<N>& sums) {
    for_each_row<N>(sums, [&](unsigned in_tile_row, float(&values)[width]) {
      const unsigned k = row + in_tile_row;
      if (k < dy.columns && column < x.columns) store<width>(dw + std::size_t{k} * x.columns + column, values);
    });
  };
  multiply<Terms::across, Terms::across, N>(dy, {}, {first_row, first_row + 1, tile_m}, x, norm, first_column,
                                            {first_pixel, min(first_pixel + chunk, x.lines), tile_k}, put);
}

/// Whether the passes over x and y that are spared take longer than mma.sync loses, where products and not memory set the pace,
/// to the tensor cores' own way on Hopper, which cuDNN has. In bytes a pixel over the three passes: a deferred batch-norm
/// spares writing and reading z forward and about as much backward, statistics the reading of y. Estimated, not timed.
bool pays(const Conv& conv, unsigned c, unsigned k) {
  constexpr double ours = 100, cudnns = 200;  // FLOP in the time of a byte, on an H100
  const double flop = 2.0 * c * k, bytes = 2.0 * (c + k);
  const double lost = std::max(flop / ours, bytes) - std::max(flop / cudnns, bytes);
  return 3 * lost <= (conv.deferred ? 8.0 * c : 0) + (conv.statistics ? 2.0 * k : 0);
}

/// f(tile width) for so many columns.
template <unsigned Widest, class F>
void by_width(unsigned columns, const F& f) {
  if (columns <= 32) return f(std::integral_constant<unsigned, 32>{});
  if (columns <= 64 || Widest == 64) return f(std::integral_constant<unsigned, 64>{});
  f(std::integral_constant<unsigned, Widest>{});
}

unsigned tiles(unsigned columns, unsigned tile) {
  return (columns + tile - 1) / tile;
}

class PointwiseConv final : public ConvOp {
 public:
  PointwiseConv(Context& context, const Conv& conv, const Layout& x, const Layout& y)
      : context_(context),
        conv_(conv),
        pixels_(static_cast<unsigned>(x.shape.n * x.shape.h * x.shape.w)),
        c_(static_cast<unsigned>(x.shape.c)),
        k_(static_cast<unsigned>(y.shape.c)) {}

  int sum_rows() const override { return static_cast<int>(blocks_over_pixels(tiles(c_, widest_of_dx))); }
  int statistics_rows() const override { return static_cast<int>(blocks_over_pixels(tiles(k_, tile_n))); }

  void forward(const Tensor& x, const Deferred* deferred, const Tensor& w, const Tensor* b, const Tensor& y,
               const Tensor* statistics) override {
    require((b != nullptr) == conv_.bias && (b == nullptr || b->dtype == DType::f32), "conv: an f32 bias where there is one");
    require((statistics != nullptr) == conv_.statistics &&
                (statistics == nullptr || (statistics->dtype == DType::f32 && statistics->is_packed() &&
                                           statistics->shape == Shape{1, 1, statistics_rows(), 3 * y.shape.c})),
            "conv: packed f32 statistics in ", statistics_rows(), " rows where they are wanted");
    by_width<tile_n>(k_, [&](auto n) {
      launch("pointwise_forward", context_, {tiles(k_, tile_n), static_cast<unsigned>(statistics_rows())}, block_threads,
             pointwise_forward<n>, matrix<const Element>(x), norm_of(deferred, conv_.deferred), filter(w),
             b == nullptr ? nullptr : b->as<const float>(), matrix<Element>(y),
             statistics == nullptr ? nullptr : statistics->as<float>());
    });
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Deferred* deferred, const Tensor& dx, Write mode) override {
    const Matrix<const Element*> x = matrix<const Element>(deferred == nullptr ? dx : deferred->x);
    by_width<widest_of_dx>(c_, [&](auto n) {
      launch("pointwise_backward_data", context_, {tiles(c_, widest_of_dx), static_cast<unsigned>(sum_rows())}, block_threads,
             pointwise_backward_data<n>, matrix<const Element>(dy), filter(w), x, norm_of(deferred, conv_.deferred),
             matrix<Element>(dx), mode == Write::accumulate, sums_of(deferred, sum_rows()));
    });
  }

  void backward_filter(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dw, const Tensor* db,
                       Write mode) override {
    require(dw.dtype == DType::f32 && dw.is_packed(), "conv: dw is packed f32");
    // A block reads at least twice what it writes.
    constexpr unsigned least = 2 * tile_m;
    const unsigned wanted = std::max(blocks_a_multiprocessor * multiprocessors() / (tiles(c_, tile_n) * tiles(k_, tile_m)), 1u);
    const unsigned chunk = (std::max((pixels_ + wanted - 1) / wanted, least) + tile_k - 1) / tile_k * tile_k;
    const unsigned chunks = (pixels_ + chunk - 1) / chunk;
    auto* partial = reinterpret_cast<float*>(context_.scratch(std::size_t{chunks} * k_ * c_ * sizeof(float)));
    by_width<tile_n>(c_, [&](auto n) {
      launch("pointwise_backward_filter", context_, {tiles(c_, tile_n), chunks, tiles(k_, tile_m)}, block_threads,
             pointwise_backward_filter<n>, matrix<const Element>(dy), matrix<const Element>(x),
             norm_of(deferred, conv_.deferred), chunk, partial);
    });
    add_rows(context_, chunks, k_ * c_, partial, dw.as<float>(), mode);
    if (db != nullptr) column_sums(context_, dy, *db, mode, context_.scratch(column_sum_bytes(context_, dy)));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

 private:
  /// Of a block's pixels there is at least one.
  unsigned blocks_over_pixels(unsigned tiles_abreast) const {
    const unsigned wanted = std::max(blocks_a_multiprocessor * multiprocessors() / tiles_abreast, 1u);
    return std::min((pixels_ + tile_m - 1) / tile_m, wanted);
  }
  unsigned multiprocessors() const { return static_cast<unsigned>(context_.multiprocessors()); }

  template <class T>
  Matrix<T*> matrix(const Tensor& t) const {
    require(t.dtype == DType::bf16 && is_aligned(t, width), "conv: pixels of bf16 start on 16 bytes");
    return {t.as<T>(), static_cast<unsigned>(t.strides.w), pixels_, static_cast<unsigned>(t.shape.c)};
  }
  Matrix<const Element*> filter(const Tensor& w) const { return {w.as<const Element>(), c_, k_, c_}; }

  Context& context_;
  Conv conv_;
  unsigned pixels_, c_, k_;
};

/// All pixels equally far apart, and on 16 bytes if the first is; elements counted in 32 bits.
bool fits(const Layout& t) {
  return t.dtype == DType::bf16 && t.shape.c % width == 0 && t.strides.w % width == 0 && offset_of(t).even &&
         t.shape.n * t.strides.n <= std::numeric_limits<std::uint32_t>::max();
}

}  // namespace

std::unique_ptr<ConvOp> make_pointwise_conv(Context& context, const Conv& conv, const Layout& x, const Layout& y) {
  const Window& window = conv.window;
  const bool pointwise =
      window.kernel == Extent(1) && window.stride == Extent(1) && x.shape.h == y.shape.h && x.shape.w == y.shape.w;
  if (!pointwise || conv.groups != 1 || conv.activation != Activation::none || !fits(x) || !fits(y)) return nullptr;
  if (!pays(conv, static_cast<unsigned>(x.shape.c), static_cast<unsigned>(y.shape.c))) return nullptr;
  return std::make_unique<PointwiseConv>(context, conv, x, y);
}

}  // namespace microtome::cuda
