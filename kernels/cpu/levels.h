// The CPU backend's code is compiled once for each of some levels of instructions; one of them serves a process.
#pragma once

#include "kernels/backend.h"

#include <oneapi/dnnl/dnnl.h>

#include <span>

namespace microtome {

struct CpuLevel {
  const char* name;   // "x86-64-v3"
  bool (*is_here)();  // whether processor and system have it
  std::unique_ptr<Backend> (*make)(Precision);
  dnnl_cpu_isa_t onednn;  // what oneDNN is held to where this level is asked for
};

/// Those of this build, the lowest first: x86_64_levels.cpp or one_level.cpp.
std::span<const CpuLevel> cpu_levels();

}  // namespace microtome
