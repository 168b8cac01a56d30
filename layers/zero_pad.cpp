#include "layers/zero_pad.h"

#include "engine/check.h"

namespace microtome {

Stage zero_pad(Padding padding, std::string name) {
  return [=](Node x) {
    require(padding.rule == Padding::Rule::zeros, "zero_pad: wants zeros(...)");
    x.graph->row("zero_padding2d", name);
    return x.graph->op(ZeroPad{padding.before, padding.after}, {x});
  };
}

}  // namespace microtome
