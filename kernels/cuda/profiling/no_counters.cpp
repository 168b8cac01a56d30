#include "kernels/cuda/profiling/counters.h"

namespace microtome::cuda {

std::unique_ptr<Counters> make_counters(ScopeListener*&, const std::vector<std::string>&, std::string& why) {
  why =
      "built without CUPTI's range profiler: the CUDA toolkit had no cupti_range_profiler.h; install 12.6 or later and build "
      "again";
  return nullptr;
}

}  // namespace microtome::cuda
