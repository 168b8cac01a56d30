#include "layers/normalization.h"

namespace microtome {

Stage rescaling(float divisor, std::string name) {
  return [=](Node x) {
    x.graph->row("rescaling", name);
    return x.graph->op(Normalize{.divisor = {divisor, divisor, divisor}}, {x});
  };
}

Stage normalization(std::array<float, 3> mean, std::array<float, 3> deviation, std::string name) {
  return [=](Node x) {
    x.graph->row("normalization", name);
    return x.graph->op(Normalize{mean, deviation}, {x});
  };
}

}  // namespace microtome
