#include "layers/squeeze_excite.h"

#include "layers/conv.h"
#include "layers/multiply.h"
#include "layers/pool.h"
#include "layers/reshape.h"

namespace microtome {

Stage squeeze_excite(int reduced, SqueezeExciteOptions o) {
  return [=](Node x) {
    const int channels = x.shape().c;
    const Node gate = x | global_average_pool(o.prefix + "squeeze") | reshape({1, 1, 1, channels}, o.prefix + "reshape") |
                      conv(reduced, 1, {.activation = Activation::swish, .init = o.init, .name = o.prefix + "reduce"}) |
                      conv(channels, 1, {.activation = Activation::sigmoid, .init = o.init, .name = o.prefix + "expand"});
    return multiply(x, gate, o.prefix + "excite");
  };
}

}  // namespace microtome
