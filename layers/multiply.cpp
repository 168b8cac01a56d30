#include "layers/multiply.h"

namespace microtome {

Node multiply(Node x, Node gate, std::string name) {
  x.graph->row("multiply", name);
  return x.graph->op(Multiply{}, {x, gate});
}

}  // namespace microtome
