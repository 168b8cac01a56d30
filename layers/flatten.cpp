#include "layers/flatten.h"

namespace microtome {

Stage flatten(std::string name) {
  return [=](Node x) {
    x.graph->row("flatten", name);
    return x.graph->op(Reshape{{1, 1, 1, static_cast<int>(x.shape().count())}}, {x});
  };
}

}  // namespace microtome
