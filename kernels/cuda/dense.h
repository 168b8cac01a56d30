// Dense layers on cuBLASLt.
#pragma once

#include "kernels/cuda/device/context.h"
#include "kernels/cuda/vendor/cublas.h"

#include <memory>

namespace microtome::cuda {

std::unique_ptr<DenseOp> make_dense(Context&, cublasLtHandle_t, const Dense&, const Layout& x, const Layout& y);

}  // namespace microtome::cuda
