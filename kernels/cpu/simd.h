// Sixteen floats as one value, in GCC's vector types: one AVX-512 register, or as many smaller ones as the machine needs.
#pragma once

#include <cstdint>
#include <cstring>

namespace microtome {

inline constexpr int lanes = 16;
typedef float Floats __attribute__((vector_size(lanes * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(lanes * sizeof(std::int32_t))));
typedef std::uint8_t Bytes __attribute__((vector_size(lanes)));

template <class Vector, class T>
Vector load(const T* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class Vector, class T>
void store(T* to, Vector v) {
  std::memcpy(to, &v, sizeof v);
}

}  // namespace microtome
