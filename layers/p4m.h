// Layers over p4m, the translations and the eight symmetries of the square [Cohen2016]: turning or mirroring their input turns
// or mirrors their output. A feature map has a value for each pixel and symmetry (engine/p4m.h): H 8W C, symmetry h of pixel
// column w in column 8 w + h, so that batch-norm, activations, concat, dropout and global pooling are the ordinary ones.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

struct P4mConvOptions {
  Padding padding = valid;  // alike on all sides, or symmetry is lost
  std::string name;
};

/// H W C, an image -> P 8Q maps: each filter in all eight symmetries [Cohen2016, sec. 6.1]. No bias; the kernel begins as in
/// [He2015].
Stage p4m_lift(int maps, int kernel, P4mConvOptions options = {});

/// H 8W C -> P 8Q maps. No bias.
Stage p4m_conv(int maps, int kernel, P4mConvOptions options = {});

/// H 8W C -> H/2 8W/2 C, rounded down: means over windows of two rows where these are even in number and of three where odd,
/// and of columns likewise, every other one; a grid of windows that the symmetries map onto itself.
Stage p4m_average_pool(std::string name = {});

}  // namespace microtome
