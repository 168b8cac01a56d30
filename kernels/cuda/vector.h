// Elements in registers as float, in memory as float or bf16; sixteen bytes at a time where alignment allows.
#pragma once

#include "engine/check.h"
#include "engine/tensor.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>

namespace microtome::cuda {

__host__ __device__ inline float to_float(float value) {
  return value;
}
__host__ __device__ inline float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <class T>
__host__ __device__ inline T from_float(float value) {
  if constexpr (sizeof(T) == sizeof(__nv_bfloat16)) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

template <class T>
inline constexpr int vector_width = 16 / sizeof(T);
inline int vector_width_of(DType type) {
  return static_cast<int>(16 / size_bytes(type));
}

template <class T, int V>
struct alignas(sizeof(T) * V) Vector {
  T at[V];
};

/// `live` of V neighbours; the others stay as they are. All V in one access where all are live.
template <int V, class T>
__device__ inline void load(float (&values)[V], const T* from, int live = V) {
  if (live == V) {
    const auto vector = *reinterpret_cast<const Vector<T, V>*>(from);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = to_float(vector.at[i]);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < live) values[i] = to_float(from[i]);
    }
  }
}

template <int V, class T>
__device__ inline void store(T* to, const float (&values)[V], int live = V) {
  if (live == V) {
    Vector<T, V> vector;
#pragma unroll
    for (int i = 0; i < V; ++i) vector.at[i] = from_float<T>(values[i]);
    *reinterpret_cast<Vector<T, V>*>(to) = vector;
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < live) to[i] = from_float<T>(values[i]);
    }
  }
}

/// Stores, or adds to what is there; a sum is rounded once.
template <int V, class T>
__device__ inline void write(T* to, float (&values)[V], bool accumulate, int live = V) {
  if (accumulate) {
    float before[V] = {};
    load<V>(before, to, live);
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] += before[i];
  }
  store<V>(to, values, live);
}

/// Where a pixel's channels begin, counted in elements; pixels are numbered in the order N H W.
struct PixelOffset {
  std::int64_t n = 0, h = 0, w = 0;
  unsigned columns = 1, cells = 1;
  bool even = true;  // all neighbours equally far apart: no division

  __host__ __device__ std::int64_t operator()(unsigned pixel) const {
    if (even) return pixel * w;
    const unsigned image = pixel / cells, cell = pixel % cells;
    return image * n + cell / columns * h + cell % columns * w;
  }
};

inline PixelOffset offset_of(const Layout& t) {
  const auto columns = static_cast<unsigned>(t.shape.w), cells = static_cast<unsigned>(t.shape.h * t.shape.w);
  return {t.strides.n, t.strides.h, t.strides.w,
          columns,     cells,       t.strides.h == t.strides.w * t.shape.w && t.strides.n == t.strides.h * t.shape.h};
}

/// Whether every pixel of the tensor begins on a boundary of `width` of its elements.
inline bool is_aligned(const Tensor& t, int width) {
  return reinterpret_cast<std::uintptr_t>(t.data) % (size_bytes(t.dtype) * static_cast<unsigned>(width)) == 0 &&
         t.strides.n % width == 0 && t.strides.h % width == 0 && t.strides.w % width == 0;
}

/// An element-wise kernel's work: `rows` rows of `width` elements, `vectors` of them a row. Packed tensors are one row.
struct WorkExtent {
  unsigned rows = 1, width = 0, vectors = 0;

  unsigned count() const { return rows * vectors; }
};

/// How threads walk tensors of one shape. A packed one is a single row; with `by_pixel` every pixel stays a row of its own, so
/// that a column is a channel.
struct VectorLaunch {
  WorkExtent extent;
  bool wide = true;  // `widest` elements a thread, else one

  VectorLaunch(const Layout& like, std::initializer_list<const Tensor*> tensors, int widest, bool by_pixel = false) {
    bool flat = !by_pixel;
    for (const Tensor* t : tensors) flat = flat && t->is_packed();
    for (const Tensor* t : tensors) {
      const std::size_t vector_bytes = size_bytes(t->dtype) * static_cast<unsigned>(widest);
      wide = wide && (flat ? reinterpret_cast<std::uintptr_t>(t->data) % vector_bytes == 0 : is_aligned(*t, widest));
    }
    const Shape& s = like.shape;
    extent.rows = flat ? 1u : static_cast<unsigned>(s.n * s.h * s.w);
    extent.width = flat ? static_cast<unsigned>(s.count()) : static_cast<unsigned>(s.c);
    const auto v = static_cast<unsigned>(wide ? widest : 1);
    extent.vectors = (extent.width + v - 1) / v;
  }
};

/// One thread's share of the elements.
struct Slice {
  unsigned row, column;  // of the first element
  int live;              // elements; 0 past the end
};

template <int V>
__device__ inline Slice slice(const WorkExtent& extent) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= extent.rows * extent.vectors) return {0, 0, 0};
  const unsigned row = extent.rows == 1 ? 0 : i / extent.vectors;
  const unsigned column = (i - row * extent.vectors) * V;
  const unsigned left = extent.width - column;
  return {row, column, left < V ? static_cast<int>(left) : V};
}

inline constexpr unsigned block_threads = 256;

inline unsigned blocks_for(unsigned threads) {
  return (threads + block_threads - 1) / block_threads;
}

/// Calls `f` with a value of the element type that a tensor's dtype names.
template <class F>
void by_type(DType type, F f) {
  require(type == DType::f32 || type == DType::bf16, "cuda: no kernels for ", name(type));
  type == DType::f32 ? f(float{}) : f(__nv_bfloat16{});
}

}  // namespace microtome::cuda
