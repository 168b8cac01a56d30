// Shapes, paddings and the one definition of a window's output size.
// Letters: N C H W input, K output channels, R S filter, P Q output, G groups; M N K only for matrix products.
//   P = floor((H + before + after - R) / stride) + 1
#pragma once

#include <cstdint>
#include <string>

namespace microtome {

/// N images of H x W positions with C channels, channels innermost (NHWC). A vector is 1 x 1 x 1 x C; a convolution's
/// filter is K x R x S x C; a dense layer's weights are 1 x 1 x C x K, as in Keras.
struct Shape {
  int n = 1, h = 1, w = 1, c = 1;

  std::int64_t count() const { return std::int64_t{n} * h * w * c; }
  bool operator==(const Shape&) const = default;
};

std::string to_string(const Shape& shape);  // "32x94x94x32"

/// Rows and columns of a kernel or a stride; a single number means a square.
struct Extent {
  int h = 1, w = 1;

  constexpr Extent(int side) : h(side), w(side) {}
  constexpr Extent(int rows, int columns) : h(rows), w(columns) {}
  bool operator==(const Extent&) const = default;
};

/// `valid`: none. `same`: TensorFlow's rule, P = ceil(H / stride), the odd cell goes after. `zeros(...)`: so many on each side.
struct Padding {
  enum class Rule { valid, same, zeros };
  Rule rule = Rule::valid;
  Extent before = 0, after = 0;  // for Rule::zeros

  bool operator==(const Padding&) const = default;
};

inline constexpr Padding valid{Padding::Rule::valid};
inline constexpr Padding same{Padding::Rule::same};
constexpr Padding zeros(Extent before, Extent after) {
  return {Padding::Rule::zeros, before, after};
}
constexpr Padding zeros(int each) {
  return zeros(each, each);
}

/// A kernel sliding over an input of known size: all paddings resolved to cells.
struct Window {
  Extent kernel = 1, stride = 1, before = 0, after = 0;

  /// Throws when the padded input is smaller than the kernel.
  Shape output(const Shape& x, int channels) const;
  bool operator==(const Window&) const = default;
};

/// `same` needs the input's size, so a window is made per input.
Window resolve(const Shape& x, Extent kernel, Extent stride, Padding padding);

}  // namespace microtome
