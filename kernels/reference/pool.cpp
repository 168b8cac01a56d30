// y[n,p,q,c] = activation(max or mean of x[n,h,w,c] over the cells of the window at (p, q) that lie inside the image).
// A maximum's gradient goes to its first cell in row-major order, a mean's in equal parts to its cells.
#include "kernels/formulas/activation.h"
#include "kernels/reference/reference.h"

#include <algorithm>
#include <vector>

namespace microtome {

namespace {

template <class T>
class ReferencePool final : public PoolOp {
 public:
  ReferencePool(const Pool& kind, const Layout& x, const Layout& y) : kind_(kind), x_(x), y_(y), winners_(y.shape.count()) {
    require_types<T>(x, y);
    require(kind.window.output(x.shape, x.shape.c) == y.shape, "pool: ", to_string(x.shape), " does not give ",
            to_string(y.shape));
    for (const int p : {0, y.shape.h - 1})
      for (const int q : {0, y.shape.w - 1}) require(!cells(p, q).empty(), "pool: a window lies in the padding alone");
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    Cell* winner = winners_.data();
    for_each(y.shape, [&](int n, int p, int q, int c) {
      const std::vector<Cell> in = cells(p, q);
      const auto value = [&](Cell cell) { return at<T>(x, n, cell.h, cell.w, c); };
      *winner = *std::max_element(in.begin(), in.end(), [&](Cell a, Cell b) { return value(a) < value(b); });
      T pooled = value(*winner);
      if (kind_.kind == Pool::Kind::average) {
        pooled = 0;
        for (const Cell cell : in) pooled += value(cell);
        pooled /= static_cast<T>(in.size());
      }
      const T activated = microtome::activate(kind_.activation, pooled);
      winner->live = kind_.activation == Activation::none || activated > T(0);
      at<T>(y, n, p, q, c) = activated;
      ++winner;
    });
  }

  void backward(const Tensor& dy, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    if (write == Write::overwrite) for_each(dx.shape, [&](int n, int h, int w, int c) { at<T>(dx, n, h, w, c) = 0; });
    const Cell* winner = winners_.data();
    for_each(dy.shape, [&](int n, int p, int q, int c) {
      const std::vector<Cell> in = kind_.kind == Pool::Kind::max ? std::vector{*winner} : cells(p, q);
      for (const Cell cell : in)
        if (winner->live) at<T>(dx, n, cell.h, cell.w, c) += at<T>(dy, n, p, q, c) / static_cast<T>(in.size());
      ++winner;
    });
  }

 private:
  struct Cell {
    int h = 0, w = 0;
    bool live = true;  // of a winner: its output's activation lets a gradient through
  };

  std::vector<Cell> cells(int p, int q) const {
    const Window& window = kind_.window;
    const int top = p * window.stride.h - window.before.h, left = q * window.stride.w - window.before.w;
    std::vector<Cell> in;
    for (int h = std::max(0, top); h < std::min(x_.shape.h, top + window.kernel.h); ++h)
      for (int w = std::max(0, left); w < std::min(x_.shape.w, left + window.kernel.w); ++w) in.push_back({h, w});
    return in;
  }

  Pool kind_;
  Layout x_, y_;
  std::vector<Cell> winners_;  // of the last forward pass, one an output
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<PoolOp> Reference<T>::pool(const Pool& kind, const Layout& x, const Layout& y) {
  require(kind.activation == Activation::none || kind.activation == Activation::relu, "pool: an activation other than relu");
  return std::make_unique<ReferencePool<T>>(kind, x, y);
}

template std::unique_ptr<PoolOp> Reference<double>::pool(const Pool&, const Layout&, const Layout&);
template std::unique_ptr<PoolOp> Reference<float>::pool(const Pool&, const Layout&, const Layout&);

}  // namespace microtome
