// y = activation(a + b); dx (+)= dy, once for a and once for b.
// Mapping: one thread for 16 bytes of neighbours. Traffic: forward reads a and b, writes y; backward reads dy, writes dx (and
// reads it to accumulate). Numerics: float32, rounded once.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/activation.h"

namespace microtome::cuda {

namespace {

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    add_forward(Sheet sheet, Activation activation, const T* a, Place at_a, const T* b, Place at_b, T* y, Place at_y) {
  const Share mine = share<V>(sheet);
  if (mine.live == 0) return;
  float left[V] = {}, right[V] = {};
  load<V>(left, a + at_a(mine.row) + mine.column, mine.live);
  load<V>(right, b + at_b(mine.row) + mine.column, mine.live);
#pragma unroll
  for (int i = 0; i < V; ++i) left[i] = activate(activation, left[i] + right[i]);
  store<V>(y + at_y(mine.row) + mine.column, left, mine.live);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    add_backward(Sheet sheet, const T* dy, Place at_dy, T* dx, Place at_dx, bool accumulate) {
  const Share mine = share<V>(sheet);
  if (mine.live == 0) return;
  float gradient[V] = {};
  load<V>(gradient, dy + at_dy(mine.row) + mine.column, mine.live);
  write<V>(dx + at_dx(mine.row) + mine.column, gradient, accumulate, mine.live);
}

class CudaAdd final : public AddOp {
 public:
  CudaAdd(Context& context, const Add& kind) : context_(context), activation_(kind.activation) {}

  void forward(const Tensor& a, const Deferred*, const Tensor& b, const Deferred*, const Tensor& y) override {
    by_type(y.dtype, [&]<class T>(T) {
      const Walk walk(y, {&a, &b, &y}, vector_width<T>);
      launch("add_forward", context_, blocks_for(walk.sheet.count()), block_threads,
             walk.wide ? add_forward<T, vector_width<T>> : add_forward<T, 1>, walk.sheet, activation_, a.as<const T>(),
             place(a), b.as<const T>(), place(b), y.as<T>(), place(y));
    });
  }

  void backward(const Tensor& dy, const Deferred*, Side, const Tensor& dx, Write mode) override {
    by_type(dy.dtype, [&]<class T>(T) {
      const Walk walk(dy, {&dy, &dx}, vector_width<T>);
      launch("add_backward", context_, blocks_for(walk.sheet.count()), block_threads,
             walk.wide ? add_backward<T, vector_width<T>> : add_backward<T, 1>, walk.sheet, dy.as<const T>(), place(dy),
             dx.as<T>(), place(dx), mode == Write::accumulate);
    });
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  Context& context_;
  Activation activation_;
};

}  // namespace

std::unique_ptr<AddOp> make_add(Context& context, const Add& kind, const Layout& a, const Layout& b, const Layout& y) {
  require(a.shape == y.shape && b.shape == y.shape && a.dtype == y.dtype && b.dtype == y.dtype, "add: a ", to_string(a.shape),
          ", b ", to_string(b.shape), " and y ", to_string(y.shape), " differ");
  if (derivative_reads_x(kind.activation) || kind.deferred[0] || kind.deferred[1]) return nullptr;
  return std::make_unique<CudaAdd>(context, kind);
}

}  // namespace microtome::cuda
