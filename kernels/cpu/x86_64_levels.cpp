// The sets of instructions are those of the x86-64 psABI; of SSE, AVX and AVX-512 those count whose registers the system saves.
#include "kernels/cpu/levels.h"

#include <sys/platform/x86.h>

namespace microtome {

std::unique_ptr<Backend> make_cpu_backend_v2(Precision);
std::unique_ptr<Backend> make_cpu_backend_v3(Precision);
std::unique_ptr<Backend> make_cpu_backend_v4(Precision);

namespace {

bool has_v2() {
  return CPU_FEATURE_ACTIVE(CMPXCHG16B) && CPU_FEATURE_ACTIVE(LAHF64_SAHF64) && CPU_FEATURE_ACTIVE(POPCNT) &&
         CPU_FEATURE_ACTIVE(SSE3) && CPU_FEATURE_ACTIVE(SSSE3) && CPU_FEATURE_ACTIVE(SSE4_1) && CPU_FEATURE_ACTIVE(SSE4_2);
}

bool has_v3() {
  return has_v2() && CPU_FEATURE_ACTIVE(AVX) && CPU_FEATURE_ACTIVE(AVX2) && CPU_FEATURE_ACTIVE(BMI1) &&
         CPU_FEATURE_ACTIVE(BMI2) && CPU_FEATURE_ACTIVE(F16C) && CPU_FEATURE_ACTIVE(FMA) && CPU_FEATURE_ACTIVE(LZCNT) &&
         CPU_FEATURE_ACTIVE(MOVBE);
}

bool has_v4() {
  return has_v3() && CPU_FEATURE_ACTIVE(AVX512F) && CPU_FEATURE_ACTIVE(AVX512BW) && CPU_FEATURE_ACTIVE(AVX512CD) &&
         CPU_FEATURE_ACTIVE(AVX512DQ) && CPU_FEATURE_ACTIVE(AVX512VL);
}

}  // namespace

std::span<const CpuLevel> cpu_levels() {
  static constexpr CpuLevel levels[] = {{"x86-64-v2", has_v2, make_cpu_backend_v2, dnnl_cpu_isa_sse41},
                                        {"x86-64-v3", has_v3, make_cpu_backend_v3, dnnl_cpu_isa_avx2},
                                        {"x86-64-v4", has_v4, make_cpu_backend_v4, dnnl_cpu_isa_avx512_core}};
  return levels;
}

}  // namespace microtome
