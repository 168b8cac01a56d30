// Partial statistics of a batch-norm's input, channel by channel: of a thread's values, of a block's. A row, as a producer
// leaves it (engine/ops.h, ConvOp): number, mean and sum of squared deviations of the values it covers, each `channels` long.
// Numerics: float32; deviations are from the thread's first value, so that no digits go to a distant mean, and merge pairwise
// [Chan1979], in a fixed order.
#pragma once

#include "kernels/cuda/vector.h"

namespace microtome::cuda {

/// A thread's values, of V channels.
template <int V>
struct Sample {
  unsigned count = 0;
  float origin[V] = {}, sum[V] = {}, squares[V] = {};

  __device__ void add(const float (&values)[V]) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (count == 0) origin[i] = values[i];
      const float d = values[i] - origin[i];
      sum[i] += d;
      squares[i] += d * d;
    }
    ++count;
  }
};

/// Merges the samples of a block's lanes into `row`. Block and `live` as for write_sums (deferred.h).
template <int V, unsigned Threads>
__device__ inline void write_statistics(float* row, unsigned channels, unsigned channel, int live, unsigned columns,
                                        unsigned lanes, const Sample<V>& mine) {
  __shared__ float counts[Threads], means[V][Threads], squares[V][Threads];
  const auto n = static_cast<float>(mine.count);
  counts[threadIdx.x] = n;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float shift = mine.count == 0 ? 0 : mine.sum[i] / n;
    means[i][threadIdx.x] = mine.origin[i] + shift;
    squares[i][threadIdx.x] = mine.squares[i] - mine.sum[i] * shift;
  }
  const unsigned lane = threadIdx.x / columns;
  for (unsigned left = lanes; left > 1;) {
    const unsigned kept = (left + 1) / 2, other = threadIdx.x + kept * columns;
    __syncthreads();
    if (lane + kept < left && counts[other] > 0) {
      const float a = counts[threadIdx.x], b = counts[other], share = b / (a + b);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const float difference = means[i][other] - means[i][threadIdx.x];
        means[i][threadIdx.x] += difference * share;
        squares[i][threadIdx.x] += squares[i][other] + difference * difference * a * share;
      }
      counts[threadIdx.x] = a + b;
    }
    left = kept;
  }
  if (threadIdx.x >= columns) return;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < live) {
      row[channel + i] = counts[threadIdx.x];
      row[channels + channel + i] = means[i][threadIdx.x];
      row[2 * channels + channel + i] = squares[i][threadIdx.x];
    }
  }
}

}  // namespace microtome::cuda
