// Depthwise 3x3 at stride 1 or 2, by strips: a thread takes 16 bytes of channels of a few outputs side by side, a block up to
// 32 such vectors of many strips, filters in shared memory. Forward a thread walks down the image, so that of a strip's cells
// each row is read, and a deferred batch-norm applied, once; what is read again are the cells that neighbouring strips share
// and a walk's first rows. Backward one kernel goes over the cells of x, each of which meets the same nine dy for both
// gradients: x and dx once, dy nine times from L1 and once from memory; filter gradients stay in registers, and a second kernel
// adds blocks'. Numerics: float32, sums in a fixed order, rounded once; cells outside the image are 0 behind the activation.
#pragma once

#include "kernels/cuda/deferred.h"
#include "kernels/cuda/statistics.h"

#include <algorithm>

namespace microtome::cuda {

inline constexpr int side = 3, taps = side * side;
inline constexpr unsigned most_columns = 32;  // channel vectors a block

/// Blocks are small and threads hold many registers: three blocks a multiprocessor, and two with filter gradients.
inline constexpr unsigned strip_threads = 128;

/// Outputs, or cells, side by side: as many as registers allow.
template <int V>
inline constexpr int strip_length = V > 4 ? 2 : 4;

struct Geometry {
  Window window;
  int n, h, w, p, q;
  unsigned channels;
};

/// A tensor in memory; P is T* or const T*.
template <class P>
struct View {
  P data;
  Strides strides;

