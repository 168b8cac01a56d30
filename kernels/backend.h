// The one door to the backends.
#pragma once

#include "engine/backend.h"

#include <memory>
#include <string_view>
#include <vector>

namespace microtome {

/// device: "cpu", "cuda:N", "reference" (naive loops in double), or "auto": cuda:0 where there is a GPU, else cpu.
/// Throws Error(ExitCode::machine) for a GPU that is not there or a precision that the device lacks, Error(ExitCode::usage)
/// for another name.
std::unique_ptr<Backend> make_backend(std::string_view device, Precision precision);

/// Implemented by kernels/reference, kernels/cpu, and kernels/cuda or kernels/no_cuda.cpp.
std::unique_ptr<Backend> make_reference_backend();
std::unique_ptr<Backend> make_cpu_backend(Precision precision);
std::unique_ptr<Backend> make_cuda_backend(int ordinal, Precision precision);

/// 0 without a GPU, without a driver, or in a build without CUDA; `why` then says which.
int cuda_device_count(std::string* why = nullptr);

}  // namespace microtome
