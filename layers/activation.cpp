#include "layers/activation.h"

namespace microtome {

std::string_view keras_name(Activation activation) {
  switch (activation) {
    case Activation::none: return "linear";
    case Activation::relu: return "relu";
    case Activation::relu6: return "relu6";
    case Activation::swish: return "silu";
    case Activation::sigmoid: return "sigmoid";
  }
  return "?";
}

Stage activation(Activation function, std::string name) {
  return [=](Node x) {
    x.graph->row("activation", name);
    return activation_of_row(x, function);
  };
}

Stage relu(std::string name) {
  return activation(Activation::relu, std::move(name));
}
Stage swish(std::string name) {
  return activation(Activation::swish, std::move(name));
}

Stage relu6(std::string name) {
  return [=](Node x) {
    x.graph->row("re_lu", name);
    return activation_of_row(x, Activation::relu6);
  };
}

Stage softmax(std::string name) {
  return [=](Node x) {
    x.graph->row("activation", name);
    x.graph->activation_of_row("softmax");
    return x.graph->op(Reshape{x.shape()}, {x});
  };
}

Node activation_of_row(Node x, Activation function) {
  if (function == Activation::none) return x;
  x.graph->activation_of_row(keras_name(function));
  return x.graph->op(Activate{function}, {x});
}

}  // namespace microtome
