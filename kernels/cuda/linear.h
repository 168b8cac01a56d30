// What convolutions and dense layers need besides a library's product.
#pragma once

#include "kernels/cuda/device/context.h"

namespace microtome::cuda {

/// to (+)= activation(from + bias); bias: f32 over channels, or null. Any mixture of f32 and bf16; computed in float32.
void epilogue(Context&, const Tensor& from, const Tensor* bias, Activation, const Tensor& to, Write);

/// db (+)= sum of dy over N H W, in float32 and in a fixed order. Scratch: column_sum_bytes, at `partial`.
void column_sums(Context&, const Tensor& dy, const Tensor& db, Write, void* partial);
std::size_t column_sum_bytes(const Context&, const Layout& dy);

/// to (+)= sum over rows of a rows x count matrix, in a fixed order. All f32.
void add_rows(Context&, unsigned rows, unsigned count, const float* partial, float* to, Write);

}  // namespace microtome::cuda
