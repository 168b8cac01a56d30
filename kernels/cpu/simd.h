// As many floats as one register of the machine holds, as one value in GCC's vector types. Larger ones would do, in pieces; but
// GCC 12 keeps those in memory, where what is stored in pieces and loaded whole stalls: a convolution took a hundred times as
// long.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#if defined __x86_64__
#include <immintrin.h>
#elif defined __aarch64__
#include <arm_neon.h>
#endif

namespace microtome {

// Of the registers some hold what a multiply-add reads: two weights and a value. For arm64, whose instructions read no memory,
// GCC 12 loads many values ahead of their use, and with fewer registers left it stores sums in the loop instead.
#if defined __AVX512F__
inline constexpr int lanes = 16, registers = 32, operands = 3;
#elif defined __AVX__
inline constexpr int lanes = 8, registers = 16, operands = 3;
#elif defined __aarch64__
inline constexpr int lanes = 4, registers = 32, operands = 12;
#else
inline constexpr int lanes = 4, registers = 16, operands = 3;
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

/// GCC 12 converts in pieces, which on x86-64 meet in memory and stall; the instructions do it at once.
inline Ints widen(Bytes bytes) {
#if defined __AVX512F__
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(0xFFFF, reinterpret_cast<__m128i>(bytes)));
#elif defined __AVX2__
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(std::bit_cast<long long>(bytes))));
#elif defined __aarch64__
  const uint8x8_t twice = vreinterpret_u8_u32(vdup_n_u32(std::bit_cast<std::uint32_t>(bytes)));
  return reinterpret_cast<Ints>(vmovl_u16(vget_low_u16(vmovl_u8(twice))));
#else
  return __builtin_convertvector(bytes, Ints);
#endif
}

/// Each number's lowest byte.
inline Bytes narrow(Ints ints) {
#ifdef __aarch64__
  const uint16x4_t halves = vmovn_u32(reinterpret_cast<uint32x4_t>(ints));
  return std::bit_cast<Bytes>(vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0));
#else
  return __builtin_convertvector(ints, Bytes);
#endif
}

/// Of 32-bit words. As products of 64 bits they would take three times as long, and arm64 has no vectors of those.
inline Words product(Words a, Words b) {
#if defined __AVX512F__
  return reinterpret_cast<Words>(_mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined __AVX2__
  return reinterpret_cast<Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined __aarch64__
  const auto words = [](Words both) { return vmovn_u64(reinterpret_cast<uint64x2_t>(both)); };
  return reinterpret_cast<Words>(vmull_u32(words(a), words(b)));
#else
  return a * b;
#endif
}

}  // namespace microtome
