// From a pixel to what a network reads: x = (pixel - mean) / divisor, mean and divisor per channel.
#pragma once

#include "kernels/formulas/host_device.h"

namespace microtome {

template <class T>
MICROTOME_HOST_DEVICE T normalise(T pixel, float mean, float divisor) {
  return (pixel - T(mean)) / T(divisor);
}

}  // namespace microtome
