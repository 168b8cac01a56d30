// y = activation(b + x w), x: N C, w: C K, y: N K. cuBLASLt counts rows first, so that our row-major matrices are its
// transposes: y' (K N) = w' (K C) x' (C N); dx' (C N) = w (C K) dy' (K N); dw' (K C) = dy' (K N) x (N C). bf16: products of
// bf16, sums in float32; y is rounded once, after bias and activation, by our own epilogue.
#include "kernels/cuda/dense.h"

#include "kernels/cuda/linear.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

namespace microtome::cuda {

namespace {

constexpr std::uint32_t even_bytes = 16;  // of which addresses are multiples where kernels may read vectors
constexpr std::size_t workspace_bytes = std::size_t{32} << 20;  // what cuBLAS' documentation advises for Hopper

cudaDataType_t cuda_type(DType type) {
  return type == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

/// One of cuBLASLt's matrices: rows first, columns `stride` elements apart.
struct Matrix {
  int rows, columns;
  std::int64_t stride;
  DType type;
  bool transposed = false;
};

MatrixLayout layout_of(const Matrix& m) {
  cublasLtMatrixLayout_t raw = nullptr;
  check(cublasLtMatrixLayoutCreate(&raw, cuda_type(m.type), static_cast<std::uint64_t>(m.rows),
                                   static_cast<std::uint64_t>(m.columns), m.stride));
  return MatrixLayout(raw);
}

/// d = op(a) op(b) + beta d, with a bias over d's rows where there is one. No relu: cuBLASLt's makes 0 of NaN.
class Product {
 public:
  Product(cublasLtHandle_t handle, Precision precision, const Matrix& a, const Matrix& b, const Matrix& d, bool even,
          const Tensor* bias = nullptr)
      : handle_(handle), adds_bias_(bias != nullptr), a_(layout_of(a)), b_(layout_of(b)), d_(layout_of(d)) {
    cublasLtMatmulDesc_t raw = nullptr;
    check(cublasLtMatmulDescCreate(&raw, precision == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                   CUDA_R_32F));
    operation_ = MatmulDescriptor(raw);
    set(CUBLASLT_MATMUL_DESC_TRANSA, a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (adds_bias_) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias->data));
    }

    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference));
    const MatmulPreference owned(preference);
    const auto limit = [&](cublasLtMatmulPreferenceAttributes_t name, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value));
    };
    limit(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    // Sums of partial products in the output's type would round bf16 more than once.
    limit(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
          static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    const auto align = [&](cublasLtMatmulPreferenceAttributes_t name, const Matrix& m) {
      limit(name, even ? even_bytes : static_cast<std::uint32_t>(size_bytes(m.type)));
    };
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d);
    int count = 0;
    if (cublasLtMatmulAlgoGetHeuristic(handle, operation_.raw(), a_.raw(), b_.raw(), d_.raw(), d_.raw(), preference, 1,
                                       &choice_, &count) != CUBLAS_STATUS_SUCCESS)
      count = 0;
    possible_ = count > 0;
  }

  bool is_possible() const { return possible_; }

  void run(const Context& context, const void* a, const void* b, Write mode, void* d, void* workspace,
           const Tensor* bias = nullptr) {
    if (context.collecting()) return;
    if (bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias->data));
    const float alpha = 1, beta = mode == Write::accumulate ? 1.0f : 0.0f;
    check(cublasLtMatmul(handle_, operation_.raw(), &alpha, a, a_.raw(), b, b_.raw(), &beta, d, d_.raw(), d, d_.raw(),
                         &choice_.algo, workspace, choice_.workspaceSize, context.stream()));
  }

  bool adds_bias() const { return adds_bias_; }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t name, Value value) {
    check(cublasLtMatmulDescSetAttribute(operation_.raw(), name, &value, sizeof value));
  }

  cublasLtHandle_t handle_;
  bool adds_bias_;
  MatrixLayout a_, b_, d_;
  MatmulDescriptor operation_;
  cublasLtMatmulHeuristicResult_t choice_{};
  bool possible_ = false;
};

class CublasDense final : public DenseOp {
 public:
  CublasDense(Context& context, cublasLtHandle_t handle, const Dense& kind, const Layout& x, const Layout& y)
      : context_(context), handle_(handle), kind_(kind), x_(x), y_(y) {
    // The epilogue's sum is not rounded before bias and activation only where y is f32 itself.
    in_y_ = y.dtype == DType::f32;
    context.reserve(workspace_bytes + (in_y_ ? 0 : aligned(static_cast<std::size_t>(y.shape.count()) * sizeof(float))));
  }

