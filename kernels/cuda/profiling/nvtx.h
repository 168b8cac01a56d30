// What Nsight shows beside kernels: ranges of the domain `microtome`, one a row and pass ("conv3_block2_2_conv
// backward_filter"), in a colour and category a pass. Where no profiler listens, a call is a comparison with null.
#pragma once

#include "engine/profile.h"

#include <cuda_runtime.h>

namespace microtome::cuda {

void push_range(const Scope& scope);
void push_range(const char* name);
void pop_range();

void name_this_thread(const char* name);
/// Of the stream that the backend calls `number`.
void name_stream(cudaStream_t stream, int number);

}  // namespace microtome::cuda
