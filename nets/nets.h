// The table of the study's networks [Bonnet2021, Table 1].
#pragma once

#include "engine/graph.h"

#include <span>
#include <string_view>

namespace microtome {

struct Network {
  std::string_view name;        // "resnet50"
  std::string_view short_name;  // the paper's: "rn50"
  std::string_view title;       // "ResNet50 [He2016]"
  Node (*stages)(Node image);

  /// Records the network for images of this size; one that is too small fails at the guilty row.
  Graph build(Extent image) const;
};

std::span<const Network> networks();

/// By name or short name, else Error(ExitCode::usage) that names the nearest.
const Network& find_network(std::string_view name);

Node b2(Node image);
Node b6(Node image);

}  // namespace microtome
