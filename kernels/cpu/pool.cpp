// y[n,p,q,c] = activation(max or mean of x[n,h,w,c] over the cells of the window at (p, q) that lie inside the image).
// A maximum remembers the number of its cell in the window, in one byte. Backward walks dx, not dy: each cell asks the windows
// over it what they send, so that every element is written once, windows may overlap and no two threads meet.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "kernels/formulas/activation.h"

#include <vector>

namespace microtome {

namespace {

constexpr int killed = 255;  // the activation lets no gradient through

/// First and last + 1 of a range.
struct Range {
  int first, last;
  int size() const { return last - first; }
};

/// Cells of an image of `size` under window `p`.
Range cells_of(int p, int kernel, int stride, int before, int size) {
  const int first = p * stride - before;
  return {std::max(first, 0), std::min(first + kernel, size)};
}

/// Windows, of `count`, over cell `h`.
Range windows_over(int h, int kernel, int stride, int before, int count) {
  const int padded = h + before;
  return {padded < kernel ? 0 : (padded - kernel) / stride + 1, std::min(padded / stride + 1, count)};
}

class CpuPool final : public PoolOp {
 public:
  CpuPool(const Pool& kind, const Layout& x, const Layout& y) : kind_(kind), window_(kind.window), x_(x), y_(y) {
    require_f32(x, y);
    require(window_.output(x.shape, x.shape.c) == y.shape, "pool: ", to_string(x.shape), " does not give ", to_string(y.shape));
    for (const int p : {0, y.shape.h - 1})
      for (const int q : {0, y.shape.w - 1})
        require(rows(p).size() > 0 && columns(q).size() > 0, "pool: a window lies in the padding alone");
    if (is_max()) {
      require(window_.kernel.h * window_.kernel.w <= killed, "pool: a maximum over more than ", killed, " cells");
      winners_.resize(y.shape.count());
    }
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& x, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    const Shape& s = y.shape;
    const auto rows_of_y = std::int64_t{s.n} * s.h;
#pragma omp parallel for schedule(static)
    for (std::int64_t row = 0; row < rows_of_y; ++row)
      for (int q = 0; q < s.w; ++q) {
        const int n = static_cast<int>(row / s.h), p = static_cast<int>(row % s.h);
        float* to = pixel(y, n, p, q);
        if (is_max())
          max_forward(x, n, p, q, to, &winners_[(row * s.w + q) * s.c]);
        else
          average_forward(x, n, p, q, to);
      }
  }

  void backward(const Tensor& dy, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    const Shape& s = dx.shape;
    const auto rows_of_x = std::int64_t{s.n} * s.h;
    with_write(write, [&](auto accumulate) {
#pragma omp parallel for schedule(static)
      for (std::int64_t row = 0; row < rows_of_x; ++row)
        for (int w = 0; w < s.w; ++w) {
          const int n = static_cast<int>(row / s.h), h = static_cast<int>(row % s.h);
          if (is_max())
            max_backward(dy, n, h, w, pixel(dx, n, h, w), accumulate);
          else
            average_backward(dy, n, h, w, pixel(dx, n, h, w), accumulate);
        }
    });
  }

 private:
  bool is_max() const { return kind_.kind == Pool::Kind::max; }
  Range rows(int p) const { return cells_of(p, window_.kernel.h, window_.stride.h, window_.before.h, x_.shape.h); }
  Range columns(int q) const { return cells_of(q, window_.kernel.w, window_.stride.w, window_.before.w, x_.shape.w); }

  int number(int p, int q, int h, int w) const {
    return (h - p * window_.stride.h + window_.before.h) * window_.kernel.w + w - q * window_.stride.w + window_.before.w;
  }

  /// Calls f(Floats or float, c) so that all channels are met.
  template <class F>
  void for_channels(const F& f) const {
    int c = 0;
    for (; c + lanes <= x_.shape.c; c += lanes) f(Floats{}, c);
    for (; c < x_.shape.c; ++c) f(float{}, c);
  }

