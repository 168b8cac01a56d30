#include "layers/dropout.h"

#include "engine/random.h"

namespace microtome {

Stage dropout(float rate, DropoutOptions o) {
  return [=](Node x) {
    Graph& graph = *x.graph;
    graph.row("dropout", o.name);
    return graph.op(Dropout{.rate = rate, .per_image = o.per_image, .stream = stream::dropout + graph.rows().size()}, {x});
  };
}

}  // namespace microtome
