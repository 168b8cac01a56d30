// B2, "basic model with two convolutional layers" [Bonnet2021, Table 1; the study's 01_CNN-2L.py]. 9,491,393 parameters at
// 96x96.
#include "layers/activation.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/flatten.h"
#include "layers/pool.h"
#include "nets/nets.h"

namespace microtome {

Node b2(Node image, int dense_units) {
  return image | conv(32, 5, {.padding = same}) | relu() | max_pool(2) | conv(64, 5, {.padding = same}) | relu() | max_pool(2) |
         flatten() | dense(dense_units) | relu() | logit();
}

}  // namespace microtome
