// y[n,p,q,c] = activation(max or mean of x[n,h,w,c] over the cells of the window at (p, q) that lie inside the image).
// A maximum remembers the number of its cell in the window, in one byte. Backward walks dx, not dy: each cell asks the windows
// over it what they send, so that every element is written once, windows may overlap and no two threads meet.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lane.h"
#include "kernels/cpu/simd.h"

#include <vector>

namespace microtome {

namespace {

constexpr int killed = 255;  // the activation lets no gradient through

/// First and last + 1 of a range.
struct Range {
  int first, last;
  int size() const { return last - first; }
};

/// For each window along one side of an image: the cells under it. For each cell: the windows over it.
struct Side {
  Side(int size, int count, int kernel, int step, int padding) : stride(step), before(padding) {
    for (int p = 0; p < count; ++p)
      cells.push_back({std::max(p * stride - before, 0), std::min(p * stride - before + kernel, size)});
    for (int h = 0; h < size; ++h) {
      const int padded = h + before;
      windows.push_back({padded < kernel ? 0 : (padded - kernel) / stride + 1, std::min(padded / stride + 1, count)});
    }
  }
  /// Of cell h in window p.
  int number(int p, int h) const { return h - p * stride + before; }

  int stride, before;
  std::vector<Range> cells, windows;
};

class CpuPool final : public PoolOp {
 public:
  CpuPool(const Pool& kind, const Layout& x, const Layout& y)
      : kind_(kind),
        x_(x),
        y_(y),
        vertical_(x.shape.h, y.shape.h, kind.window.kernel.h, kind.window.stride.h, kind.window.before.h),
        horizontal_(x.shape.w, y.shape.w, kind.window.kernel.w, kind.window.stride.w, kind.window.before.w) {
    require_f32(x, y);
    require(kind.window.output(x.shape, x.shape.c) == y.shape, "pool: ", to_string(x.shape), " does not give ",
            to_string(y.shape));
    for (const Side* side : {&vertical_, &horizontal_})
      for (const Range& cells : side->cells) require(cells.size() > 0, "pool: a window lies in the padding alone");
    if (is_max()) {
      require(kind.window.kernel.h * kind.window.kernel.w <= killed, "pool: a maximum over more than ", killed, " cells");
      winners_.resize(y.shape.count()), memory.kept = winners_.size();
    }
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& x, const Deferred*, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    const Shape& s = y.shape;
    const auto rows_of_y = std::int64_t{s.n} * s.h;
#pragma omp parallel for schedule(static)
    for (std::int64_t row = 0; row < rows_of_y; ++row)
      for (int q = 0; q < s.w; ++q) {
        const int n = static_cast<int>(row / s.h), p = static_cast<int>(row % s.h);
        float* to = pixel(y, n, p, q);
        if (is_max())
          max_forward(x, n, p, q, to);
        else
          average_forward(x, n, p, q, to);
      }
  }

  void backward(const Tensor& dy, const Deferred*, const Tensor& dx, Write write) override {
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
  bool is_max() const {
    return kind_.kind == Pool::Kind::max;
  }
  std::uint8_t* winners(int n, int p, int q) {
    return winners_.data() + ((std::int64_t{n} * y_.shape.h + p) * y_.shape.w + q) * y_.shape.c;
  }

  /// Calls f(Floats or float, c) so that all channels are met.
  template <class F>
  void for_channels(const F& f) const {
    int c = 0;
    for (; c + lanes <= x_.shape.c; c += lanes) f(Floats{}, c);
    for (; c < x_.shape.c; ++c) f(float{}, c);
  }

  void max_forward(const Tensor& x, int n, int p, int q, float* to) {
    const Range over = vertical_.cells[p], across = horizontal_.cells[q];
    const int columns = kind_.window.kernel.w, corner = vertical_.number(p, 0) * columns + horizontal_.number(q, 0);
    const bool relu = kind_.activation == Activation::relu;
    std::uint8_t* winner = winners(n, p, q);
    for_channels([&]<class V>(V, int c) {
      using I = std::conditional_t<std::is_same_v<V, float>, std::int32_t, Ints>;
      V best = load<V>(pixel(x, n, over.first, across.first) + c);
      I cell = I{} + (corner + over.first * columns + across.first);
      for (int h = over.first; h < over.last; ++h)
        for (int w = across.first; w < across.last; ++w) {
          const V value = load<V>(pixel(x, n, h, w) + c);
          const auto wins = (value > best) | (value != value);  // not a number wins and stays
          best = wins ? value : best;
          cell = wins ? I{} + (corner + h * columns + w) : cell;
        }
      if (relu) {
        cell = best > 0 ? cell : I{} + killed;
        best = best < 0 ? V{} : best;
      }
      store(to + c, best);
      if constexpr (std::is_same_v<V, float>)
        winner[c] = static_cast<std::uint8_t>(cell);
      else
        store(winner + c, narrow(cell));
    });
  }

  void average_forward(const Tensor& x, int n, int p, int q, float* to) const {
    const Range over = vertical_.cells[p], across = horizontal_.cells[q];
    const auto count = static_cast<float>(over.size() * across.size());
    for_channels([&]<class V>(V, int c) {
      V sum{};
      for (int h = over.first; h < over.last; ++h)
        for (int w = across.first; w < across.last; ++w) sum += load<V>(pixel(x, n, h, w) + c);
      store(to + c, sum / count);
    });
  }

  void max_backward(const Tensor& dy, int n, int h, int w, float* to, bool accumulate) {
    const Range over = vertical_.windows[h], across = horizontal_.windows[w];
    for_channels([&]<class V>(V, int c) {
      V sum = accumulate ? load<V>(to + c) : V{};
      for (int p = over.first; p < over.last; ++p)
        for (int q = across.first; q < across.last; ++q) {
          const int cell = vertical_.number(p, h) * kind_.window.kernel.w + horizontal_.number(q, w);
          const std::uint8_t* winner = winners(n, p, q) + c;
          const V gradient = load<V>(pixel(dy, n, p, q) + c);
          if constexpr (std::is_same_v<V, float>)
            sum += *winner == cell ? gradient : 0.0f;
          else
            sum += widen(load<Bytes>(winner)) == cell ? gradient : V{};
        }
      store(to + c, sum);
    });
  }

  void average_backward(const Tensor& dy, int n, int h, int w, float* to, bool accumulate) const {
    const Range over = vertical_.windows[h], across = horizontal_.windows[w];
    for_channels([&]<class V>(V, int c) {
      V sum = accumulate ? load<V>(to + c) : V{};
      for (int p = over.first; p < over.last; ++p)
        for (int q = across.first; q < across.last; ++q) {
          const auto count = static_cast<float>(vertical_.cells[p].size() * horizontal_.cells[q].size());
          sum += load<V>(pixel(dy, n, p, q) + c) / count;
        }
      store(to + c, sum);
    });
  }

  Pool kind_;
  Layout x_, y_;
  Side vertical_, horizontal_;
  std::vector<std::uint8_t> winners_;  // of the last forward pass, one an output
};

}  // namespace

std::unique_ptr<PoolOp> make_cpu_pool(const Pool& kind, const Layout& x, const Layout& y) {
  const bool clamps = kind.activation != Activation::none;
  if (clamps && (kind.kind != Pool::Kind::max || kind.activation != Activation::relu)) return nullptr;
  return std::make_unique<CpuPool>(kind, x, y);
}

}  // namespace microtome