  __device__ P at(int n, int row, int column, unsigned channel) const {
    return data + (n * strides.n + row * strides.h + column * strides.w + channel);
  }
};

/// blockIdx.y counts tiles of `columns` channel vectors; a block goes over walks, `lanes` at a time. A walk is `rows` rows of a
/// strip.
struct Strips {
  unsigned columns, lanes, tiles;
  unsigned a_row, a_column, count;  // walks in a row of an image, in a column; in all
  int rows;
  unsigned blocks;
};

/// Equal tiles: 84 vectors are three times 28. Walks as long as leaves every multiprocessor enough of them, but no longer than
/// `longest`.
template <int V>
Strips strips_for(const Geometry& g, int rows, int strips_a_row, int longest, unsigned blocks) {
  const unsigned vectors = g.channels / V, tiles = (vectors + most_columns - 1) / most_columns;
  Strips s{(vectors + tiles - 1) / tiles, 0, tiles, static_cast<unsigned>(strips_a_row), 0, 0, 0, 0};
  s.lanes = strip_threads / s.columns;
  const unsigned at_once = std::max(blocks / tiles, 1u), strips = static_cast<unsigned>(g.n) * s.a_row;
  const auto all_rows = static_cast<unsigned>(rows);
  const unsigned walks = std::clamp((at_once * s.lanes + strips - 1) / strips, 1u, all_rows);
  s.rows = std::min(static_cast<int>((all_rows + walks - 1) / walks), longest);
  s.a_column = (all_rows + static_cast<unsigned>(s.rows) - 1) / static_cast<unsigned>(s.rows);
  s.count = strips * s.a_column;
  s.blocks = std::min((s.count + s.lanes - 1) / s.lanes, at_once);
  return s;
}

struct Post {
  unsigned column, lane, channel;  // the first channel
  bool idle;
};

template <int V>
__device__ inline Post post(const Strips& s, unsigned channels) {
  const unsigned column = threadIdx.x % s.columns, lane = threadIdx.x / s.columns;
  const unsigned channel = (blockIdx.y * s.columns + column) * V;
  return {column, lane, channel, lane >= s.lanes || channel >= channels};
}

struct Spot {
  int n, row, strip;  // image, first row, number of the strip in it
};

__device__ inline Spot spot_of(const Strips& s, unsigned number) {
  const unsigned line = number / s.a_row, image = line / s.a_column;
  return {static_cast<int>(image), static_cast<int>(line - image * s.a_column) * s.rows,
          static_cast<int>(number - line * s.a_row)};
}

/// The filters of a block's channels, tap by tap. The padding spreads what lies together in memory over the banks.
template <int V>
struct alignas(32) Filters {
  float at[taps][most_columns * V + 8];
};

template <class T, int V>
__device__ inline void load_filters(Filters<V>& filters, const Strips& s, unsigned channels, const T* w) {
  const unsigned first = blockIdx.y * s.columns * V, count = min(s.columns * V, channels - first) * taps;
  for (unsigned i = threadIdx.x; i < count; i += strip_threads)
    filters.at[i % taps][i / taps] = to_float(w[std::size_t{first} * taps + i]);
  __syncthreads();
}

/// The three taps of row r for a thread's channels.
template <int V>
__device__ inline void load_row(float (&row)[side][V], const Filters<V>& filters, int r, unsigned column) {
#pragma unroll
  for (int s = 0; s < side; ++s) load<V>(row[s], &filters.at[r * side + s][column * V]);
}

template <int V>
__device__ inline void add_products(float (&sums)[V], const float (&a)[V], const float (&b)[V]) {
#pragma unroll
  for (int k = 0; k < V; ++k) sums[k] += a[k] * b[k];
}

/// Each row of the image meets up to `open` rows of outputs: of them sums[0] is p's, which the row ends. rows: see Conv's
/// statistics, a block a row.
template <class T, int V, int Stride, bool Deferred, bool Statistics>
__global__ void __launch_bounds__(strip_threads, 3)
    depthwise_forward_strips(Geometry g, Strips strips, Activation activation, Norm norm, View<const T*> x, const T* w,
                             const float* b, View<T*> y, float* rows) {
  constexpr int length = strip_length<V>, wide = (length - 1) * Stride + side, open = (side + Stride - 1) / Stride;
  __shared__ Filters<V> filters;
  load_filters<T, V>(filters, strips, g.channels, w);
  const Post mine = post<V>(strips, g.channels);
  NormOf<V> coefficients{};
  if constexpr (Deferred) coefficients = load_norm<V>(norm, mine.channel, mine.idle ? 0 : V);
  Sample<V> sample;
  for (unsigned i = blockIdx.x * strips.lanes + mine.lane; !mine.idle && i < strips.count; i += gridDim.x * strips.lanes) {
    const Spot at = spot_of(strips, i);
    const int q = at.strip * length, left = q * Stride - g.window.before.w, end = min(at.row + strips.rows, g.p);
    float sums[open][length][V] = {};
    for (int p = at.row - open + 1; p < end; ++p) {
#pragma unroll
      for (int j = 0; j < Stride; ++j) {  // the rows under p's window that were not under that of p - 1
        const int last = side - Stride + j, row = p * Stride - g.window.before.h + last;
        if (row < 0 || row >= g.h || (p < at.row && j + 1 < Stride)) continue;
        float cells[wide][V] = {};
#pragma unroll
        for (int c = 0; c < wide; ++c) {
          if (left + c < 0 || left + c >= g.w) continue;
          load<V>(cells[c], x.at(at.n, row, left + c, mine.channel));
          if constexpr (Deferred) apply(coefficients, norm.activation, cells[c]);
        }
#pragma unroll
        for (int o = 0; o < open; ++o) {
          const int r = last - o * Stride;
          if (r < 0) continue;
          float filter[side][V];
          load_row<V>(filter, filters, r, mine.column);
#pragma unroll
          for (int s = 0; s < side; ++s) {
#pragma unroll
            for (int t = 0; t < length; ++t) add_products(sums[o][t], cells[t * Stride + s], filter[s]);
          }
        }
      }
#pragma unroll
      for (int t = 0; t < length; ++t) {
        if (p < at.row || q + t >= g.q) continue;
#pragma unroll
        for (int k = 0; k < V; ++k)
          sums[0][t][k] = activate(activation, b == nullptr ? sums[0][t][k] : sums[0][t][k] + b[mine.channel + k]);
        store<V>(y.at(at.n, p, q + t, mine.channel), sums[0][t]);
        if constexpr (Statistics) {
#pragma unroll
          for (int k = 0; k < V; ++k) sums[0][t][k] = to_float(from_float<T>(sums[0][t][k]));
          sample.add(sums[0][t]);
        }
      }
#pragma unroll
      for (int t = 0; t < length; ++t) {
#pragma unroll
        for (int k = 0; k < V; ++k) {
#pragma unroll
          for (int o = 0; o + 1 < open; ++o) sums[o][t][k] = sums[o + 1][t][k];
          sums[open - 1][t][k] = 0;
        }
      }
    }
  }
  if constexpr (Statistics)
    write_statistics<V, strip_threads>(rows + std::size_t{blockIdx.x} * 3 * g.channels, g.channels, mine.channel,
                                       mine.idle ? 0 : V, strips.columns, strips.lanes, sample);
}

/// Adds the filter gradients of a block's lanes and writes them to `row`, in dw's order.
template <int V>
__device__ inline void write_filters(float* row, const Geometry& g, const Strips& strips, const float (&dw)[taps][V]) {
  __shared__ float shares[V][strip_threads];
#pragma unroll
  for (int tap = 0; tap < taps; ++tap) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < V; ++k) shares[k][threadIdx.x] = dw[tap][k];
    __syncthreads();
    for (unsigned i = threadIdx.x; i < strips.columns * V; i += strip_threads) {
      const unsigned column = i % strips.columns, k = i / strips.columns;
      const unsigned channel = (blockIdx.y * strips.columns + column) * V + k;
      if (channel >= g.channels) continue;
      float sum = 0;
      for (unsigned lane = 0; lane < strips.lanes; ++lane) sum += shares[k][lane * strips.columns + column];
      row[std::size_t{channel} * taps + tap] = sum;
    }
  }
}

