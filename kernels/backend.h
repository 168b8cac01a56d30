// The one door to the backends.
#pragma once

#include "engine/backend.h"

#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace microtome {

/// How to choose among ways that compute the same. Only CUDA has a choice; the other backends always sum in one order.
struct BackendOptions {
  bool deterministic = false;        // no engine that sums in an order of chance: the same bits twice
  bool autotune = false;             // time the engines on the device rather than trust their vendor's first choice
  std::filesystem::path plan_cache;  // keeps what was timed from one run to the next; empty: nowhere
  bool defer = true;  // batch-norms are applied by what reads them, where there is a kernel that does; off: to compare
  int streams = 5;    // side by side: for branches, the last one for filter gradients; 1: all in order
};

/// device: "cpu", "cuda:N", "reference" (naive loops in double), or "auto": cuda:0 where there is a GPU, else cpu, which says
/// why on stderr where there is what belongs to a GPU and cannot be used.
/// Throws Error(ExitCode::machine) for a GPU that is not there or a precision that the device lacks, Error(ExitCode::usage)
/// for another name.
std::unique_ptr<Backend> make_backend(std::string_view device, Precision precision, const BackendOptions& options = {});

/// Implemented by kernels/reference, kernels/cpu, and kernels/cuda, a module that cuda_module.cpp opens.
std::unique_ptr<Backend> make_reference_backend();
std::unique_ptr<Backend> make_cpu_backend(Precision precision);  // throws Error(ExitCode::machine) on too old a processor
std::unique_ptr<Backend> make_cuda_backend(int ordinal, Precision precision, const BackendOptions& options);

/// The level of instructions of the CPU backend's loops: the processor's best of those that were compiled, "x86-64-v3", or a
/// lower one that MICROTOME_ISA names; "native" in a build for its own machine. Throws as make_cpu_backend does, and
/// Error(ExitCode::usage) for a MICROTOME_ISA that names none.
std::string_view cpu_instructions();

/// 0 without a GPU, without a driver or without the CUDA module; `why` then says which. Throws Error(ExitCode::machine) where
/// driver and module are there and cannot be used: one of another version, too old, or without a library of its own.
int cuda_device_count(std::string* why = nullptr);

}  // namespace microtome
