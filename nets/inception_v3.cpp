// InceptionV3 [Szegedy2016, Table 1], as Keras publishes it: BN-auxiliary without the auxiliary, batch-norm without gamma, and
// the modules' own filters, which the paper leaves open. Rows take Keras' automatic names, so their order matters.
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/concat.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/pool.h"
#include "nets/nets.h"

namespace microtome {
namespace {

struct CbrOptions {
  Extent stride = 1;
  Padding padding = same;
};
constexpr CbrOptions unpadded{.padding = valid}, halving{.stride = 2, .padding = valid};

Stage cbr(int filters, Extent kernel = 1, CbrOptions o = {}) {
  return [=](Node x) {
    return x | conv(filters, kernel, {.stride = o.stride, .padding = o.padding, .bias = false}) | batch_norm({.scale = false}) |
           relu();
  };
}

Stage smooth() {
  return average_pool(3, {.stride = 1, .padding = same});
}
Stage halve() {
  return max_pool(3, {.stride = 2});
}

Stage mixed_35(int pooled, std::string name) {  // [Szegedy2016, Fig. 5], one of the two 3x3 towers a 5x5
  return [=](Node x) {
    return concat({x | cbr(64), x | cbr(48) | cbr(64, 5), x | cbr(64) | cbr(96, 3) | cbr(96, 3), x | smooth() | cbr(pooled)},
                  name);
  };
}

Stage to_17(std::string name) {  // [Szegedy2016, Fig. 10]
  return [=](Node x) {
    return concat({x | cbr(384, 3, halving), x | cbr(64) | cbr(96, 3) | cbr(96, 3, halving), x | halve()}, name);
  };
}

Stage mixed_17(int m, std::string name) {  // [Szegedy2016, Fig. 6], n = 7
  return [=](Node x) {
    return concat({x | cbr(192), x | cbr(m) | cbr(m, {1, 7}) | cbr(192, {7, 1}),
                   x | cbr(m) | cbr(m, {7, 1}) | cbr(m, {1, 7}) | cbr(m, {7, 1}) | cbr(192, {1, 7}), x | smooth() | cbr(192)},
                  name);
  };
}

Stage to_8(std::string name) {
  return [=](Node x) {
    return concat({x | cbr(192) | cbr(320, 3, halving),
                   x | cbr(192) | cbr(192, {1, 7}) | cbr(192, {7, 1}) | cbr(192, 3, halving), x | halve()},
                  name);
  };
}

Stage fan(std::string name = {}) {
  return [=](Node x) { return concat({x | cbr(384, {1, 3}), x | cbr(384, {3, 1})}, name); };
}

Stage mixed_8(std::string fan_name, std::string name) {  // [Szegedy2016, Fig. 7]
  return [=](Node x) {
    return concat({x | cbr(320), x | cbr(384) | fan(fan_name), x | cbr(448) | cbr(384, 3) | fan(), x | smooth() | cbr(192)},
                  name);
  };
}

}  // namespace

Node inception_v3(Node image) {
  return image | cbr(32, 3, halving) | cbr(32, 3, unpadded) | cbr(64, 3) | halve() | cbr(80, 1) | cbr(192, 3, unpadded) |
         halve() | mixed_35(32, "mixed0") | mixed_35(64, "mixed1") | mixed_35(64, "mixed2") | to_17("mixed3") |
         mixed_17(128, "mixed4") | mixed_17(160, "mixed5") | mixed_17(160, "mixed6") | mixed_17(192, "mixed7") |
         to_8("mixed8") | mixed_8("mixed9_0", "mixed9") | mixed_8("mixed9_1", "mixed10");
}

Node inception_v3_top(Node x) {
  return x | global_average_pool("avg_pool") | classifier(1000, "predictions");
}

}  // namespace microtome
