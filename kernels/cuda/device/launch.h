// The one way a kernel is launched: on the context's stream, under a name that an error repeats.
#pragma once

#include "kernels/cuda/device/context.h"

#include <string_view>

namespace microtome::cuda {

/// Throws Error(ExitCode::machine). In a warm-up the kernel is loaded, not run.
template <class... Parameters, class... Arguments>
void launch(std::string_view name, Context& context, dim3 blocks, dim3 threads, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  cudaError_t status = cudaSuccess;
  if (context.warming_up()) {
    cudaFuncAttributes attributes;
    status = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel));
  } else {
    cudaLaunchConfig_t config{};
    config.gridDim = blocks;
    config.blockDim = threads;
    config.stream = context.stream();
    status = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  }
  if (status == cudaSuccess) return;
  fail(ExitCode::machine, fmt::format("CUDA kernel {}: {}", name, cudaGetErrorString(status)),
       {.where =
            fmt::format("{}x{}x{} blocks of {}x{}x{} threads", blocks.x, blocks.y, blocks.z, threads.x, threads.y, threads.z)});
}

}  // namespace microtome::cuda
