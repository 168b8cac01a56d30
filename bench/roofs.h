// What the device can do at best, measured in the same run: the roofs of a roofline.
#pragma once

#include "engine/backend.h"
#include "engine/cost.h"

#include <cstddef>

namespace microtome::bench {

struct Roofs {
  double copy = 0;           // bytes a second, read and written, beyond any cache
  double resident_copy = 0;  // of as much as a cache holds, again and again
  double product = 0;        // FLOP a second of a large product of matrices in this precision

  /// The least seconds that this much work can take. `resident`: its tensors may lie in a cache.
  double seconds(const Cost& cost, bool resident) const;
};

inline constexpr std::size_t resident_bytes = 16'000'000;  // read and written; in each cache of a GPU that trains

Roofs measure_roofs(Backend& backend, std::size_t large_bytes);

}  // namespace microtome::bench
