// B6, "basic model with six convolutional layers" [Bonnet2021, Table 1; the study's 02_CNN-6L.py, whose dense layer has no
// bias while the tuner's variant has one]. 2,386,689 parameters at 96x96, 1,344 of them moving statistics.
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/flatten.h"
#include "layers/pool.h"
#include "nets/nets.h"

namespace microtome {
namespace {

Stage conv_bn_relu(int filters) {
  return [=](Node x) { return x | conv(filters, 3, {.bias = false}) | batch_norm() | relu(); };
}

}  // namespace

Node b6(Node image, int dense_units) {
  return image | conv(32, 3, {.activation = Activation::relu}) | conv_bn_relu(32) | max_pool(2) | dropout(0.3f) |
         conv_bn_relu(64) | conv_bn_relu(64) | max_pool(2) | dropout(0.3f) | conv_bn_relu(128) | conv_bn_relu(128) |
         max_pool(2) | dropout(0.3f) | flatten() | dense(dense_units, {.bias = false}) | batch_norm() | relu() | dropout(0.5f) |
         logit();
}

}  // namespace microtome
