// Convolutions of 3x3 taps and stride 1 in 16 multiplications for every 2x2 outputs instead of 36 [Lavin2016, F(2x2, 3x3)]:
// with d the 4x4 cells under a tile of y, g the filter's 3x3 taps and * element by element, the transposes marked ',
//   y = A' [sum over c of (G g G') * (B' d B)] A,   dg = G' [sum over tiles of (B' d B) * (A dy A')] G
// which are 16 products of matrices each. The transforms are sums of few terms, halved at most: small integers stay exact, and
// the error is below the plain loop's.
#pragma once

#include "kernels/cpu/cpu.h"

namespace microtome {

class Winograd {
 public:
  /// Whether it can be had, and pays: one group, lanes | C, lanes | K, images and filters that tiles of 2x2 and blocks of width
  /// do not exceed by much.
  static bool serves(const Window& window, int groups, const Layout& x, const Layout& y);

  Winograd(const Window& window, const Layout& x, const Layout& y);

  /// The convolution that takes dy to dx, by the same filter `transposed`, where the stride is 1.
  static Window transposed(const Window& window);

  std::size_t scratch_bytes() const { return std::max(forward_plan_.bytes(), filter_plan_.bytes()); }

  enum class Filter { straight, transposed };
  /// y = activation(b + x * w), or y += x * w. w: K R S C; transposed, the original's C R S K. b may be null.
  void forward(const Scratch&, const Tensor& x, const float* w, Filter, const float* b, Activation, const Tensor& y,
               Write) const;

  /// dw: K R S C; db may be null.
  void backward_filter(const Scratch&, const Tensor& x, const Tensor& dy, float* dw, float* db, Write) const;

 private:
  /// Where the frequencies of a vector of a tile's channels go: floats from one frequency to the next, and to the next vector.
  struct Places {
    float* to;
    std::ptrdiff_t frequency, vector;
  };
  void transform_filter(const float* w, Filter, float* to) const;
  void transform_cells(const Tensor& x, std::int64_t tile, float* edge, const Places&) const;
  void transform_gradients(const Tensor& dy, std::int64_t tile, int k, const Places&) const;
  template <class Function>
  void transform_back(const float* products, std::int64_t tile, int k, const float* b, Function, const Tensor& y, Write) const;
  void transform_filter_back(const float* sums, float* dw, Write) const;

  Window window_;
  Layout x_, y_;
  int rows_, columns_;                // of tiles
  std::int64_t tiles_;                // in all images
  int forward_block_, filter_block_;  // tiles at a time
  int threads_;                       // as many as there is scratch for
  ScratchPlan forward_plan_, filter_plan_;
  int pieces_;  // of the tiles, each with its own sums of the filter's gradient
  std::size_t filter_ = 0, cells_ = 0, cells_bytes_ = 0, products_ = 0, products_bytes_ = 0, forward_edge_ = 0, edge_bytes_ = 0;
  std::size_t filter_cells_ = 0, filter_cells_bytes_ = 0, gradients_ = 0, gradients_bytes_ = 0, filter_edge_ = 0, sums_ = 0,
              bias_sums_ = 0;
};

}  // namespace microtome
