// Keras' Adam over all parameters at once (formulas/adam.h).
// Mapping: one thread for four neighbours, blocks striding over the array. Traffic a parameter: reads g m v w, writes m v w and
// the low-precision copy, 28 + 2 bytes. Numerics: float32, alpha once a block in double; nothing is written where the loss was
// not finite.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/adam.h"

#include <algorithm>

namespace microtome::cuda {

namespace {

constexpr int width = vector_width<float>;

/// `low_precision` may be null. The arrays are aligned to 16 bytes.
__global__ void __launch_bounds__(block_threads)
    adam_update_all(std::int64_t count, Adam kind, const StepState* state, const float* dw, float* w, float* m, float* v,
                    __nv_bfloat16* low_precision) {
  __shared__ AdamStep<float> step;
  if (state->finite == 0) return;
  if (threadIdx.x == 0) step = adam_step<float>(kind, *state);
  __syncthreads();

  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x * width;
  for (std::int64_t i = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * width; i < count; i += stride) {
    const int live = count - i < width ? static_cast<int>(count - i) : width;
    float g[width] = {}, weight[width] = {}, first[width] = {}, second[width] = {};
    load<width>(g, dw + i, live);
    load<width>(weight, w + i, live);
    load<width>(first, m + i, live);
    load<width>(second, v + i, live);
#pragma unroll
    for (int j = 0; j < width; ++j) adam_update(g[j], step, weight[j], first[j], second[j]);
    store<width>(w + i, weight, live);
    store<width>(m + i, first, live);
    store<width>(v + i, second, live);
    if (low_precision != nullptr) store<width>(low_precision + i, weight, live);
  }
}

class CudaAdam final : public AdamOp {
 public:
  CudaAdam(Context& context, const Adam& kind, std::int64_t count) : context_(context), kind_(kind), count_(count) {}

  void update(const Tensor& dw, const StepState* state, const Tensor& w, const Tensor& m, const Tensor& v,
              const Tensor* low_precision) override {
    for (const Tensor* t : {&dw, &w, &m, &v}) {
      require(t->dtype == DType::f32 && is_aligned(*t, 1) && reinterpret_cast<std::uintptr_t>(t->data) % 16 == 0,
              "adam: gradients, weights and moments are f32 and aligned to 16 bytes");
    }
    require(low_precision == nullptr ||
                (low_precision->dtype == DType::bf16 && reinterpret_cast<std::uintptr_t>(low_precision->data) % 8 == 0),
            "adam: the low-precision copy is bf16 and aligned to 8 bytes");
    // Eight blocks fill a multiprocessor; with no more than these, alpha is computed as seldom as can be.
    const auto threads = static_cast<unsigned>((count_ + width - 1) / width);
    const unsigned blocks = std::min(blocks_for(threads), 8u * static_cast<unsigned>(context_.multiprocessors()));
    launch("adam_update_all", context_, blocks, block_threads, adam_update_all, count_, kind_, state, dw.as<const float>(),
           w.as<float>(), m.as<float>(), v.as<float>(),
           low_precision == nullptr ? nullptr : low_precision->as<__nv_bfloat16>());
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  Context& context_;
  Adam kind_;
  std::int64_t count_;
};

}  // namespace

std::unique_ptr<AdamOp> make_adam(Context& context, const Adam& kind, std::int64_t count) {
  return std::make_unique<CudaAdam>(context, kind, count);
}

}  // namespace microtome::cuda
