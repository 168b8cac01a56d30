// As many floats as one register of the machine holds, as one value in GCC's vector types. Larger ones would do, in pieces; but
// GCC 12 keeps those in memory, where what is stored in pieces and loaded whole stalls: a convolution took a hundred times as
// long.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace microtome {

#if defined __AVX512F__
inline constexpr int lanes = 16, registers = 32;
#elif defined __AVX__
inline constexpr int lanes = 8, registers = 16;
#else
inline constexpr int lanes = 4, registers = 16;
#endif

typedef float Floats __attribute__((vector_size(lanes * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(lanes * sizeof(std::int32_t))));
typedef std::uint64_t Words __attribute__((vector_size(lanes * sizeof(std::uint32_t))));  // of 32 bits, with room for a product
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
#if defined __AVX512F__
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(0xFFFF, reinterpret_cast<__m128i>(bytes)));
#elif defined __AVX2__
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(std::bit_cast<long long>(bytes))));
#else
  return __builtin_convertvector(bytes, Ints);
#endif
}

/// Of 32-bit words. As products of 64 bits they would take three times as long.
inline Words product(Words a, Words b) {
#if defined __AVX512F__
  return reinterpret_cast<Words>(_mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined __AVX2__
  return reinterpret_cast<Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return a * b;
#endif
}

}  // namespace microtome
