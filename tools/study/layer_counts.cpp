#include "tools/study/layer_counts.h"

#include <algorithm>

namespace microtome {
namespace {

int longest_path(const Graph& graph) {
  std::vector<int> depth;
  for (const GraphOp& op : graph.ops()) {
    int deepest = 0;
    for (const int input : op.inputs) deepest = std::max(deepest, depth[static_cast<std::size_t>(input)]);
    depth.push_back(deepest + (std::holds_alternative<Conv>(op.kind) || std::holds_alternative<Dense>(op.kind)));
  }
  return depth[static_cast<std::size_t>(graph.output())];
}

}  // namespace

LayerCounts count_layers(const Network& network, const Graph& graph) {
  LayerCounts counts{.longest_path = longest_path(graph)};
  for (const Row& row : graph.rows()) {
    counts.keras_layers +=
        row.kind != "input_layer" || network.top;  // b2 and b6 are Sequential, whose layers leave the input out
    counts.weight_layers += !row.parameters.empty();
  }
  return counts;
}

}  // namespace microtome
