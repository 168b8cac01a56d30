// Test only.
#pragma once

#include "kernels/host_cuda/cuda_runtime.h"

cudaError_t cudaProfilerStart();
cudaError_t cudaProfilerStop();
