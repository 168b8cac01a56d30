#include "kernels/host_cuda/cublasLt.h"

#include "kernels/host_cuda/cuda_bf16.h"

#include <cstring>

namespace {

float load(const void* data, cudaDataType_t type, std::int64_t at) {
  return type == CUDA_R_32F ? static_cast<const float*>(data)[at]
                            : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]);
}

void store(void* data, cudaDataType_t type, std::int64_t at, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[at] = value;
  } else {
    static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(value);
  }
}

std::uint64_t rows(const HostMatrix& m, cublasOperation_t op) {
  return op == CUBLAS_OP_N ? m.rows : m.columns;
}
std::uint64_t columns(const HostMatrix& m, cublasOperation_t op) {
  return op == CUBLAS_OP_N ? m.columns : m.rows;
}
std::int64_t offset_of(const HostMatrix& m, cublasOperation_t op, std::uint64_t row, std::uint64_t column) {
  const auto r = static_cast<std::int64_t>(op == CUBLAS_OP_N ? row : column),
             c = static_cast<std::int64_t>(op == CUBLAS_OP_N ? column : row);
  return r + c * m.stride;
}

template <class T>
cublasStatus_t make(T** raw, T value = {}) {
  *raw = new T(value);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t destroy(T* raw) {
  delete raw;
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "success"
         : status == CUBLAS_STATUS_INVALID_VALUE ? "invalid value"
                                                 : "not supported";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return make(handle);
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return destroy(handle);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* descriptor, cublasComputeType_t, cudaDataType_t) {
  return make(descriptor);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t descriptor) {
  return destroy(descriptor);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, std::uint64_t rows,
                                          std::uint64_t columns, std::int64_t stride) {
  if (stride < static_cast<std::int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return make(layout, HostMatrix{type, rows, columns, stride});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return destroy(layout);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return make(preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy(preference);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t descriptor, cublasLtMatmulDescAttributes_t name,
                                              const void* value, std::size_t bytes) {
  const auto into = [&](auto& field) {
    if (bytes != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return into(descriptor->transa);
    case CUBLASLT_MATMUL_DESC_TRANSB: return into(descriptor->transb);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return into(descriptor->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return into(descriptor->bias);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void* value,
                                                    std::size_t bytes) {
  const std::size_t wanted = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof(std::uint64_t) : sizeof(std::uint32_t);
  if (bytes != wanted) return CUBLAS_STATUS_INVALID_VALUE;
  if (name >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)
    std::memcpy(&preference->alignments.at(name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES), value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t m, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  const bool shapes =
      rows(*a, m->transa) == d->rows && columns(*b, m->transb) == d->columns && columns(*a, m->transa) == rows(*b, m->transb);
  const bool types = a->type == b->type && (d->type == a->type || d->type == CUDA_R_32F);
  const auto may_lie = [&](std::size_t i, const HostMatrix& matrix) {
    return preference->alignments[i] >= (matrix.type == CUDA_R_32F ? 4u : 2u);
  };
  const bool addresses = may_lie(0, *a) && may_lie(1, *b) && may_lie(2, *d) && may_lie(3, *d);
  const bool whole = m->epilogue == CUBLASLT_EPILOGUE_DEFAULT || m->bias != nullptr;
  if (!shapes || !types || !addresses || !whole || wanted < 1) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {{preference->alignments}, 1024};
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t m, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b, const void* beta,
                              const void* c, cublasLtMatrixLayout_t layout_c, void* d, cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, std::size_t workspace_bytes,
                              cudaStream_t) {
  const std::array<const void*, 4> matrices{a, b, c, d};
  for (std::size_t i = 0; i < matrices.size(); ++i)
    if (reinterpret_cast<std::uintptr_t>(matrices[i]) % algorithm->alignments[i] != 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes < 1024) return CUBLAS_STATUS_INVALID_VALUE;
  std::memset(workspace, 0xff, workspace_bytes);
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  const std::uint64_t depth = columns(*layout_a, m->transa);
  for (std::uint64_t column = 0; column < layout_d->columns; ++column) {
    for (std::uint64_t row = 0; row < layout_d->rows; ++row) {
      double sum = 0;
      for (std::uint64_t i = 0; i < depth; ++i) {
        sum += double{load(a, layout_a->type, offset_of(*layout_a, m->transa, row, i))} *
               double{load(b, layout_b->type, offset_of(*layout_b, m->transb, i, column))};
      }
      sum *= scale;
      if (keep != 0) sum += double{keep} * load(c, layout_c->type, offset_of(*layout_c, CUBLAS_OP_N, row, column));
      if (m->epilogue != CUBLASLT_EPILOGUE_DEFAULT) sum += m->bias[row];
      store(d, layout_d->type, offset_of(*layout_d, CUBLAS_OP_N, row, column), static_cast<float>(sum));
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}
