// Instructions that only PTX has, each of a whole warp: every lane must come. Lanes hold matrices in parts, as the PTX ISA
// draws them ("Matrix Fragments for mma.m16n8k16", "ldmatrix"). Host tests have their own version of this file.
#pragma once

#include <cstdint>

namespace microtome::cuda {

/// A lane's part of 16 x 16 bf16: quarters (rows 0-7, columns 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15), of each the two
/// neighbours in row lane / 4 and columns 2 (lane % 4) and the next.
struct Fragment {
  std::uint32_t at[4];
};

/// Four matrices of 8 x 8 from shared memory, one a quarter; lane 8 i + r says where row r of quarter i lies, on 16 bytes.
__device__ inline Fragment load_quarters(const void* row) {
  Fragment f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(f.at[0]), "=r"(f.at[1]), "=r"(f.at[2]), "=r"(f.at[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
  return f;
}

/// Of each quarter in memory its transpose.
__device__ inline Fragment load_quarters_transposed(const void* row) {
  Fragment f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(f.at[0]), "=r"(f.at[1]), "=r"(f.at[2]), "=r"(f.at[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
  return f;
}

/// sums[m,n] += sum over 16 k of a[m,k] b[n,k], 16 m and 8 n: b's columns 0-7 and 8-15 as quarters of a fragment of its own
/// lie. A lane has sums of rows lane / 4 and 8 + lane / 4, each in columns 2 (lane % 4) and the next.
__device__ inline void multiply_add(float (&sums)[4], const Fragment& a, std::uint32_t b_low, std::uint32_t b_high) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b_low), "r"(b_high));
}

}  // namespace microtome::cuda
