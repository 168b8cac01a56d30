// cuBLASLt's handles, as thin as can be.
#pragma once

#include "engine/check.h"

#include <cublasLt.h>

#include <cstdio>
#include <utility>

namespace microtome::cuda {

/// Throws Error(ExitCode::machine).
inline void check(cublasStatus_t status, std::source_location at = std::source_location::current()) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(ExitCode::machine, fmt::format("cuBLASLt: {}", cublasLtGetStatusString(status)), {}, at);
}

inline void check_nothrow(cublasStatus_t status, std::source_location at = std::source_location::current()) noexcept {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "%s:%u: cuBLASLt: %s\n", at.file_name(), static_cast<unsigned>(at.line()),
               cublasLtGetStatusString(status));
}

/// Owns what one of cuBLASLt's create functions made.
template <class Raw, cublasStatus_t (*destroy)(Raw)>
class CublasOwned {
 public:
  CublasOwned() = default;
  explicit CublasOwned(Raw raw) : raw_(raw) {}
  CublasOwned(CublasOwned&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  CublasOwned& operator=(CublasOwned&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~CublasOwned() {
    if (raw_ != nullptr) check_nothrow(destroy(raw_));
  }
  Raw raw() const { return raw_; }

 private:
  Raw raw_ = nullptr;
};

using CublasHandle = CublasOwned<cublasLtHandle_t, cublasLtDestroy>;
using MatmulDescriptor = CublasOwned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using MatrixLayout = CublasOwned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using MatmulPreference = CublasOwned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

}  // namespace microtome::cuda
