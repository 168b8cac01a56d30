// The backends that kernels/backend.h makes, in every precision they have.
#include "kernels/backend.h"
#include "kernels/harness.h"

namespace microtome::test {

std::vector<Subject> subjects() {
  return {
      {"cpu", [] { return make_backend("cpu", Precision::f32); }, 24},
      {"cuda0_f32", [] { return make_backend("cuda:0", Precision::f32); }, 24},
      {"cuda0_tf32", [] { return make_backend("cuda:0", Precision::tf32); }, 11},
      {"cuda0_bf16", [] { return make_backend("cuda:0", Precision::bf16); }, 8},
  };
}

}  // namespace microtome::test
