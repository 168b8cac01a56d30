#include "layers/add.h"

namespace microtome {

Node add(Node a, Node b, std::string name) {
  a.graph->row("add", name);
  return a.graph->op(Add{}, {a, b});
}

Node operator+(Node a, Node b) {
  return add(a, b);
}

}  // namespace microtome
