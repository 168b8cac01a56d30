// The definition of correct: every op as the naive loops of its formula, in double, on the host.
// The same loops in float are the measure of error: a backend may be at most twice as wrong as they are.
#pragma once

#include "engine/backend.h"
#include "engine/check.h"

#include <concepts>

namespace microtome {

/// T is the type of activations, parameters and all arithmetic: f64 or f32.
template <std::floating_point T>
class Reference : public Backend {
 public:
  Device device() const override;
  DType activation_type() const override;
  DType parameter_type() const override;

  Buffer allocate(std::size_t bytes) override;
  void write(void* device, const void* host, std::size_t bytes) override;
  void read(void* host, const void* device, std::size_t bytes) override;
  Buffer resident(const void* host, std::size_t bytes) override {
    return {const_cast<void*>(host), bytes, [](void*) noexcept {}};
  }
  void zero(void* device, std::size_t bytes) override;
  void copy(void* to, const void* from, std::size_t bytes) override;
  void synchronize() override {}
  std::unique_ptr<Recording> record(std::function<void()> step) override;

  std::unique_ptr<ConvOp> conv(const Conv&, const Layout& x, const Layout& y) override;
  std::unique_ptr<FilterTransformOp> filter_transform(P4m, const Layout& w, const Layout& all) override;
  std::unique_ptr<DenseOp> dense(const Dense&, const Layout& x, const Layout& y) override;
  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm&, const Layout& x, const Layout& y) override;
  std::unique_ptr<DeferredNormOp> deferred_norm(const BatchNorm&, const Layout& x) override;
  std::unique_ptr<NormCorrectionOp> norm_correction(const Layout& x) override;
  std::unique_ptr<ActivateOp> activate(const Activate&, const Layout& x, const Layout& y) override;
  std::unique_ptr<PoolOp> pool(const Pool&, const Layout& x, const Layout& y) override;
  std::unique_ptr<DropoutOp> dropout(const Dropout&, const Layout& x, const Layout& y) override;
  std::unique_ptr<AddOp> add(const Add&, const Layout& a, const Layout& b, const Layout& y) override;
  std::unique_ptr<MultiplyOp> multiply(const Multiply&, const Layout& x, const Layout& gate, const Layout& y) override;
  std::unique_ptr<GatherOp> gather(const Gather&, const Layout& images, const Layout& x) override;
  std::unique_ptr<LossOp> loss(const Loss&, const Layout& z) override;
  std::unique_ptr<OptimizerOp> optimizer(const Optimizer&, std::int64_t count) override;
  std::unique_ptr<AdvanceOp> advance() override;
};

template <class T>
inline constexpr DType dtype_of = sizeof(T) == 8 ? DType::f64 : DType::f32;

template <class T>
T& at(const Tensor& t, int n, int h, int w, int c) {
  return t.as<T>()[n * t.strides.n + h * t.strides.h + w * t.strides.w + c];
}

/// Element c of a vector, or of a tensor that is read as one.
template <class T>
T& at(const Tensor& t, std::int64_t c) {
  return t.as<T>()[c];
}

template <class T>
void put(T& to, T value, Write write) {
  to = write == Write::accumulate ? to + value : value;
}

/// Calls f(n, h, w, c) in row-major order.
template <class F>
void for_each(const Shape& shape, const F& f) {
  for (int n = 0; n < shape.n; ++n)
    for (int h = 0; h < shape.h; ++h)
      for (int w = 0; w < shape.w; ++w)
        for (int c = 0; c < shape.c; ++c) f(n, h, w, c);
}

/// What is run must be what was planned.
inline void require_layout(const Tensor& tensor, const Layout& planned, std::string_view what,
                           std::source_location at = std::source_location::current()) {
  require({static_cast<const Layout&>(tensor) == planned, at}, "reference: ", what, " is ", to_string(tensor.shape), " ",
          name(tensor.dtype), " and not ", to_string(planned.shape), " ", name(planned.dtype),
          " as planned, or has other strides");
}

template <class T>
void require_vector(const Tensor& tensor, std::int64_t count, std::string_view what,
                    std::source_location at = std::source_location::current()) {
  require({tensor.shape.count() == count && tensor.is_packed() && tensor.dtype == dtype_of<T>, at}, "reference: ", what, " is ",
          to_string(tensor.shape), " ", name(tensor.dtype), " and not ", count, " packed ", name(dtype_of<T>));
}

template <class T>
void require_types(const Layout& x, const Layout& y, std::source_location at = std::source_location::current()) {
  require({x.dtype == dtype_of<T> && y.dtype == dtype_of<T>, at}, "reference: a tensor is ", name(x.dtype), " or ",
          name(y.dtype), " and not ", name(dtype_of<T>));
}

}  // namespace microtome
