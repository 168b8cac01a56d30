// What becomes of a pixel, 0 … 255, on its way into a batch: x = (pixel - mean) / divisor per channel of x.
#pragma once

#include <array>

namespace microtome {

struct Preprocessing {
  std::array<float, 3> mean{0, 0, 0};
  std::array<float, 3> divisor{255, 255, 255};  // [Bonnet2021]: x / 255 for every network
  bool bgr = false;                             // x's channel c is the image's 2 - c, mean and divisor being x's

  bool operator==(const Preprocessing&) const = default;
};

}  // namespace microtome
