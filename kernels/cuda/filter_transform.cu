// all[h K + k, r, s, c] = w[k, h^-1 (r, s), h^-1 c] for the eight symmetries h of p4m; dw the sum over the eight places.
// Mapping: one thread for 16 bytes of a cell's channels of w, or of one map's channels, which finds all eight places. Traffic:
// w and the filters once each. Numerics: forward exact; backward float32, g = 0 … 7 in order.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/filter_transform.h"

namespace microtome::cuda {

namespace {

/// w's shape, as runs of channels that stay together: of a cell, or of one symmetry of a cell.
struct Runs {
  int filters, side, channels, each;
  unsigned vectors;  // a run

  __host__ __device__ unsigned threads() const {
    return static_cast<unsigned>(filters * side * side * (channels / each)) * vectors;
  }
};

/// A thread's part of a run.
struct Piece {
  int filter, symmetry, column;  // symmetry: of the input, 0 where the run is a whole cell
  P4mCell cell;
  int live;  // elements; 0 past the end
};

template <int V>
__device__ Piece piece_of(const Runs& runs) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= runs.threads()) return {0, 0, 0, {0, 0}, 0};
  const int run = static_cast<int>(i / runs.vectors), column = static_cast<int>(i % runs.vectors) * V;
  const int per_cell = runs.channels / runs.each, cell = run / per_cell, left = runs.each - column;
  const int in_filter = cell % (runs.side * runs.side);
  return {cell / (runs.side * runs.side),
          run % per_cell,
          column,
          {in_filter / runs.side, in_filter % runs.side},
          left < V ? left : V};
}

__device__ std::int64_t at(const Runs& runs, int filter, P4mCell cell, int symmetry, int column) {
  return ((std::int64_t{filter} * runs.side + cell.row) * runs.side + cell.column) * runs.channels + symmetry * runs.each +
         column;
}

__device__ std::int64_t moved(const Runs& runs, const Piece& piece, int g) {
  const int symmetry = runs.each == runs.channels ? 0 : p4m_product(g, piece.symmetry);
  return at(runs, g * runs.filters + piece.filter, p4m_moved(g, runs.side, piece.cell), symmetry, piece.column);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads) filter_transform_forward(Runs runs, const T* w, T* all) {
  const Piece mine = piece_of<V>(runs);
  if (mine.live == 0) return;
  float values[V] = {};
  load<V>(values, w + at(runs, mine.filter, mine.cell, mine.symmetry, mine.column), mine.live);
#pragma unroll
  for (int g = 0; g < p4m_symmetries; ++g) store<V>(all + moved(runs, mine, g), values, mine.live);
}

template <int V>
__global__ void __launch_bounds__(block_threads) filter_transform_backward(Runs runs, const float* dall, float* dw) {
  const Piece mine = piece_of<V>(runs);
  if (mine.live == 0) return;
  float sum[V] = {};
#pragma unroll
  for (int g = 0; g < p4m_symmetries; ++g) {
    float values[V] = {};
    load<V>(values, dall + moved(runs, mine, g), mine.live);
#pragma unroll
    for (int i = 0; i < V; ++i) sum[i] = g == 0 ? values[i] : sum[i] + values[i];
  }
  store<V>(dw + at(runs, mine.filter, mine.cell, mine.symmetry, mine.column), sum, mine.live);
}

class CudaFilterTransform final : public FilterTransformOp {
 public:
  CudaFilterTransform(Context& context, P4m p4m, const Shape& w)
      : context_(context), w_(w), each_(p4m == P4m::group ? w.c / p4m_symmetries : w.c) {}

  void forward(const Tensor& w, const Tensor& all) override {
    by_type(w.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_wide(widest, {&w, &all});
      const Runs runs = runs_of(wide ? widest : 1);
      launch("filter_transform_forward", context_, blocks_for(runs.threads()), block_threads,
             wide ? filter_transform_forward<T, widest> : filter_transform_forward<T, 1>, runs, w.as<const T>(), all.as<T>());
    });
  }

  void backward(const Tensor& dall, const Tensor& dw) override {
    constexpr int widest = vector_width<float>;
    const bool wide = is_wide(widest, {&dall, &dw});
    const Runs runs = runs_of(wide ? widest : 1);
    launch("filter_transform_backward", context_, blocks_for(runs.threads()), block_threads,
           wide ? filter_transform_backward<widest> : filter_transform_backward<1>, runs, dall.as<const float>(),
           dw.as<float>());
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  bool is_wide(int widest, std::initializer_list<const Tensor*> tensors) const {
    bool wide = each_ % widest == 0;
    for (const Tensor* t : tensors) wide = wide && is_aligned(*t, widest);
    return wide;
  }
  Runs runs_of(int width) const { return {w_.n, w_.h, w_.c, each_, static_cast<unsigned>((each_ + width - 1) / width)}; }

  Context& context_;
  Shape w_;
  int each_;  // channels of a run
};

}  // namespace

std::unique_ptr<FilterTransformOp> make_filter_transform(Context& context, P4m p4m, const Layout& w, const Layout& all) {
  require_derived(p4m, w, all);
  return std::make_unique<CudaFilterTransform>(context, p4m, w.shape);
}

}  // namespace microtome::cuda