  void forward(const Tensor& x, const Tensor& w, const Tensor* b, const Tensor& y) override {
    require((b != nullptr) == kind_.bias && (b == nullptr || b->dtype == DType::f32), "dense: an f32 bias where there is one");
    require(w.dtype == x_.dtype && x.dtype == x_.dtype, "dense: x is ", name(x_.dtype), " but w ", name(w.dtype));
    const int n = x_.shape.n, c = x_.shape.c, k = y_.shape.c;
    const std::size_t sum_bytes = static_cast<std::size_t>(y_.shape.count()) * sizeof(float);
    std::byte* scratch = context_.scratch(workspace_bytes + (in_y_ ? 0 : sum_bytes));
    Tensor sum = y;
    if (!in_y_) {
      sum.dtype = DType::f32;
      sum.strides = packed(y.shape);
      sum.data = scratch + workspace_bytes;
    }
    Product& product = planned(Pass::forward, {&x, &w, b, &sum}, {k, c, k, w.dtype}, {c, n, x.strides.n, x.dtype},
                               {k, n, sum.strides.n, DType::f32}, b);
    const Tensor* added = product.adds_bias() ? b : nullptr;
    product.run(context_, w.data, x.data, Write::overwrite, sum.data, scratch, added);
    const bool done = in_y_ && added == b && kind_.activation == Activation::none;
    if (!done) epilogue(context_, sum, added == b ? nullptr : b, kind_.activation, y, Write::overwrite);
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, Write mode) override {
    const int n = x_.shape.n, c = x_.shape.c, k = y_.shape.c;
    std::byte* scratch = context_.scratch(workspace_bytes + narrowed_bytes(dy));
    const Tensor g = narrowed(dy, scratch + workspace_bytes);
    Product& product = planned(Pass::backward_data, {&g, &w, &dx}, {k, c, k, w.dtype, true}, {k, n, g.strides.n, g.dtype},
                               {c, n, dx.strides.n, dx.dtype});
    product.run(context_, w.data, g.data, mode, dx.data, scratch);
  }

  void backward_filter(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor* db, Write mode) override {
    require(dw.dtype == DType::f32 && dw.is_packed(), "dense: dw is packed f32");
    const int n = x_.shape.n, c = x_.shape.c, k = y_.shape.c;
    std::byte* scratch = context_.scratch(std::max(workspace_bytes + narrowed_bytes(dy), column_sum_bytes(context_, dy)));
    const Tensor g = narrowed(dy, scratch + workspace_bytes);
    Product& product = planned(Pass::backward_filter, {&x, &g, &dw}, {k, n, g.strides.n, g.dtype},
                               {c, n, x.strides.n, x.dtype, true}, {k, c, k, DType::f32});
    product.run(context_, g.data, x.data, mode, dw.data, scratch);
    if (db != nullptr) column_sums(context_, dy, *db, mode, scratch);
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "cublasLt"; }

 private:
  enum class Pass { forward, backward_data, backward_filter };

  /// The gradient of logits may be f32 where all else is bf16; products want one type.
  std::size_t narrowed_bytes(const Layout& dy) const {
    return dy.dtype == x_.dtype ? 0 : static_cast<std::size_t>(dy.shape.count()) * size_bytes(x_.dtype);
  }
  Tensor narrowed(const Tensor& dy, void* room) {
    if (dy.dtype == x_.dtype) return dy;
    const Tensor result{{dy.shape, x_.dtype, packed(dy.shape)}, room};
    epilogue(context_, dy, nullptr, Activation::none, result, Write::overwrite);
    return result;
  }

  /// The product of a pass for addresses such as these; planned now if it was not yet.
  Product& planned(Pass pass, std::initializer_list<const Tensor*> tensors, const Matrix& a, const Matrix& b, const Matrix& d,
                   const Tensor* bias = nullptr) {
    const bool even = std::all_of(tensors.begin(), tensors.end(), [](const Tensor* t) {
      return t == nullptr || reinterpret_cast<std::uintptr_t>(t->data) % even_bytes == 0;
    });
    const std::pair key{pass, even};
    if (const auto found = products_.find(key); found != products_.end()) return found->second;
    if (bias != nullptr && in_y_) {
      Product fused(handle_, context_.precision(), a, b, d, even, bias);
      if (fused.is_possible()) return products_.emplace(key, std::move(fused)).first->second;
    }
    Product plain(handle_, context_.precision(), a, b, d, even);
    if (!plain.is_possible()) {
      fail(ExitCode::machine, "cuBLASLt has no kernel for this matrix product",
           {.found = fmt::format("x {}, y {}, {}", to_string(x_.shape), to_string(y_.shape), name(x_.dtype))});
    }
    return products_.emplace(key, std::move(plain)).first->second;
  }

  Context& context_;
  cublasLtHandle_t handle_;
  Dense kind_;
  Layout x_, y_;
  bool in_y_ = false;                                  // the product goes straight into y
  std::map<std::pair<Pass, bool>, Product> products_;  // by pass and whether addresses are even
};

}  // namespace

std::unique_ptr<DenseOp> make_dense(Context& context, cublasLtHandle_t handle, const Dense& kind, const Layout& x,
                                    const Layout& y) {
  require(x.shape.h == 1 && x.shape.w == 1 && y.shape.h == 1 && y.shape.w == 1 && x.shape.n == y.shape.n, "dense: x ",
          to_string(x.shape), " and y ", to_string(y.shape), " are not N 1 1 C and N 1 1 K");
  return std::make_unique<CublasDense>(context, handle, kind, x, y);
}

}  // namespace microtome::cuda
