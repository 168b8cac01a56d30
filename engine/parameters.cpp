#include "engine/parameters.h"

#include "engine/check.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace microtome {
namespace {

/// bf16 is the upper half of an f32, rounded to nearest, ties to even.
std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

const void* element(const void* begin, DType dtype, std::int64_t index) {
  return static_cast<const std::byte*>(begin) + static_cast<std::size_t>(index) * size_bytes(dtype);
}

void read_into(Backend& backend, const void* device, DType dtype, std::span<float> values) {
  const auto convert = [&](auto zero, auto from) {
    std::vector<decltype(zero)> elements(values.size());
    backend.read(elements.data(), device, values.size() * sizeof zero);
    std::transform(elements.begin(), elements.end(), values.begin(), from);
  };
  switch (dtype) {
    case DType::f32: backend.read(values.data(), device, values.size_bytes()); break;
    case DType::f64: convert(double{}, [](double v) { return static_cast<float>(v); }); break;
    case DType::bf16: convert(std::uint16_t{}, from_bf16); break;
    case DType::u8: require(false, "parameters are not u8");
  }
}

}  // namespace

void write_values(Backend& backend, void* device, DType dtype, std::span<const float> values) {
  const auto convert = [&](auto to) {
    std::vector<decltype(to(0.0f))> elements(values.size());
    std::transform(values.begin(), values.end(), elements.begin(), to);
    backend.write(device, elements.data(), elements.size() * sizeof(elements[0]));
  };
  switch (dtype) {
    case DType::f32: backend.write(device, values.data(), values.size_bytes()); break;
    case DType::f64: convert([](float v) { return double{v}; }); break;
    case DType::bf16: convert(to_bf16); break;
    case DType::u8: require(false, "parameters are not u8");
  }
}

std::vector<float> read_values(Backend& backend, const void* device, DType dtype, std::size_t count) {
  std::vector<float> values(count);
  read_into(backend, device, dtype, values);
  return values;
}

std::vector<float> read_parameter(Backend& backend, const Graph& graph, const Parameters& parameters, const void* from,
                                  std::int64_t size, int parameter) {
  const std::int64_t offset = parameters.offsets[parameter], count = graph.parameters()[parameter].shape.count();
  std::vector<float> values(static_cast<std::size_t>(count));
  if (offset + count <= size) read_into(backend, element(from, parameters.type, offset), parameters.type, values);
  return values;
}

std::vector<float> read_parameters(Backend& backend, const Graph& graph, const Parameters& parameters, const void* from,
                                   std::int64_t size) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(graph.parameter_count()));
  for (int p = 0; p < static_cast<int>(parameters.offsets.size()); ++p) {
    const std::vector<float> part = read_parameter(backend, graph, parameters, from, size, p);
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

void write_parameters(Backend& backend, const Graph& graph, const Parameters& parameters, void* to, DType dtype,
                      std::int64_t size, std::span<const float> values) {
  require(static_cast<std::int64_t>(values.size()) == graph.parameter_count(), "expected ", graph.parameter_count(),
          " values, got ", values.size());
  for (std::size_t p = 0; p < parameters.offsets.size(); ++p) {
    const std::int64_t offset = parameters.offsets[p], count = graph.parameters()[p].shape.count();
    const auto part = values.first(static_cast<std::size_t>(count));
    if (offset + count <= size) write_values(backend, const_cast<void*>(element(to, dtype, offset)), dtype, part);
    values = values.subspan(part.size());
  }
}

Parameters allocate_parameters(const Graph& graph, Backend& backend) {
  constexpr std::int64_t alignment = 64;  // elements: 256 bytes of f32, so that each parameter may be read in vectors
  Parameters p;
  p.offsets.resize(graph.parameters().size());
  for (const bool trainable : {true, false}) {
    for (std::size_t i = 0; i < p.offsets.size(); ++i) {
      if (graph.parameters()[i].trainable != trainable) continue;
      p.offsets[i] = p.total;
      p.total += (graph.parameters()[i].shape.count() + alignment - 1) / alignment * alignment;
    }
    if (trainable) p.trainable = p.total;
  }
  const DType type = p.type = backend.parameter_type(), low_precision = backend.activation_type();
  const auto zeroed = [&](std::int64_t count, DType dtype) {
    Buffer buffer = backend.allocate(static_cast<std::size_t>(std::max<std::int64_t>(count, 1)) * size_bytes(dtype));
    backend.zero(buffer.data(), buffer.size_bytes());
    return buffer;
  };
  p.w = zeroed(p.total, type);
  p.dw = zeroed(p.trainable, type);
  p.m = zeroed(p.trainable, type);
  p.v = zeroed(p.trainable, type);
  if (low_precision != type) p.low_precision = zeroed(p.total, low_precision);
  const auto at = [](const Buffer& buffer, const Shape& shape, DType dtype, std::int64_t offset) {
    Tensor tensor{{shape, dtype}, buffer.data()};
    if (tensor.data) tensor.data = const_cast<void*>(element(tensor.data, dtype, offset));
    return tensor;
  };
  for (std::size_t i = 0; i < p.offsets.size(); ++i) {
    const Parameter& parameter = graph.parameters()[i];
    p.values.push_back(at(p.w, parameter.shape, type, p.offsets[i]));
    p.low_precision_values.push_back(low_precision == type ? p.values.back()
                                                           : at(p.low_precision, parameter.shape, low_precision, p.offsets[i]));
    p.gradients.push_back(parameter.trainable ? at(p.dw, parameter.shape, type, p.offsets[i])
                                              : Tensor{{parameter.shape, type}});
  }
  return p;
}

}  // namespace microtome
