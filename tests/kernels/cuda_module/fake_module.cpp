// In the place of the CUDA module: of this version, with a GPU and ways to refuse; or of another, with nothing to call.
#include "engine/check.h"
#include "kernels/cuda_module.h"

#include <new>
#include <string_view>

namespace microtome {
namespace {

constexpr bool is_ours = std::string_view(FAKE_VERSION) == cuda_module_version;

std::unique_ptr<Backend> refuse(int ordinal, Precision, const BackendOptions&) {
  switch (ordinal) {
    case 0: fail(ExitCode::not_finite, "thrown in the module", {.found = "nothing"});
    case 1: fail_memory("no room in the module");
    default: throw std::bad_alloc();
  }
}

int device_count() {
  return 1;
}

}  // namespace

extern "C" const CudaModule microtome_cuda_module{FAKE_VERSION, is_ours ? refuse : nullptr, is_ours ? device_count : nullptr};

}  // namespace microtome
