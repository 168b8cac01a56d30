// Test only: the CUDA backend's ops on the host: its kernels played by machine.h, its calls of cuDNN and cuBLASLt by plain
// loops.
#pragma once

#include "kernels/backend.h"
#include "kernels/host_cuda/machine.h"

#include <memory>

namespace microtome::test {

/// f32 or bf16.
std::unique_ptr<Backend> make_host_cuda_backend(Precision precision, host_cuda::Order order,
                                                const BackendOptions& options = {});

}  // namespace microtome::test
