// Convolutions of 3x3 taps and stride 1 in 16 multiplications for every 2x2 outputs instead of 36 [Lavin2016, F(2x2, 3x3)]:
// with d the 4x4 cells under a tile of y, g the filter's 3x3 taps and * element by element,
//   y = A' [sum over c of (G g G') * (B' d B)] A,   the transposes marked '
// which is 16 products of matrices, tiles x C by C x K. A block of tiles goes through at a time, so that its transformed cells
// stay in L2. The transforms are sums of few terms, halved at most: small integers stay exact, and the error is below the plain
// loop's.
#pragma once

#include "kernels/cpu/cpu.h"

namespace microtome {

class Winograd {
 public:
  /// Whether it can be had, and pays: one group, 16 | C, 32 | K, images that tiles of 2x2 do not exceed by much.
  static bool serves(const Window& window, int groups, const Layout& x, const Layout& y);

  Winograd(const Window& window, const Layout& x, const Layout& y);

  /// The convolution that takes dy to dx, by the same filter `transposed`, where the stride is 1.
  static Window transposed(const Window& window);

  std::size_t scratch_bytes() const { return plan_.bytes(); }

  enum class Filter { straight, transposed };
  /// y = activation(b + x * w), or y += x * w. w: K R S C; transposed, the original's C R S K. b may be null.
  void forward(const Scratch&, const Tensor& x, const float* w, Filter, const float* b, Activation, const Tensor& y,
               Write) const;

 private:
  void transform_filter(const float* w, Filter, float* to) const;
  void transform_cells(const Tensor& x, std::int64_t tile, float* edge, float* to) const;
  template <class Function>
  void transform_back(const float* products, std::int64_t tile, int k, const float* b, Function, const Tensor& y, Write) const;

  Window window_;
  Layout x_, y_;
  int rows_, columns_;  // of tiles
  int block_;           // tiles at a time
  std::int64_t tiles_;  // in all images
  int threads_;         // as many as there is scratch for
  ScratchPlan plan_;
  std::size_t filter_ = 0, cells_ = 0, cells_bytes_ = 0, products_ = 0, products_bytes_ = 0, edge_ = 0, edge_bytes_ = 0;
};

}  // namespace microtome