  void max_forward(const Tensor& x, int n, int p, int q, float* to, std::uint8_t* winner) const {
    const Range over = rows(p), across = columns(q);
    const bool relu = kind_.activation == Activation::relu;
    for_channels([&]<class V>(V, int c) {
      using I = std::conditional_t<std::is_same_v<V, float>, std::int32_t, Ints>;
      using B = std::conditional_t<std::is_same_v<V, float>, std::uint8_t, Bytes>;
      V best = load<V>(pixel(x, n, over.first, across.first) + c);
      I cell = I{} + number(p, q, over.first, across.first);
      for (int h = over.first; h < over.last; ++h)
        for (int w = across.first; w < across.last; ++w) {
          const V value = load<V>(pixel(x, n, h, w) + c);
          const auto wins = (value > best) | (value != value);  // not a number wins and stays
          best = wins ? value : best;
          cell = wins ? I{} + number(p, q, h, w) : cell;
        }
      if (relu) {
        cell = best > 0 ? cell : I{} + killed;
        best = best < 0 ? V{} : best;
      }
      store(to + c, best);
      if constexpr (std::is_same_v<V, float>)
        winner[c] = static_cast<B>(cell);
      else
        store(winner + c, __builtin_convertvector(cell, B));
    });
  }

  void average_forward(const Tensor& x, int n, int p, int q, float* to) const {
    const Range over = rows(p), across = columns(q);
    const auto count = static_cast<float>(over.size() * across.size());
    for_channels([&]<class V>(V, int c) {
      V sum{};
      for (int h = over.first; h < over.last; ++h)
        for (int w = across.first; w < across.last; ++w) sum += load<V>(pixel(x, n, h, w) + c);
      store(to + c, sum / count);
    });
  }

  void max_backward(const Tensor& dy, int n, int h, int w, float* to, bool accumulate) const {
    const Range over = row_windows(h), across = column_windows(w);
    for_channels([&]<class V>(V, int c) {
      V sum = accumulate ? load<V>(to + c) : V{};
      for (int p = over.first; p < over.last; ++p)
        for (int q = across.first; q < across.last; ++q) {
          const std::uint8_t* winner = &winners_[((std::int64_t{n} * y_.shape.h + p) * y_.shape.w + q) * y_.shape.c + c];
          const V gradient = load<V>(pixel(dy, n, p, q) + c);
          if constexpr (std::is_same_v<V, float>)
            sum += *winner == number(p, q, h, w) ? gradient : 0.0f;
          else
            sum += __builtin_convertvector(load<Bytes>(winner), Ints) == number(p, q, h, w) ? gradient : V{};
        }
      store(to + c, sum);
    });
  }

  void average_backward(const Tensor& dy, int n, int h, int w, float* to, bool accumulate) const {
    const Range over = row_windows(h), across = column_windows(w);
    for_channels([&]<class V>(V, int c) {
      V sum = accumulate ? load<V>(to + c) : V{};
      for (int p = over.first; p < over.last; ++p)
        for (int q = across.first; q < across.last; ++q)
          sum += load<V>(pixel(dy, n, p, q) + c) / static_cast<float>(rows(p).size() * columns(q).size());
      store(to + c, sum);
    });
  }

  Range row_windows(int h) const {
    return windows_over(h, window_.kernel.h, window_.stride.h, window_.before.h, y_.shape.h);
  }
  Range column_windows(int w) const {
    return windows_over(w, window_.kernel.w, window_.stride.w, window_.before.w, y_.shape.w);
  }

  Pool kind_;
  Window window_;
  Layout x_, y_;
  std::vector<std::uint8_t> winners_;  // of the last forward pass, one an output
};

}  // namespace

std::unique_ptr<PoolOp> make_cpu_pool(const Pool& kind, const Layout& x, const Layout& y) {
  const bool clamps = kind.activation != Activation::none;
  if (clamps && (kind.kind != Pool::Kind::max || kind.activation != Activation::relu)) return nullptr;
  return std::make_unique<CpuPool>(kind, x, y);
}

}  // namespace microtome
