// How ops that go pixel by pixel walk where a batch-norm is deferred (deferred.h): by the tiles of tile.h, in which a thread
// keeps its channels and so their coefficients.
#pragma once

#include "kernels/cuda/deferred.h"
#include "kernels/cuda/tile.h"

namespace microtome::cuda {

inline Tile tile_over(const Layout& t, int v, int multiprocessors) {
  return tile_for(static_cast<unsigned>(t.shape.c), static_cast<unsigned>(t.shape.n * t.shape.h * t.shape.w), v,
                  multiprocessors);
}

/// For passes that leave no sums: four times the blocks, so that the last of them weigh little.
inline Tile streaming_tile(const Layout& t, int v, int multiprocessors) {
  return tile_over(t, v, 4 * multiprocessors);
}

/// For passes that leave a row of sums a chunk: all blocks run at once, so many a multiprocessor as a kernel's registers allow
/// without a spill. As many chunks whether or not the tensors' alignment allows vectors, since the number of rows is asked for
/// before tensors are there.
inline constexpr int summing_blocks = 3;  // up to 80 registers a thread
inline int sum_rows_of(const Layout& t, int multiprocessors, int blocks = summing_blocks) {
  return static_cast<int>(
      grid(tile_over(t, vector_width_of(t.dtype), multiprocessors * blocks / 4)).y);  // tile_for reckons with four
}
inline Tile summing_tile(const Layout& t, int v, int rows) {
  Tile tile = tile_over(t, v, 1);
  tile.chunk = (tile.pixels + static_cast<unsigned>(rows) - 1) / static_cast<unsigned>(rows);
  return tile;
}

/// A backward pass with z = f(x) deferred: dz(pixel, thread, gradient) fills in the op's own part, of thread.live channels.
template <class T, int V, class F>
__device__ inline void backward_through(const Tile& tile, const Norm& norm, const T* x, const PixelOffset& at_x, T* dx,
                                        const PixelOffset& at_dx, bool accumulate, float* sums, F&& dz) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  NormSums<V> share;
  if (mine.live > 0) {
    const NormOf<V> of_mine = load_norm<V>(norm, mine.channel, mine.live);
    for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
      float value[V] = {}, gradient[V] = {};
      load<V>(value, x + at_x(pixel) + mine.channel, mine.live);
      dz(pixel, mine, gradient);
      derive<V>(of_mine, norm.activation, value, gradient, share);
      write<V>(dx + at_dx(pixel) + mine.channel, gradient, accumulate, mine.live);
    }
  }
  write_sums<V, block_threads>(sums + std::size_t{blockIdx.y} * 2 * tile.channels, tile.channels, mine.channel, mine.live,
                               tile.columns, tile.lanes, share);
}

}  // namespace microtome::cuda
