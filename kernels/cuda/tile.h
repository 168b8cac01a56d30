// How a block reduces over the pixels of a tensor, channel by channel: it takes up to 32 channel vectors of a chunk of pixels,
// a thread keeps its channels and walks down the chunk. Each block leaves one partial sum a channel; a second kernel, 32
// threads a channel, adds those of all chunks. Every sum has a fixed order, nothing is atomic: results repeat bit for bit.
#pragma once

#include "kernels/cuda/vector.h"

#include <algorithm>

namespace microtome::cuda {

/// `columns` channel vectors x `lanes` pixels a block; blockIdx.x counts tiles of channels, blockIdx.y chunks.
struct Tile {
  unsigned columns, lanes;
  unsigned channels, vectors;
  unsigned pixels, chunk;  // of the tensor; of a block
};

/// About four blocks a multiprocessor, unless that leaves a thread fewer than eight pixels. No channels, no tiles.
inline Tile tile_for(unsigned channels, unsigned pixels, int v, int multiprocessors) {
  const auto width = static_cast<unsigned>(v);
  Tile t{1, block_threads, channels, (channels + width - 1) / width, pixels, pixels};
  while (t.columns < std::min(t.vectors, 32u)) t.columns *= 2;
  t.lanes = block_threads / t.columns;
  const unsigned tiles = (t.vectors + t.columns - 1) / t.columns, wanted = 4 * static_cast<unsigned>(multiprocessors);
  const unsigned chunks = std::clamp(pixels / (8 * t.lanes), 1u, std::max(wanted / std::max(tiles, 1u), 1u));
  t.chunk = (pixels + chunks - 1) / chunks;
  return t;
}

inline dim3 grid(const Tile& t) {
  return {(t.vectors + t.columns - 1) / t.columns, (t.pixels + t.chunk - 1) / t.chunk};
}

/// A tile whose chunks are x's images.
inline Tile tile_of_images(const Layout& x, int v) {
  const auto cells = static_cast<unsigned>(x.shape.h * x.shape.w);
  Tile t = tile_for(static_cast<unsigned>(x.shape.c), static_cast<unsigned>(x.shape.n) * cells, v, 1);
  t.chunk = cells;
  return t;
}

struct ThreadCoordinates {
  unsigned channel, lane;
  int live;              // channels; 0 past the end
  unsigned first, last;  // pixels of the block
};

template <int V>
__device__ inline ThreadCoordinates thread_coordinates(const Tile& tile) {
  const unsigned column = threadIdx.x % tile.columns, vector = blockIdx.x * tile.columns + column;
  const unsigned channel = vector * V, first = blockIdx.y * tile.chunk;
  const unsigned left = vector < tile.vectors ? tile.channels - channel : 0;
  return {channel, threadIdx.x / tile.columns, left < V ? static_cast<int>(left) : V, first,
          min(first + tile.chunk, tile.pixels)};
}

/// Lane 0 gets the sums of its channels over the block's lanes; all of the block must call.
template <int V>
__device__ inline void sum_over_lanes(const Tile& tile, unsigned lane, float (&sum)[V]) {
  __shared__ float sums[V][block_threads];
#pragma unroll
  for (int i = 0; i < V; ++i) sums[i][threadIdx.x] = sum[i];
  for (unsigned half = tile.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) {
#pragma unroll
      for (int i = 0; i < V; ++i) sums[i][threadIdx.x] += sums[i][threadIdx.x + half * tile.columns];
    }
  }
  if (lane > 0) return;
#pragma unroll
  for (int i = 0; i < V; ++i) sum[i] = sums[i][threadIdx.x];
}

inline constexpr unsigned finish_channels = 8, finish_lanes = block_threads / finish_channels;

}  // namespace microtome::cuda
