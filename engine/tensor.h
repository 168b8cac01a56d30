// A tensor is a view: where the elements lie and how, never who owns them.
#pragma once

#include "engine/shape.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace microtome {

enum class DType { u8, bf16, f32, f64 };

constexpr std::size_t size_bytes(DType type) {
  switch (type) {
    case DType::u8: return 1;
    case DType::bf16: return 2;
    case DType::f32: return 4;
    case DType::f64: return 8;
  }
  return 0;
}

constexpr std::string_view name(DType type) {
  switch (type) {
    case DType::u8: return "u8";
    case DType::bf16: return "bf16";
    case DType::f32: return "f32";
    case DType::f64: return "f64";
  }
  return "?";
}

/// Elements from one image, row or column to the next; the channel stride is always 1. A slice of a wider tensor has
/// strides larger than its shape asks for.
struct Strides {
  std::int64_t n = 0, h = 0, w = 0;
  bool operator==(const Strides&) const = default;
};

constexpr Strides packed(const Shape& s) {
  return {std::int64_t{s.h} * s.w * s.c, std::int64_t{s.w} * s.c, std::int64_t{s.c}};
}

/// All that planning needs to know of a tensor.
struct Layout {
  Shape shape;
  DType dtype = DType::f32;
  Strides strides = packed(shape);

  bool is_packed() const { return strides == packed(shape); }
  std::size_t packed_bytes() const { return static_cast<std::size_t>(shape.count()) * size_bytes(dtype); }
  bool operator==(const Layout&) const = default;
};

struct Tensor : Layout {
  void* data = nullptr;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace microtome
