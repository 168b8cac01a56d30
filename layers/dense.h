// Dense of Keras: y = b + x w on a vector an image.
#pragma once

#include "engine/graph.h"

#include <string>

namespace microtome {

struct DenseOptions {
  bool bias = true;
  Activation activation = Activation::none;
  std::string name;
};

/// 1 1 C -> 1 1 units. Glorot-uniform kernel [Glorot2010], zero bias.
Stage dense(int units, DenseOptions options = {});

/// The published networks' last row, Dense(classes, activation="softmax"): yields logits, for the softmax belongs to the loss.
Stage classifier(int classes, std::string name = {});

/// The study's last row, Dense(1, activation="sigmoid"): yields logits, for the sigmoid belongs to the loss.
Stage logit(std::string name = {});

}  // namespace microtome
