// An optimiser over all parameters at once (formulas/optimizer.h).
// Mapping: one thread for four neighbours, blocks striding over the array. Traffic a parameter: reads g m v w, writes m v w and
// the low-precision copy, 28 + 2 bytes. Numerics: float32, what is one for all, Adam's alpha in double, once a block; nothing
// is written where the loss was not finite.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/optimizer.h"

#include <algorithm>

namespace microtome::cuda {

namespace {

constexpr int width = vector_width<float>;

/// `low_precision` may be null. The arrays are aligned to 16 bytes.
template <class Kind>
__global__ void __launch_bounds__(block_threads)
    optimizer_update(std::int64_t count, Kind kind, const StepState* state, const float* dw, float* w, float* m, float* v,
                     __nv_bfloat16* low_precision) {
  __shared__ decltype(optimizer_step<float>(kind, *state)) step;
  if (state->finite == 0) return;
  if (threadIdx.x == 0) step = optimizer_step<float>(kind, *state);
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
    for (int j = 0; j < width; ++j) microtome::optimizer_update(g[j], step, weight[j], first[j], second[j]);
    store<width>(w + i, weight, live);
    store<width>(m + i, first, live);
    store<width>(v + i, second, live);
    if (low_precision != nullptr) store<width>(low_precision + i, weight, live);
  }
}

template <class Kind>
class CudaOptimizer final : public OptimizerOp {
 public:
  CudaOptimizer(Context& context, const Kind& kind, std::int64_t count) : context_(context), kind_(kind), count_(count) {}

  void update(const Tensor& dw, const StepState* state, const Tensor& w, const Tensor& m, const Tensor& v,
              const Tensor* low_precision) override {
    for (const Tensor* t : {&dw, &w, &m, &v}) {
      require(t->dtype == DType::f32 && is_aligned(*t, 1) && reinterpret_cast<std::uintptr_t>(t->data) % 16 == 0,
              "an optimiser: gradients, weights and moments are f32 and aligned to 16 bytes");
    }
    require(low_precision == nullptr ||
                (low_precision->dtype == DType::bf16 && reinterpret_cast<std::uintptr_t>(low_precision->data) % 8 == 0),
            "an optimiser: the low-precision copy is bf16 and aligned to 8 bytes");
    // Eight blocks fill a multiprocessor; with no more than these, a block's share is computed as seldom as can be.
    const auto threads = static_cast<unsigned>((count_ + width - 1) / width);
    const unsigned blocks = std::min(blocks_for(threads), 8u * static_cast<unsigned>(context_.multiprocessors()));
    launch("optimizer_update", context_, blocks, block_threads, optimizer_update<Kind>, count_, kind_, state,
           dw.as<const float>(), w.as<float>(), m.as<float>(), v.as<float>(),
           low_precision == nullptr ? nullptr : low_precision->as<__nv_bfloat16>());
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  Context& context_;
  Kind kind_;
  std::int64_t count_;
};

}  // namespace

std::unique_ptr<OptimizerOp> make_optimizer(Context& context, const Optimizer& kind, std::int64_t count) {
  return std::visit(
      [&]<class Kind>(const Kind& k) -> std::unique_ptr<OptimizerOp> {
        return std::make_unique<CudaOptimizer<Kind>>(context, k, count);
      },
      kind);
}

}  // namespace microtome::cuda
