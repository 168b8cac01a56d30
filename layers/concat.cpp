#include "layers/concat.h"

#include "engine/check.h"

namespace microtome {

Node concat(const std::vector<Node>& inputs, std::string name) {
  require(!inputs.empty(), "concat: of nothing");
  Graph& graph = *inputs[0].graph;
  graph.row("concatenate", name);
  return graph.op(Concat{}, inputs);
}

}  // namespace microtome
