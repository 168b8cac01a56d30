// y = x / (1 - rate) where a random number says keep, else 0; one number an element or an image (formulas/dropout.h).
// Mapping: one thread for 16 bytes of neighbours. Traffic: reads x, writes y (backward: dy, dx); nothing is stored, since the
// mask is a function of the step. Numerics: float32, rounded once.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/dropout.h"

namespace microtome::cuda {

namespace {

struct Draw {
  float rate;
  bool per_image;
  std::uint64_t stream;
  unsigned width;                 // elements a row of the sheet
  std::uint64_t per_image_count;  // elements an image
};

/// Both passes: forward from x to y, backward from dy to dx.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    dropout_mask(Sheet sheet, Draw draw, const StepState* state, const T* x, Place at_x, T* y, Place at_y, bool accumulate) {
  const Share mine = share<V>(sheet);
  if (mine.live == 0) return;
  float values[V] = {};
  load<V>(values, x + at_x(mine.row) + mine.column, mine.live);
  const std::uint64_t element = std::uint64_t{mine.row} * draw.width + mine.column;
  const float scale = dropout_scale<float>(draw.rate);
  std::array<std::uint32_t, 4> words{};
  std::uint64_t drawn = ~std::uint64_t{0};  // the counter that `words` belong to
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const std::uint64_t number = draw.per_image ? (element + i) / draw.per_image_count : element + i;
    const std::uint64_t index = dropout_index(state->step, number);
    if (index / 4 != drawn) {
      drawn = index / 4;
      words = philox(state->seed, draw.stream, drawn);
    }
    const unsigned lane = index % 4;
    const std::uint32_t word = lane < 2 ? (lane == 0 ? words[0] : words[1]) : (lane == 2 ? words[2] : words[3]);
    values[i] = dropout_keeps(word, draw.rate) ? values[i] * scale : 0.0f;
  }
  write<V>(y + at_y(mine.row) + mine.column, values, accumulate, mine.live);
}

class CudaDropout final : public DropoutOp {
 public:
  CudaDropout(Context& context, const Dropout& kind) : context_(context), kind_(kind) {}

  void forward(const Tensor& x, const Deferred*, const StepState* state, const Tensor& y) override {
    mask(x, state, y, Write::overwrite);
  }
  void backward(const Tensor& dy, const Deferred*, const StepState* state, const Tensor& dx, Write mode) override {
    mask(dy, state, dx, mode);
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  void mask(const Tensor& x, const StepState* state, const Tensor& y, Write mode) {
    by_type(x.dtype, [&]<class T>(T) {
      const Walk walk(x, {&x, &y}, vector_width<T>);
      const Draw draw{kind_.rate, kind_.per_image, kind_.stream, walk.sheet.width,
                      static_cast<std::uint64_t>(x.shape.count() / x.shape.n)};
      launch("dropout_mask", context_, blocks_for(walk.sheet.count()), block_threads,
             walk.wide ? dropout_mask<T, vector_width<T>> : dropout_mask<T, 1>, walk.sheet, draw, state, x.as<const T>(),
             place(x), y.as<T>(), place(y), mode == Write::accumulate);
    });
  }

  Context& context_;
  Dropout kind_;
};

}  // namespace

std::unique_ptr<DropoutOp> make_dropout(Context& context, const Dropout& kind, const Layout& x, const Layout& y) {
  require(x.shape == y.shape && x.dtype == y.dtype, "dropout: x ", to_string(x.shape), " and y ", to_string(y.shape),
          " differ");
  if (kind.deferred) return nullptr;
  return std::make_unique<CudaDropout>(context, kind);
}

}  // namespace microtome::cuda
