// Labelled images in host memory, as the loaders deliver them and the epoch loop wants them.
#pragma once

#include "engine/shape.h"

#include <cstdint>
#include <string>
#include <vector>

namespace microtome {

struct Images {
  Shape shape;                       // N H W 3, RGB
  std::vector<std::uint8_t> pixels;  // N H W C; may be uninitialised storage filled by a loader
  std::vector<std::uint8_t> labels;  // N, each 0 or 1
  std::vector<std::string> ids;      // N, or empty: the index is the id
  std::vector<std::string> groups;   // N, the patient or slide: images of one are no independent witnesses; or empty: not known
};

/// Any of the splits may be empty (shape.n == 0).
struct Dataset {
  std::string name;  // of its format: "pcam"
  Images train, valid, test;
  std::vector<std::string> notes;  // what a loader did and people should know: "3 patches padded with white to 50x50"
  std::string split_by = {};       // what says the splits: "files", "folders"; or they are dealt, by "patient" or by "patch"

  bool dealt() const { return split_by == "patient" || split_by == "patch"; }
};

}  // namespace microtome
