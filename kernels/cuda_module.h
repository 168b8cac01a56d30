// What a program and the CUDA module agree upon: kernels/cuda is a shared object of its own, opened where a GPU is asked for.
#pragma once

#include "kernels/backend.h"
#include "kernels/sources.h"

#include <memory>

namespace microtome {

/// Of both sides. What crosses between them has the layouts and the meaning that the sources of engine/ and kernels/ give it,
/// so that a module of others will not do.
inline constexpr char cuda_module_version[] = MICROTOME_SOURCES;

struct CudaModule {
  const char* version;  // stays the first: of another version nothing else is read
  /// As make_cuda_backend.
  std::unique_ptr<Backend> (*make_backend)(int ordinal, Precision precision, const BackendOptions& options);
  /// Of the driver. Throws Error(ExitCode::machine) where that, or cuDNN, is older than what the module was built with.
  int (*device_count)();
};

/// All that the module exports. It has its own copy of engine/: what stands there in a variable is not the program's.
extern "C" [[gnu::visibility("default")]] const CudaModule microtome_cuda_module;

}  // namespace microtome