/// Strips of x and dx. They start at multiples of their length in the padded image, so that which dy meets which tap is known
/// beforehand: cell u and tap s belong to output q where u = q stride + s. A block leaves a row of sums (see Deferred), and one
/// of dw. x is null where neither is asked for.
template <class T, int V, int Stride, bool Data, bool Filter, bool Deferred>
__global__ void __launch_bounds__(strip_threads, Filter ? 2 : 3)
    depthwise_backward_strips(Geometry g, Strips strips, Norm norm, View<const T*> x, View<const T*> dy, const T* w,
                              View<T*> dx, bool accumulate, float* sums, float* partial) {
  constexpr int length = strip_length<V>;
  __shared__ Filters<V> filters;
  if constexpr (Data) load_filters<T, V>(filters, strips, g.channels, w);
  const Post mine = post<V>(strips, g.channels);
  NormOf<V> coefficients{};
  if constexpr (Deferred) coefficients = load_norm<V>(norm, mine.channel, mine.idle ? 0 : V);
  NormSums<V> norm_sums;
  float dw[taps][V] = {};
  for (unsigned i = blockIdx.x * strips.lanes + mine.lane; !mine.idle && i < strips.count; i += gridDim.x * strips.lanes) {
    const Spot at = spot_of(strips, i);
    const int u = (g.window.before.w / length + at.strip) * length, left = u - g.window.before.w;
    float z[length][V] = {}, dz[length][V] = {};
#pragma unroll
    for (int o = 0; Filter && o < length; ++o) {
      if (left + o < 0 || left + o >= g.w) continue;
      load<V>(z[o], x.at(at.n, at.row, left + o, mine.channel));
      if constexpr (Deferred) apply(coefficients, norm.activation, z[o]);
    }
#pragma unroll
    for (int r = 0; r < side; ++r) {
      const int v = at.row + g.window.before.h - r, p = v / Stride;
      if (v < 0 || v % Stride != 0 || p >= g.p) continue;
      float filter[side][V];
      if constexpr (Data) load_row<V>(filter, filters, r, mine.column);
#pragma unroll
      for (int start = 1 - side; start < length; ++start) {  // where the output's window starts in the strip
        if (start % Stride != 0) continue;
        const int q = (u + start) / Stride;
        float gradient[V] = {};
        if (u + start >= 0 && q < g.q) load<V>(gradient, dy.at(at.n, p, q, mine.channel));
#pragma unroll
        for (int s = 0; s < side; ++s) {
          if (start + s < 0 || start + s >= length) continue;
          if constexpr (Data) add_products(dz[start + s], gradient, filter[s]);
          if constexpr (Filter) add_products(dw[r * side + s], gradient, z[start + s]);
        }
      }
    }
#pragma unroll
    for (int o = 0; Data && o < length; ++o) {
      if (left + o < 0 || left + o >= g.w) continue;
      if constexpr (Deferred) {
        float value[V];
        load<V>(value, x.at(at.n, at.row, left + o, mine.channel));
        derive(coefficients, norm.activation, value, dz[o], norm_sums);
      }
      write<V>(dx.at(at.n, at.row, left + o, mine.channel), dz[o], accumulate);
    }
  }
  if constexpr (Filter) write_filters<V>(partial + std::size_t{blockIdx.x} * g.channels * taps, g, strips, dw);
  if constexpr (Data && Deferred)
    write_sums<V, strip_threads>(sums + std::size_t{blockIdx.x} * 2 * g.channels, g.channels, mine.channel, mine.idle ? 0 : V,
                                 strips.columns, strips.lanes, norm_sums);
}

}  // namespace microtome::cuda
