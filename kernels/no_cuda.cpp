// In the place of kernels/cuda where there was no CUDA toolkit to build it with.
#include "engine/check.h"
#include "kernels/backend.h"

namespace microtome {

std::unique_ptr<Backend> make_cuda_backend(int, Precision, const BackendOptions&) {
  fail(ExitCode::machine, "built without CUDA",
       {.next = "use --device cpu, or install the CUDA toolkit (12.4 or later) with cuDNN 9 and build again"});
}

int cuda_device_count(std::string* why) {
  if (why != nullptr) *why = "built without CUDA";
  return 0;
}

}  // namespace microtome
