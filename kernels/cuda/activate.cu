// y = f(x); dx = f'(x) dy, with f' from y where y decides it.
// Mapping: one thread for 16 bytes of neighbours. Traffic: forward reads x, writes y; backward reads dy and x or y, writes dx
// (and reads it to accumulate). Numerics: float32, rounded once.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/activation.h"

namespace microtome::cuda {

namespace {

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    activate_forward(WorkExtent extent, Activation function, const T* x, PixelOffset at_x, T* y, PixelOffset at_y) {
  const Slice mine = slice<V>(extent);
  if (mine.live == 0) return;
  float values[V] = {};
  load<V>(values, x + at_x(mine.row) + mine.column, mine.live);
#pragma unroll
  for (int i = 0; i < V; ++i) values[i] = activate(function, values[i]);
  store<V>(y + at_y(mine.row) + mine.column, values, mine.live);
}

/// `source` is x or y, whichever the function's derivative reads.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    activate_backward(WorkExtent extent, Activation function, const T* source, PixelOffset at_source, const T* dy,
                      PixelOffset at_dy, T* dx, PixelOffset at_dx, bool accumulate) {
  const Slice mine = slice<V>(extent);
  if (mine.live == 0) return;
  float values[V] = {}, gradient[V] = {};
  load<V>(values, source + at_source(mine.row) + mine.column, mine.live);
  load<V>(gradient, dy + at_dy(mine.row) + mine.column, mine.live);
#pragma unroll
  for (int i = 0; i < V; ++i) gradient[i] *= activation_derivative(function, values[i]);
  write<V>(dx + at_dx(mine.row) + mine.column, gradient, accumulate, mine.live);
}

class CudaActivate final : public ActivateOp {
 public:
  CudaActivate(Context& context, const Activate& kind) : context_(context), function_(kind.function) {}

  void forward(const Tensor& x, const Tensor& y) override {
    by_type(x.dtype, [&]<class T>(T) {
      const VectorLaunch vectors(x, {&x, &y}, vector_width<T>);
      launch("activate_forward", context_, blocks_for(vectors.extent.count()), block_threads,
             vectors.wide ? activate_forward<T, vector_width<T>> : activate_forward<T, 1>, vectors.extent, function_,
             x.as<const T>(), offset_of(x), y.as<T>(), offset_of(y));
    });
  }

  void backward(const Tensor* x, const Tensor* y, const Tensor& dy, const Tensor& dx, Write mode) override {
    const Tensor* source = derivative_reads_x(function_) ? x : derivative_reads_y(function_) ? y : &dy;
    require(source != nullptr, "activate: the backward pass lacks a tensor that it reads");
    by_type(dy.dtype, [&]<class T>(T) {
      const VectorLaunch vectors(dy, {source, &dy, &dx}, vector_width<T>);
      launch("activate_backward", context_, blocks_for(vectors.extent.count()), block_threads,
             vectors.wide ? activate_backward<T, vector_width<T>> : activate_backward<T, 1>, vectors.extent, function_,
             source->as<const T>(), offset_of(*source), dy.as<const T>(), offset_of(dy), dx.as<T>(), offset_of(dx),
             mode == Write::accumulate);
    });
  }

  Reads backward_reads() const override { return {.x = derivative_reads_x(function_), .y = derivative_reads_y(function_)}; }
  std::string implementation() const override { return "own"; }

 private:
  Context& context_;
  Activation function_;
};

}  // namespace

std::unique_ptr<ActivateOp> make_activate(Context& context, const Activate& kind, const Layout& x, const Layout& y) {
  require(x.shape == y.shape && x.dtype == y.dtype, "activate: x ", to_string(x.shape), " and y ", to_string(y.shape),
          " differ");
  return std::make_unique<CudaActivate>(context, kind);
}

}  // namespace microtome::cuda
