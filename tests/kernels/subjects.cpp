// The backends that kernels/backend.h makes, in every precision they have.
#include "kernels/backend.h"
#include "kernels/harness.h"

namespace microtome::test {

std::vector<Subject> subjects() {
  using enum Option;
  const std::set<Option> by_cpu{relu_in_average_pool, deferral, deferral_in_pointwise_conv, deferral_in_elementwise_dropout},
      by_cuda_in_bf16{any_activation_in_conv, deferral_in_elementwise_dropout},
      by_cuda_in_f32{any_activation_in_conv, deferral_in_elementwise_dropout, deferral_in_pointwise_conv};
  return {
      {"cpu", [] { return make_backend("cpu", Precision::f32); }, 24, by_cpu},
      {"cuda0_f32", [] { return make_backend("cuda:0", Precision::f32); }, 24, by_cuda_in_f32},
      {"cuda0_tf32", [] { return make_backend("cuda:0", Precision::tf32); }, 11, by_cuda_in_f32},
      {"cuda0_bf16", [] { return make_backend("cuda:0", Precision::bf16); }, 8, by_cuda_in_bf16},
  };
}

}  // namespace microtome::test
