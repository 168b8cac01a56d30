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
    activate_forward(Sheet sheet, Activation function, const T* x, Place at_x, T* y, Place at_y) {
  const Share mine = share<V>(sheet);
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
    activate_backward(Sheet sheet, Activation function, const T* source, Place at_source, const T* dy, Place at_dy, T* dx,
                      Place at_dx, bool accumulate) {
  const Share mine = share<V>(sheet);
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
      const Walk walk(x, {&x, &y}, vector_width<T>);
      launch("activate_forward", context_, blocks_for(walk.sheet.count()), block_threads,
             walk.wide ? activate_forward<T, vector_width<T>> : activate_forward<T, 1>, walk.sheet, function_, x.as<const T>(),
             place(x), y.as<T>(), place(y));
    });
  }

  void backward(const Tensor* x, const Tensor* y, const Tensor& dy, const Tensor& dx, Write mode) override {
    const Tensor* source = derivative_reads_x(function_) ? x : derivative_reads_y(function_) ? y : &dy;
    require(source != nullptr, "activate: the backward pass lacks a tensor that it reads");
    by_type(dy.dtype, [&]<class T>(T) {
      const Walk walk(dy, {source, &dy, &dx}, vector_width<T>);
      launch("activate_backward", context_, blocks_for(walk.sheet.count()), block_threads,
             walk.wide ? activate_backward<T, vector_width<T>> : activate_backward<T, 1>, walk.sheet, function_,
             source->as<const T>(), place(*source), dy.as<const T>(), place(dy), dx.as<T>(), place(dx),
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
