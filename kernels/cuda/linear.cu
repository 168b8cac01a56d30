// to (+)= activation(from + bias), and db = the sum of dy over pixels.
// Mapping: epilogue one thread for V neighbours of a pixel's channels; column sums as in tile.h. Traffic: every tensor once.
// Numerics: float32, results rounded once.
#include "kernels/cuda/linear.h"

#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/tile.h"
#include "kernels/formulas/activation.h"

namespace microtome::cuda {

namespace {

template <class From, class To, int V>
__global__ void __launch_bounds__(block_threads)
    linear_epilogue(WorkExtent extent, Activation activation, const From* from, PixelOffset at_from, const float* bias, To* to,
                    PixelOffset at_to, bool accumulate) {
  const Slice mine = slice<V>(extent);
  if (mine.live == 0) return;
  float values[V] = {};
  load<V>(values, from + at_from(mine.row) + mine.column, mine.live);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (bias != nullptr && i < mine.live) values[i] += bias[mine.column + i];
    values[i] = activate(activation, values[i]);
  }
  write<V>(to + at_to(mine.row) + mine.column, values, accumulate, mine.live);
}

/// partial: chunks x channels.
template <class T, int V>
__global__ void __launch_bounds__(block_threads) linear_column_sums(Tile tile, const T* dy, PixelOffset at_dy, float* partial) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  float sum[V] = {};
  if (mine.live > 0) {
    for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
      float gradient[V] = {};
      load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] += gradient[i];
    }
  }
  __shared__ float sums[V][block_threads];
#pragma unroll
  for (int i = 0; i < V; ++i) sums[i][threadIdx.x] = sum[i];
  for (unsigned half = tile.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (mine.lane < half) {
#pragma unroll
      for (int i = 0; i < V; ++i) sums[i][threadIdx.x] += sums[i][threadIdx.x + half * tile.columns];
    }
  }
  if (mine.lane != 0) return;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < mine.live) partial[std::size_t{blockIdx.y} * tile.channels + mine.channel + i] = sums[i][threadIdx.x];
  }
}

__global__ void __launch_bounds__(block_threads)
    linear_add_rows(unsigned rows, unsigned count, const float* partial, float* to, bool accumulate) {
  __shared__ float sums[finish_lanes][finish_channels];
  const unsigned column = threadIdx.x % finish_channels, lane = threadIdx.x / finish_channels;
  const unsigned element = blockIdx.x * finish_channels + column;
  float sum = 0;
  if (element < count) {
    for (unsigned row = lane; row < rows; row += finish_lanes) sum += partial[std::size_t{row} * count + element];
  }
  sums[lane][column] = sum;
  for (unsigned half = finish_lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) sums[lane][column] += sums[lane + half][column];
  }
  if (lane == 0 && element < count) to[element] = accumulate ? to[element] + sums[0][column] : sums[0][column];
}

Tile tile_of(const Context& context, const Layout& dy, int v) {
  return tile_for(static_cast<unsigned>(dy.shape.c), static_cast<unsigned>(dy.shape.n * dy.shape.h * dy.shape.w), v,
                  context.multiprocessors());
}

}  // namespace

void epilogue(Context& context, const Tensor& from, const Tensor* bias, Activation activation, const Tensor& to, Write mode) {
  by_type(from.dtype, [&]<class From>(From) {
    by_type(to.dtype, [&]<class To>(To) {
      constexpr int widest = vector_width<float>;
      const VectorLaunch vectors(to, {&from, &to}, widest, bias != nullptr);
      launch("linear_epilogue", context, blocks_for(vectors.extent.count()), block_threads,
             vectors.wide ? linear_epilogue<From, To, widest> : linear_epilogue<From, To, 1>, vectors.extent, activation,
             from.as<const From>(), offset_of(from), bias == nullptr ? nullptr : bias->as<const float>(), to.as<To>(),
             offset_of(to), mode == Write::accumulate);
    });
  });
}

void column_sums(Context& context, const Tensor& dy, const Tensor& db, Write mode, void* partial) {
  by_type(dy.dtype, [&]<class T>(T) {
    constexpr int widest = vector_width<T>;
    const bool wide = is_aligned(dy, widest);
    const Tile tile = tile_of(context, dy, wide ? widest : 1);
    auto* sums = static_cast<float*>(partial);
    const dim3 blocks = grid(tile);
    launch("linear_column_sums", context, blocks, block_threads,
           wide ? linear_column_sums<T, widest> : linear_column_sums<T, 1>, tile, dy.as<const T>(), offset_of(dy), sums);
    add_rows(context, blocks.y, tile.channels, sums, db.as<float>(), mode);
  });
}

void add_rows(Context& context, unsigned rows, unsigned count, const float* partial, float* to, Write mode) {
  launch("linear_add_rows", context, (count + finish_channels - 1) / finish_channels, block_threads, linear_add_rows, rows,
         count, partial, to, mode == Write::accumulate);
}

std::size_t column_sum_bytes(const Context& context, const Layout& dy) {
  const auto bytes = [&](int v) {
    const Tile tile = tile_of(context, dy, v);
    return std::size_t{grid(tile).y} * tile.channels * sizeof(float);
  };
  return std::max(bytes(1), bytes(dy.dtype == DType::bf16 ? vector_width<__nv_bfloat16> : vector_width<float>));
}

}  // namespace microtome::cuda
