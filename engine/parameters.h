// Where a graph's parameters lie on a device, and how values come and go.
#pragma once

#include "engine/backend.h"
#include "engine/graph.h"

#include <cstdint>
#include <span>
#include <vector>

namespace microtome {

/// w and, in the same places, dw, m, v and the low-precision copy; trainable ones first, so that the optimiser and a sum over
/// ranks take one stretch.
struct Parameters {
  std::vector<std::int64_t> offsets;  // elements
  std::int64_t trainable = 0;         // elements, with padding
  std::int64_t total = 0;
  DType type = DType::f32;  // of all but the low-precision copy
  Buffer w, dw, m, v, low_precision;
  // Of each parameter; gradients' data is null where it is not trainable.
  std::vector<Tensor> values, low_precision_values, gradients;

  /// Where those that are not trainable begin.
  void* fixed() const { return static_cast<std::byte*>(w.data()) + static_cast<std::size_t>(trainable) * size_bytes(type); }
};

/// All zero.
Parameters allocate_parameters(const Graph& graph, Backend& backend);

/// Between host values and device elements of another type.
void write_values(Backend& backend, void* device, DType dtype, std::span<const float> values);
std::vector<float> read_values(Backend& backend, const void* device, DType dtype, std::size_t count);

/// Between the graph's order, one parameter after another, and the device's places in a buffer of `size` elements. Parameters
/// beyond it (not trainable) read as zero.
std::vector<float> read_parameters(Backend& backend, const Graph& graph, const Parameters& parameters, const void* from,
                                   std::int64_t size);
std::vector<float> read_parameter(Backend& backend, const Graph& graph, const Parameters& parameters, const void* from,
                                  std::int64_t size, int parameter);
void write_parameters(Backend& backend, const Graph& graph, const Parameters& parameters, void* to, DType dtype,
                      std::int64_t size, std::span<const float> values);

}  // namespace microtome
