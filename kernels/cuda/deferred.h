// What a kernel does for a batch-norm that it applies (engine/ops.h, Deferred): z = activation((x - mean) scale + beta) for x
// where it reads, and where it holds dz, of x and dz the gradient's first term scale g and the partial sums of g and g (x -
// mean). A thread keeps its channels' coefficients in registers: three floats a channel, and two for the sums. Sums: float32
// within a block and in a fixed order; DeferredNormOp adds the blocks' rows in double.
#pragma once

#include "engine/check.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/activation.h"

namespace microtome::cuda {

/// A kernel's argument. Coefficients are null where nothing is deferred.
struct Norm {
  const float* coefficients = nullptr;  // rows mean, scale, beta
  unsigned channels = 0;                // a row
  Activation activation = Activation::none;
};

inline Norm norm_of(const Deferred* deferred, const DeferredNorm& option,
                    std::source_location at = std::source_location::current()) {
  require({(deferred != nullptr) == option.has_value(), at},
          "cuda: a deferred batch-norm where none was planned, or none where one was");
  if (deferred == nullptr) return {};
  const Tensor& c = deferred->coefficients;
  require({c.dtype == DType::f32 && c.is_packed() && c.shape == Shape{1, 1, 3, deferred->x.shape.c}, at},
          "cuda: the coefficients of a deferred batch-norm are ", to_string(c.shape), " and not three packed f32 rows of ",
          deferred->x.shape.c);
  return {c.as<const float>(), static_cast<unsigned>(c.shape.c), *option};
}

/// Where a backward pass leaves its `rows` rows of sums.
inline float* sums_of(const Deferred* deferred, int rows, std::source_location at = std::source_location::current()) {
  if (deferred == nullptr) return nullptr;
  const Tensor& s = deferred->sums;
  require({s.dtype == DType::f32 && s.is_packed() && s.shape == Shape{1, 1, rows, 2 * deferred->x.shape.c}, at},
          "cuda: the sums of a deferred batch-norm are ", to_string(s.shape), " and not ", rows, " packed f32 rows of ",
          2 * deferred->x.shape.c);
  return s.as<float>();
}

/// The coefficients of a thread's channels.
template <int V>
struct NormOf {
  float mean[V], scale[V], beta[V];
};

template <int V>
__device__ inline NormOf<V> load_norm(const Norm& norm, unsigned channel, int live = V) {
  NormOf<V> mine{};
  const float* row = norm.coefficients + channel;
  if (live == V && norm.channels % V == 0) {  // rows begin on boundaries of a vector
    load<V>(mine.mean, row);
    load<V>(mine.scale, row + norm.channels);
    load<V>(mine.beta, row + 2 * norm.channels);
    return mine;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i >= live) continue;
    mine.mean[i] = row[i];
    mine.scale[i] = row[norm.channels + i];
    mine.beta[i] = row[2 * norm.channels + i];
  }
  return mine;
}

/// x becomes z.
template <int V>
__device__ inline void apply(const NormOf<V>& norm, Activation activation, float (&values)[V]) {
  with_activation(activation, [&]<class A>(A) {
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = activate(A::value, (values[i] - norm.mean[i]) * norm.scale[i] + norm.beta[i]);
  });
}

/// f' at the value before the activation.
__device__ inline float derivative_at(Activation activation, float z) {
  return activation_derivative(activation, derivative_reads_y(activation) ? activate(activation, z) : z);
}

/// A thread's share of the sums.
template <int V>
struct NormSums {
  float g[V] = {}, products[V] = {};
};

/// dz becomes scale g, the gradient's first term; adds to the sums. x as loaded. Channels past the end must have dz = 0.
template <int V>
__device__ inline void derive(const NormOf<V>& norm, Activation activation, const float (&x)[V], float (&dz)[V],
                              NormSums<V>& sums) {
  with_activation(activation, [&]<class A>(A) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float d = x[i] - norm.mean[i], g = dz[i] * derivative_at(A::value, d * norm.scale[i] + norm.beta[i]);
      sums.g[i] += g;
      sums.products[i] += g * d;
      dz[i] = norm.scale[i] * g;
    }
  });
}

/// Adds the threads' shares over a block's lanes and writes them to `row`. A block is
/// `columns` channel vectors x `lanes`, thread = lane columns + column; threads beyond lanes x columns, and those without
/// channels, bring live = 0 and come along, since all of the block must meet the barriers.
template <int V, unsigned Threads>
__device__ inline void write_sums(float* row, unsigned channels, unsigned channel, int live, unsigned columns, unsigned lanes,
                                  const NormSums<V>& mine) {
  __shared__ float shares[2][V][Threads];
#pragma unroll
  for (int i = 0; i < V; ++i) {
    shares[0][i][threadIdx.x] = mine.g[i];
    shares[1][i][threadIdx.x] = mine.products[i];
  }
  for (unsigned left = lanes; left > 1;) {
    const unsigned kept = (left + 1) / 2, lane = threadIdx.x / columns;
    __syncthreads();
    if (lane + kept < left) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        shares[0][i][threadIdx.x] += shares[0][i][threadIdx.x + kept * columns];
        shares[1][i][threadIdx.x] += shares[1][i][threadIdx.x + kept * columns];
      }
    }
    left = kept;
  }
  if (threadIdx.x >= columns) return;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    if (i < live) {
      row[channel + i] = shares[0][i][threadIdx.x];
      row[channels + channel + i] = shares[1][i][threadIdx.x];
    }
  }
}

}  // namespace microtome::cuda
