// Test only: as much of CUDA's runtime as the kernels here use, played on the host, so that their sources compile unchanged
// with a C++ compiler and run where there is no GPU. Blocks run one after another, the threads of one block by turns
// (machine.h).
#pragma once

#include "kernels/host_cuda/machine.h"

#include <math.h>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <source_location>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned columns = 1, unsigned rows = 1, unsigned layers = 1) : x(columns), y(rows), z(layers) {}
};

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

inline void __syncthreads(std::source_location at = std::source_location::current()) {
  microtome::host_cuda::wait_for_block(at.line());
}

/// Of whole warps only.
inline float __shfl_xor_sync(unsigned, float value, int mask, std::source_location at = std::source_location::current()) {
  struct Lane {
    float give;
    int mask;
    float got;
  } mine{value, mask, 0};
  microtome::host_cuda::with_warp(&mine, at.line(), [](void* const* of_lanes) {
    for (int i = 0; i < 32; ++i) {
      auto* lane = static_cast<Lane*>(of_lanes[i]);
      lane->got = static_cast<const Lane*>(of_lanes[i ^ lane->mask])->give;
    }
  });
  return mine.got;
}

inline int min(int a, int b) {
  return a < b ? a : b;
}
inline int max(int a, int b) {
  return a > b ? a : b;
}
inline unsigned min(unsigned a, unsigned b) {
  return a < b ? a : b;
}

enum cudaError_t {
  cudaSuccess,
  cudaErrorMemoryAllocation,
  cudaErrorCudartUnloading,
  cudaErrorInvalidConfiguration,
  cudaErrorLaunchFailure
};
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrL2CacheSize };
using cudaStream_t = void*;
inline constexpr unsigned cudaStreamNonBlocking = 1;

const char* cudaGetErrorName(cudaError_t status);
const char* cudaGetErrorString(cudaError_t status);
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  return *device = 0, cudaSuccess;
}
/// Three multiprocessors: small enough to be quick, and no power of two.
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = 3, cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = nullptr, cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() {
  return cudaSuccess;
}

struct cudaDeviceProp {
  char name[16] = "host";
  int multiProcessorCount = 3;
};
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  return *properties = {}, cudaSuccess;
}

/// Work is done when its call returns, so that a time is enough of an event.
using cudaEvent_t = std::chrono::steady_clock::time_point*;
inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return *event = new std::chrono::steady_clock::time_point, cudaSuccess;
}
inline constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return cudaEventCreate(event);
}
/// All streams are one here.
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t) {
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return delete event, cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  return *event = std::chrono::steady_clock::now(), cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
}
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  return *milliseconds = std::chrono::duration<float, std::milli>(*to - *from).count(), cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t) {
  return std::memset(data, value, bytes), cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total);
/// 256-byte aligned, every bit set: floats are NaN.
cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaFree(void* data);

struct cudaFuncAttributes {};
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) {
  return cudaSuccess;
}

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  cudaStream_t stream = nullptr;
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const dim3 &grid = config->gridDim, &block = config->blockDim;
  // The limits of compute capability 8.0 to 10.0.
  if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535 ||
      block.x * block.y * block.z == 0 || block.x * block.y * block.z > 1024)
    return cudaErrorInvalidConfiguration;
  gridDim = grid;
  blockDim = block;
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
        const bool done = microtome::host_cuda::run_block(
            block.x * block.y * block.z,
            [&](unsigned thread) {
              threadIdx = dim3(thread % block.x, thread / block.x % block.y, thread / block.x / block.y);
            },
            [&] { kernel(static_cast<Parameters>(arguments)...); });
        if (!done) return cudaErrorLaunchFailure;
      }
  return cudaSuccess;
}
