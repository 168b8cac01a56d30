// Of a build for one kind of processor.
#include "kernels/cpu/levels.h"

namespace microtome {

std::unique_ptr<Backend> make_cpu_backend_built(Precision);

std::span<const CpuLevel> cpu_levels() {
  static constexpr CpuLevel level[] = {{MICROTOME_CPU_LEVEL, [] { return true; }, make_cpu_backend_built, dnnl_cpu_isa_all}};
  return level;
}

}  // namespace microtome
