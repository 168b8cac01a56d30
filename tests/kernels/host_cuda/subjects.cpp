// The kernels of the CUDA backend on the host, threads in either order.
#include "kernels/harness.h"
#include "kernels/host_cuda/backend.h"

namespace microtome::test {

std::vector<Subject> subjects() {
  using enum Option;
  using host_cuda::Order;
  const std::set<Option> in_bf16{any_activation_in_conv, deferral_in_elementwise_dropout},
      in_f32{any_activation_in_conv, deferral_in_elementwise_dropout, deferral_in_pointwise_conv};
  return {
      {"host_f32", [] { return make_host_cuda_backend(Precision::f32, Order::ascending); }, 24, in_f32, true},
      {"host_f32_descending", [] { return make_host_cuda_backend(Precision::f32, Order::descending); }, 24, in_f32, true},
      {"host_bf16", [] { return make_host_cuda_backend(Precision::bf16, Order::ascending); }, 8, in_bf16, true},
      {"host_bf16_descending", [] { return make_host_cuda_backend(Precision::bf16, Order::descending); }, 8, in_bf16, true},
  };
}

}  // namespace microtome::test
