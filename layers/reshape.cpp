#include "layers/reshape.h"

namespace microtome {

Stage reshape(Shape shape, std::string name) {
  return [=](Node x) {
    x.graph->row("reshape", name);
    return x.graph->op(Reshape{shape}, {x});
  };
}

}  // namespace microtome
