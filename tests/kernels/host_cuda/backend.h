// Test only: the CUDA backend's own kernels on the host. Convolutions and dense layers, which are NVIDIA's libraries, it lacks.
#pragma once

#include "engine/backend.h"
#include "kernels/host_cuda/machine.h"

#include <memory>

namespace microtome::test {

/// f32 or bf16.
std::unique_ptr<Backend> make_host_cuda_backend(Precision precision, host_cuda::Order order);

}  // namespace microtome::test
