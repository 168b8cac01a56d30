// Direct convolution for filters of up to 4 MiB, which stay in L2. A filter's row over an image's row meets T = S C
// neighbouring floats whatever C is, three colours or a hundred channels, so that with filters turned to R T K
//   y[p,q,k] = sum over r,t of x[p + r][q C + t] w[r,t,k]     (strides and padding left out)
// is, for a dozen q and 32 k at a time, a product of registers: each step loads 32 weights and one float a position. Padding is
// copied with the few rows at work.
#pragma once

#include "kernels/cpu/cpu.h"

namespace microtome {

class DirectConv {
 public:
  /// Whether it can be had: one group, 32 | K, neighbouring columns adjacent in memory, more than one tap, a small filter.
  static bool serves(const Window& window, int groups, const Layout& x, const Layout& y);

  DirectConv(const Window& window, const Layout& x, const Layout& y);

  /// The convolution that takes dy to dx, by the same filter `transposed`; its window has stride 1, as the original must.
  static Window transposed(const Window& window);

  std::size_t scratch_bytes() const { return plan_.bytes(); }

  enum class Filter { straight, transposed };
  /// y = activation(b + x * w), or y += x * w. w: K R S C; transposed, the original's C R S K. b may be null.
  void forward(const Scratch&, const Tensor& x, const float* w, Filter, const float* b, Activation, const Tensor& y,
               Write) const;
  /// dw: K R S C; db may be null.
  void backward_filter(const Scratch&, const Tensor& x, const Tensor& dy, float* dw, float* db, Write) const;

 private:
  const float* rows_of(const Tensor& x, int n, int first, int rows, float* padded) const;
  std::ptrdiff_t row_stride() const { return pads_ ? padded_columns_ * x_.shape.c : x_.strides.h; }

  Window window_;
  Layout x_, y_;
  int taps_;     // T = S C
  int threads_;  // as many as there is scratch for
  bool pads_;
  std::int64_t padded_columns_;
  int pieces_;  // of the batch, each with its own sums of dw; their number does not depend on that of threads
  ScratchPlan plan_;
  std::size_t padded_ = 0, padded_bytes_ = 0, packed_ = 0, packed_bytes_ = 0, filter_ = 0, sums_ = 0, bias_sums_ = 0;
};

}  // namespace microtome
