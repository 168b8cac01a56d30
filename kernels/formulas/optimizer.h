// The optimisers: of each kind what is the same for every weight of a step, optimizer_step(), and what becomes of a weight,
// optimizer_update(). Backends call them by the kind's type; what lacks one does not compile.
//
// Keras' Adam, epsilon outside the bias correction ("epsilon hat" of [Kingma2014, sec. 2]):
//   alpha = learning_rate sqrt(1 - beta2^t) / (1 - beta1^t), t = step + 1
//   m += (g - m)(1 - beta1); v += (g^2 - v)(1 - beta2); w -= alpha m / (sqrt(v) + epsilon)
#pragma once

#include "engine/ops.h"
#include "kernels/formulas/host_device.h"

#include <cmath>
#include <cstdint>

namespace microtome {

/// In double: in float, 1 - beta2^t of the first step has lost four digits.
MICROTOME_HOST_DEVICE inline double adam_alpha(double learning_rate, double beta1, double beta2, std::uint64_t step) {
  using std::pow, std::sqrt;
  const double t = static_cast<double>(step) + 1;
  return learning_rate * sqrt(1 - pow(beta2, t)) / (1 - pow(beta1, t));
}

/// The shares are 1 - beta.
template <class T>
struct AdamStep {
  T alpha, first_share, second_share, epsilon;
};

template <class T>
MICROTOME_HOST_DEVICE AdamStep<T> optimizer_step(const Adam& kind, const StepState& state) {
  return {T(adam_alpha(state.learning_rate, kind.beta1, kind.beta2, state.step)), T(1 - kind.beta1), T(1 - kind.beta2),
          T(kind.epsilon)};
}

template <class T>
MICROTOME_HOST_DEVICE void optimizer_update(T g, const AdamStep<T>& step, T& w, T& m, T& v) {
  using std::sqrt;
  m += (g - m) * step.first_share;
  v += (g * g - v) * step.second_share;
  w -= step.alpha * m / (sqrt(v) + step.epsilon);
}

}  // namespace microtome
