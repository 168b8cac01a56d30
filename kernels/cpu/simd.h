// Sixteen floats as one value, in GCC's vector types: one AVX-512 register, or as many smaller ones as the machine needs.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace microtome {

inline constexpr int lanes = 16;
typedef float Floats __attribute__((vector_size(lanes * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(lanes * sizeof(std::int32_t))));
typedef std::uint64_t Words __attribute__((vector_size(64)));  // eight 32-bit words, each with room for a product
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

/// GCC 12 converts in four pieces that meet in memory, which stalls; the instruction does it at once.
inline Ints widen(Bytes bytes) {
#ifdef __AVX512F__
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(0xFFFF, reinterpret_cast<__m128i>(bytes)));
#else
  return __builtin_convertvector(bytes, Ints);
#endif
}

/// Of 32-bit words. As products of 64 bits they would take three times as long.
inline Words product(Words a, Words b) {
#ifdef __AVX512F__
  return reinterpret_cast<Words>(_mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#else
  return a * b;
#endif
}

}  // namespace microtome
