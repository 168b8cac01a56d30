// Both sides of a deferred batch-norm for the op that applies it: its input as the op computes with it, and what becomes of
// that input's gradient.
#pragma once

#include "kernels/formulas/activation.h"
#include "kernels/reference/reference.h"

#include <vector>

namespace microtome {

inline void require_deferral(const Deferred* deferred, const DeferredNorm& option,
                             std::source_location at = std::source_location::current()) {
  require({(deferred != nullptr) == option.has_value(), at},
          "reference: a deferred batch-norm where none was planned, or none where one was");
}

/// (x - mean) scale + beta.
template <class T>
T normalised_at(const Deferred& deferred, int n, int h, int w, int c) {
  const auto row = [&](int i) { return at<T>(deferred.coefficients, 0, 0, i, c); };
  return (at<T>(deferred.x, n, h, w, c) - row(0)) * row(1) + row(2);
}

/// An op's input: as it is, or with the batch-norm and its activation applied.
template <class T>
class Operand {
 public:
  Operand(const Tensor& x, const Deferred* deferred, const DeferredNorm& option) : tensor_(x) {
    require_deferral(deferred, option);
    if (!deferred) return;
    for_each(x.shape, [&](int n, int h, int w, int c) {
      applied_.push_back(activate(*option, normalised_at<T>(*deferred, n, h, w, c)));
    });
    tensor_.strides = packed(x.shape);
    tensor_.data = applied_.data();
  }
  Operand(const Operand&) = delete;

  const Tensor& tensor() const { return tensor_; }

 private:
  std::vector<T> applied_;
  Tensor tensor_;
};

/// dx (+)= dz, or what the deferred batch-norm that made z of x makes of dz. dz: packed.
template <class T>
void put_gradient(const std::vector<T>& dz, const Deferred* deferred, const DeferredNorm& option, const Tensor& dx,
                  Write write) {
  require_deferral(deferred, option);
  const T* gradient = dz.data();
  if (!deferred) return for_each(dx.shape, [&](int n, int h, int w, int c) { put(at<T>(dx, n, h, w, c), *gradient++, write); });
  require_vector<T>(deferred->sums, 2 * std::int64_t{dx.shape.c}, "sums");
  for (int i = 0; i < 2 * dx.shape.c; ++i) at<T>(deferred->sums, i) = 0;
  for_each(dx.shape, [&](int n, int h, int w, int c) {
    const T z = normalised_at<T>(*deferred, n, h, w, c);
    const T g = *gradient++ * activation_derivative(*option, derivative_reads_x(*option) ? z : activate(*option, z));
    at<T>(deferred->sums, c) += g;
    at<T>(deferred->sums, dx.shape.c + c) += g * (at<T>(deferred->x, n, h, w, c) - at<T>(deferred->coefficients, 0, 0, 0, c));
    put(at<T>(dx, n, h, w, c), at<T>(deferred->coefficients, 0, 0, 1, c) * g, write);
  });
}

}  // namespace microtome
