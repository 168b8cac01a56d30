// Mean binary cross-entropy from logits, its metrics and its gradient (formulas/loss.h).
// Mapping: forward one block, a thread for every 256th image; backward one thread an image. Traffic: z and y once.
// Numerics: each image in float32, the sum in double, by a tree of fixed order.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/loss.h"

namespace microtome::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(block_threads)
    loss_forward(int count, std::int64_t stride, int batch_size, const T* z, const float* y, StepState* state,
                 BatchMetrics* metrics, float* scores) {
  __shared__ double sums[block_threads];
  __shared__ unsigned hits[block_threads];
  double sum = 0;
  unsigned correct = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += block_threads) {
    const float logit = to_float(z[i * stride]);
    sum += static_cast<double>(cross_entropy(logit, y[i]));
    correct += is_correct(logit, y[i]) ? 1 : 0;
    if (scores != nullptr) scores[state->batch * batch_size + i] = sigmoid(logit);
  }
  sums[threadIdx.x] = sum;
  hits[threadIdx.x] = correct;
  for (unsigned half = block_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      sums[threadIdx.x] += sums[threadIdx.x + half];
      hits[threadIdx.x] += hits[threadIdx.x + half];
    }
  }
  if (threadIdx.x != 0) return;
  const double mean = sums[0] / count;
  metrics[state->batch] = {mean, hits[0], static_cast<std::uint32_t>(count)};
  if (!isfinite(mean)) state->finite = 0;
}

template <class T, class G>
__global__ void __launch_bounds__(block_threads)
    loss_backward(int count, std::int64_t stride_z, std::int64_t stride_dz, const T* z, const float* y, G* dz) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count)
    dz[i * stride_dz] = from_float<G>(cross_entropy_derivative(to_float(z[i * stride_z]), y[i]) / static_cast<float>(count));
}

class CudaLoss final : public LossOp {
 public:
  CudaLoss(Context& context, const Loss& kind) : context_(context), kind_(kind) {}

  void forward(const Tensor& z, const Tensor& y, StepState* state, BatchMetrics* metrics, float* scores) override {
    by_type(z.dtype, [&]<class T>(T) {
      launch("loss_forward", context_, 1, block_threads, loss_forward<T>, z.shape.n, z.strides.n, kind_.batch_size,
             z.as<const T>(), y.as<const float>(), state, metrics, scores);
    });
  }

  void backward(const Tensor& z, const Tensor& y, const Tensor& dz) override {
    by_type(z.dtype, [&]<class T>(T) {
      by_type(dz.dtype, [&]<class G>(G) {
        launch("loss_backward", context_, blocks_for(static_cast<unsigned>(z.shape.n)), block_threads, loss_backward<T, G>,
               z.shape.n, z.strides.n, dz.strides.n, z.as<const T>(), y.as<const float>(), dz.as<G>());
      });
    });
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  Context& context_;
  Loss kind_;
};

}  // namespace

std::unique_ptr<LossOp> make_loss(Context& context, const Loss& kind, const Layout& z) {
  require(z.shape.h == 1 && z.shape.w == 1 && z.shape.c == 1, "loss: one logit an image, not ", to_string(z.shape));
  return std::make_unique<CudaLoss>(context, kind);
}

}  // namespace microtome::cuda
