#include "layers/dropout.h"

#include "engine/random.h"

namespace microtome {

Stage dropout(float rate, std::string name) {
  return [=](Node x) {
    Graph& graph = *x.graph;
    graph.row("dropout", name);
    return graph.op(Dropout{.rate = rate, .stream = stream::dropout + graph.rows().size()}, {x});
  };
}

}  // namespace microtome
