// y[n,h,w,c] = x[n,h,w,c] gate[n,c]; dx[n,h,w,c] = dy[n,h,w,c] gate[n,c]; dgate[n,c] = sum over h,w of x[n,h,w,c] dy[n,h,w,c].
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

namespace microtome {

namespace {

class CpuMultiply final : public MultiplyOp {
 public:
  CpuMultiply(const Layout& x, const Layout& gate, const Layout& y) : x_(x), gate_(gate), y_(y) {
    require_f32(x, y), require_f32(gate, y);
    require(x.shape == y.shape && gate.shape == Shape{x.shape.n, 1, 1, x.shape.c}, "multiply: ", to_string(x.shape), " and ",
            to_string(gate.shape), " do not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& x, const Deferred*, const Tensor& gate, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(gate, gate_, "gate"), require_layout(y, y_, "y");
    scale(x, gate, y, Write::overwrite);
  }

  void backward_data(const Tensor& dy, const Tensor& gate, const Deferred*, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(gate, gate_, "gate"), require_layout(dx, x_, "dx");
    scale(dy, gate, dx, write);
  }

  void backward_gate(const Tensor& x, const Deferred*, const Tensor& dy, const Tensor& dgate, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_layout(dgate, gate_, "dgate");
#pragma omp parallel for schedule(static)
    for (int n = 0; n < x.shape.n; ++n) {
      float* to = pixel(dgate, n, 0, 0);
      const auto sum = [&]<class V>(V total, int c) {
        for (int h = 0; h < x.shape.h; ++h)
          for (int w = 0; w < x.shape.w; ++w) total += load<V>(pixel(x, n, h, w) + c) * load<V>(pixel(dy, n, h, w) + c);
        store(to + c, write == Write::accumulate ? load<V>(to + c) + total : total);
      };
      int c = 0;
      for (; c + lanes <= x.shape.c; c += lanes) sum(Floats{}, c);
      for (; c < x.shape.c; ++c) sum(0.0f, c);
    }
  }

 private:
  static void scale(const Tensor& from, const Tensor& gate, const Tensor& to, Write write) {
    const std::int64_t rows = std::int64_t{from.shape.n} * from.shape.h;
    with_write(write, [&](auto accumulate) {
#pragma omp parallel for schedule(static)
      for (std::int64_t row = 0; row < rows; ++row) {
        const int n = static_cast<int>(row / from.shape.h), h = static_cast<int>(row % from.shape.h);
        const float* factors = pixel(gate, n, 0, 0);
        for (int w = 0; w < from.shape.w; ++w) {
          const float* in = pixel(from, n, h, w);
          float* out = pixel(to, n, h, w);
#pragma omp simd
          for (int c = 0; c < from.shape.c; ++c) out[c] = accumulate ? out[c] + in[c] * factors[c] : in[c] * factors[c];
        }
      }
    });
  }

  Layout x_, gate_, y_;
};

}  // namespace

std::unique_ptr<MultiplyOp> make_cpu_multiply(const Layout& x, const Layout& gate, const Layout& y) {
  return std::make_unique<CpuMultiply>(x, gate, y);
}

}  // namespace microtome
