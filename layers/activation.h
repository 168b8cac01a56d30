// Activations as rows of their own, and as the end of another row.
#pragma once

#include "engine/graph.h"

#include <string>
#include <string_view>

namespace microtome {

/// Keras' name: "linear", "relu", "relu6", "silu", "sigmoid".
std::string_view keras_name(Activation activation);

/// A row of kind "activation".
Stage activation(Activation function, std::string name = {});
Stage relu(std::string name = {});
Stage swish(std::string name = {});

/// A row of kind "re_lu", as Keras' ReLU(6.) is a class of its own.
Stage relu6(std::string name = {});

/// Softmax as a row in name only: it yields logits, for the softmax belongs to the loss.
Stage softmax(std::string name = {});

/// Applies an activation within the row that was opened last, as Keras' Conv2D(activation="relu") does.
Node activation_of_row(Node x, Activation function);

}  // namespace microtome
