// MaxPooling2D, AveragePooling2D and GlobalAveragePooling2D of Keras. The average is over the cells inside the image, as
// TensorFlow's is.
#pragma once

#include "engine/graph.h"

#include <optional>
#include <string>

namespace microtome {

struct PoolOptions {
  std::optional<Extent> stride;  // default: the kernel
  Padding padding = valid;
  std::string name;
};

Stage max_pool(Extent kernel, PoolOptions options = {});
Stage average_pool(Extent kernel, PoolOptions options = {});

/// H W C -> 1 1 C.
Stage global_average_pool(std::string name = {});

}  // namespace microtome
