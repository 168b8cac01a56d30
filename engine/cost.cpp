#include "engine/cost.h"

#include "engine/kinds/visit.h"

namespace microtome {
namespace {

double bytes_of(const Layout& t) {
  return static_cast<double>(t.packed_bytes());
}

}  // namespace

Cost cost(const GraphOp::Kind& kind, Pass pass, std::span<const Layout> inputs, const Layout& output, DType parameter_type,
          bool accumulate) {
  if (inputs.empty()) return {};
  const Traffic t{inputs, output, parameter_type, accumulate};
  if (pass == Pass::norm_correction) return {0, t.y() + 2 * t.dy() + t.vectors(3, output.shape.c)};
  return visit_kind(kind, [&](const auto& k, auto traits) {
    if constexpr (traits.runs)
      return traits.cost(k, pass, t);
    else
      return Cost{};
  });
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

namespace {

/// Elements of a weight that are read and written: dw, w, m and v, and all of these again but dw.
double traffic(const Adam&) {
  return 7;
}

}  // namespace

Cost cost(const Optimizer& kind, std::int64_t count, DType parameter_type, DType low_precision) {
  const double copy = low_precision == parameter_type ? 0 : static_cast<double>(size_bytes(low_precision));
  const double elements = std::visit([](const auto& k) { return traffic(k); }, kind);
  return {0, static_cast<double>(count) * (elements * static_cast<double>(size_bytes(parameter_type)) + copy)};
}

}  // namespace microtome
