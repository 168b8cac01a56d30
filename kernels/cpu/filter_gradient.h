// The gradient of a convolution's filter where images are large. A filter's row over an image's row meets T = S C neighbouring
// floats whatever C is, three colours or a hundred channels, so that
//   dw[r,t,k] = sum over n,p,q of x[n, p + r][q C + t] dy[n,p,q,k]     (strides and padding left out)
// is, for some t and `width` k at a time, a product of registers: each step loads `width` gradients and one float a tap.
// Padding is copied with the few rows at work.
#pragma once

#include "kernels/cpu/cpu.h"

namespace microtome {

class FilterGradient {
 public:
  /// Whether it can be had, and pays: one group, width | K, neighbouring columns adjacent in memory, more than one tap, a
  /// filter of up to 4 MiB, large images.
  static bool serves(const Window& window, int groups, const Layout& x, const Layout& y);

  FilterGradient(const Window& window, const Layout& x, const Layout& y);

  std::size_t scratch_bytes() const { return plan_.bytes(); }

  /// dw: K R S C; db may be null.
  void run(const Scratch&, const Tensor& x, const Tensor& dy, float* dw, float* db, Write) const;

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
  std::size_t padded_ = 0, padded_bytes_ = 0, packed_ = 0, packed_bytes_ = 0, sums_ = 0, bias_sums_ = 0;
};

}  // namespace microtome
