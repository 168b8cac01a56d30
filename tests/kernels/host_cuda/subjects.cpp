// The kernels of the CUDA backend on the host, threads in either order.
#include "kernels/harness.h"
#include "kernels/host_cuda/backend.h"

namespace microtome::test {

std::vector<Subject> subjects() {
  using host_cuda::Order;
  return {
      {"host_f32", [] { return make_host_cuda_backend(Precision::f32, Order::ascending); }, 24},
      {"host_f32_descending", [] { return make_host_cuda_backend(Precision::f32, Order::descending); }, 24},
      {"host_bf16", [] { return make_host_cuda_backend(Precision::bf16, Order::ascending); }, 8},
      {"host_bf16_descending", [] { return make_host_cuda_backend(Precision::bf16, Order::descending); }, 8},
  };
}

}  // namespace microtome::test
