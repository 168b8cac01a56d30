#include "kernels/cuda/profiling/nvtx.h"

namespace microtome::cuda {

void push_range(const Scope&) {}
void push_range(const char*) {}
void pop_range() {}
void name_this_thread(const char*) {}
void name_stream(cudaStream_t, int) {}

}  // namespace microtome::cuda
