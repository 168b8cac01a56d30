// From a pixel to what a network reads: x = (pixel - mean) / divisor, mean and divisor per channel.
#pragma once

#include "kernels/formulas/host_device.h"

#include <cstdint>

namespace microtome {

template <class T>
MICROTOME_HOST_DEVICE T normalise(std::uint8_t pixel, float mean, float divisor) {
  return (T(pixel) - T(mean)) / T(divisor);
}

}  // namespace microtome
