// The vendor's status as our Error, at the line that asked; the twin for destructors only says it on stderr.
#pragma once

#include "engine/check.h"

#include <cuda_runtime.h>

#include <cstdio>

namespace microtome::cuda {

/// Throws OutOfMemory where memory ran out, Error(ExitCode::machine) for all else that CUDA refuses.
inline void check(cudaError_t status, std::source_location at = std::source_location::current()) {
  if (status == cudaSuccess) return;
  const std::string what = fmt::format("CUDA: {} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
  if (status == cudaErrorMemoryAllocation) fail_memory(what, {.next = "use a smaller batch, or free the GPU's memory"}, at);
  fail(ExitCode::machine, what, {}, at);
}

inline void check_nothrow(cudaError_t status, std::source_location at = std::source_location::current()) noexcept {
  // A process that ends may have lost its driver already; that is not worth a line.
  if (status == cudaSuccess || status == cudaErrorCudartUnloading) return;
  std::fprintf(stderr, "%s:%u: CUDA: %s\n", at.file_name(), static_cast<unsigned>(at.line()), cudaGetErrorString(status));
}

}  // namespace microtome::cuda
