#include "engine/cost.h"

#include <type_traits>

namespace microtome {
namespace {

double bytes_of(const Layout& t) {
  return static_cast<double>(t.packed_bytes());
}

/// What the passes of all kinds are made of.
struct Tensors {
  std::span<const Layout> inputs;
  const Layout& output;
  DType parameter_type;
  bool accumulate;

  double x(std::size_t i = 0) const { return bytes_of(inputs[i]); }
  double dx(std::size_t i = 0) const { return (accumulate && i == 0 ? 2 : 1) * x(i); }
  double y() const { return bytes_of(output); }
  /// In the activations' type, which a network's last y is not.
  double dy() const { return static_cast<double>(output.shape.count() * size_bytes(inputs[0].dtype)); }
  double vectors(int count, int channels) const { return static_cast<double>(count) * channels * size_bytes(parameter_type); }
  double coefficients(const DeferredNorm& norm, std::size_t i = 0) const { return norm ? vectors(3, inputs[i].shape.c) : 0; }
  /// What a gradient's pass over a deferred input reads and writes beside the gradient.
  double deferred(const DeferredNorm& norm, std::size_t i = 0) const {
    return norm ? x(i) + vectors(3 + 2, inputs[i].shape.c) : 0;
  }
};

struct Linear {
  double flop = 0, weights = 0;  // of one pass; elements
  bool bias = false;
  DeferredNorm deferred = {};
  bool statistics = false;
};

Cost linear(const Linear& op, Pass pass, const Tensors& t) {
  const double w = op.weights * size_bytes(t.inputs[0].dtype), dw = op.weights * size_bytes(t.parameter_type);
  const double b = op.bias ? t.vectors(1, t.output.shape.c) : 0;
  const double norm = t.deferred(op.deferred);
  switch (pass) {
    case Pass::forward:
      return {op.flop,
              t.x() + t.coefficients(op.deferred) + w + b + t.y() + (op.statistics ? t.vectors(3, t.output.shape.c) : 0)};
    case Pass::backward_data: return {op.flop, t.dy() + w + norm + t.dx()};
    case Pass::backward_filter: return {op.flop, t.x() + t.coefficients(op.deferred) + t.dy() + dw + b};
    case Pass::backward: return {2 * op.flop, (op.deferred ? norm : t.x()) + t.dy() + w + t.dx() + dw + b};
    default: return {};
  }
}

Cost of(const Conv& conv, Pass pass, const Tensors& t) {
  const Extent& kernel = conv.window.kernel;
  const double weights = double{1} * t.output.shape.c * kernel.h * kernel.w * (t.inputs[0].shape.c / conv.groups);
  const double pixels = double{1} * t.output.shape.n * t.output.shape.h * t.output.shape.w;
  return linear({2 * weights * pixels, weights, conv.bias, conv.deferred, conv.statistics}, pass, t);
}

Cost of(const Dense& dense, Pass pass, const Tensors& t) {
  const double weights = double{1} * t.inputs[0].shape.c * t.output.shape.c;
  return linear({2 * weights * t.output.shape.n, weights, dense.bias}, pass, t);
}

Cost of(const BatchNorm& norm, Pass pass, const Tensors& t) {
  const int channels = t.inputs[0].shape.c;
  const double affine = t.vectors(norm.scale ? 2 : 1, channels);
  const double unknown = norm.shared_statistics ? double{1} * (channels - norm.known_channels) / channels : 1;
  const double measured = norm.batch_statistics && !norm.partial_statistics ? unknown * t.x() : 0;
  // The moving mean and variance: moved with batch statistics, else read.
  const double moving = t.vectors(norm.batch_statistics ? 4 : 2, channels);
  const double partial = norm.partial_statistics ? t.vectors(3, channels) : 0;
  if (pass == Pass::forward)
    return {0, measured + partial + affine + moving + (norm.deferred ? t.vectors(3, channels) : t.x() + t.y())};
  if (pass != Pass::backward) return {};
  if (norm.deferred) return {0, 2 * affine + t.vectors(2 + 3, channels)};
  return {0, (norm.batch_statistics ? 2 : 1) * (t.x() + t.dy()) + t.dx() + 2 * affine};
}

Cost of(const Activate&, Pass pass, const Tensors& t) {
  if (pass == Pass::forward) return {0, t.x() + t.y()};
  return pass == Pass::backward ? Cost{0, t.x() + t.dy() + t.dx()} : Cost{};
}

/// Pool, Dropout: backward reads no input but a deferred one.
Cost of_one_to_one(const DeferredNorm& norm, Pass pass, const Tensors& t) {
  if (pass == Pass::forward) return {0, t.x() + t.coefficients(norm) + t.y()};
  return pass == Pass::backward ? Cost{0, t.dy() + t.deferred(norm) + t.dx()} : Cost{};
}

Cost of(const Add& add, Pass pass, const Tensors& t) {
  if (pass == Pass::forward)
    return {0, t.x() + t.coefficients(add.deferred[0]) + t.x(1) + t.coefficients(add.deferred[1], 1) + t.y()};
  return pass == Pass::backward ? Cost{0, t.dy() + t.deferred(add.deferred[0]) + t.dx()} : Cost{};
}

Cost of(const Multiply& multiply, Pass pass, const Tensors& t) {
  const double gate = t.x(1), coefficients = t.coefficients(multiply.deferred), norm = t.deferred(multiply.deferred);
  switch (pass) {
    case Pass::forward: return {0, t.x() + coefficients + gate + t.y()};
    case Pass::backward_data: return {0, t.dy() + gate + norm + t.dx()};
    case Pass::backward_filter: return {0, t.x() + coefficients + t.dy() + t.dx(1)};
    case Pass::backward: return {0, (multiply.deferred ? norm : t.x()) + t.dy() + gate + t.dx() + t.dx(1)};
    default: return {};
  }
}

}  // namespace

Cost cost(const GraphOp::Kind& kind, Pass pass, std::span<const Layout> inputs, const Layout& output, DType parameter_type,
          bool accumulate) {
  if (inputs.empty()) return {};
  const Tensors t{inputs, output, parameter_type, accumulate};
  return std::visit(
      [&](const auto& k) -> Cost {
        using Kind = std::decay_t<decltype(k)>;
        constexpr bool runs = !std::is_same_v<Kind, Input> && !std::is_same_v<Kind, Normalize> &&
                              !std::is_same_v<Kind, ZeroPad> && !std::is_same_v<Kind, Concat> && !std::is_same_v<Kind, Reshape>;
        if (pass == Pass::settle) return {0, t.y() + 2 * t.dy() + t.vectors(3, output.shape.c)};
        if constexpr (std::is_same_v<Kind, Pool> || std::is_same_v<Kind, Dropout>)
          return of_one_to_one(k.deferred, pass, t);
        else if constexpr (runs)
          return of(k, pass, t);
        else
          return {};
      },
      kind);
}

Cost cost(const Gather&, DType images, const Layout& x, DType parameter_type) {
  const double pixels = double{1} * x.shape.n * x.shape.h * x.shape.w;
  const double labels = double{1} * x.shape.n * (size_bytes(DType::u8) + size_bytes(parameter_type));
  return {0,
          pixels * x.shape.c * size_bytes(images) + pixels * static_cast<double>(x.strides.w) * size_bytes(x.dtype) + labels};
}

Cost cost_of_filters(const Layout& all) {
  return {0, bytes_of(all) * (1 + 1.0 / p4m_symmetries)};
}

Cost cost(const Loss&, Pass pass, const Layout& z) {
  if (pass == Pass::forward) return {0, 2 * bytes_of(z) + static_cast<double>(z.shape.n * sizeof(float))};
  return pass == Pass::backward ? Cost{0, 3 * bytes_of(z)} : Cost{};
}

Cost cost(const Adam&, std::int64_t count, DType parameter_type, DType narrow) {
  const double copy = narrow == parameter_type ? 0 : static_cast<double>(size_bytes(narrow));
  return {0, static_cast<double>(count) * (7.0 * size_bytes(parameter_type) + copy)};
}

}  // namespace microtome
