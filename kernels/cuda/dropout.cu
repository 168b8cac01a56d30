// y = x / (1 - rate) where a random number says keep, else 0; one number an element or an image (formulas/dropout.h). With one
// an image, x may be a deferred batch-norm's (deferred.h).
// Mapping: one thread for 16 bytes of neighbours; where a batch-norm is deferred a thread keeps its channels and walks down a
// chunk of pixels. Traffic: reads x, writes y (backward: dy, a deferred batch-norm's x, dx); nothing is stored, since the mask
// is a function of the step. Numerics: float32, rounded once; sums in a fixed order.
#include "kernels/cuda/deferred_tile.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/formulas/dropout.h"

namespace microtome::cuda {

namespace {

struct Draw {
  float rate;
  bool per_image;
  std::uint64_t stream;
  unsigned width;                 // elements a row
  std::uint64_t per_image_count;  // elements an image
};

/// Both passes: forward from x to y, backward from dy to dx.
template <class T, int V>
__global__ void __launch_bounds__(block_threads) dropout_mask(WorkExtent extent, Draw draw, const StepState* state, const T* x,
                                                              PixelOffset at_x, T* y, PixelOffset at_y, bool accumulate) {
  const Slice mine = slice<V>(extent);
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

/// One number an image, of `cells` pixels.
struct ImageDraw {
  float rate;
  std::uint64_t stream;
  unsigned cells;
};

/// What images' values are multiplied by, as one thread sees it: pixel by pixel, so that most are the last one's image.
class ImageMask {
 public:
  __device__ ImageMask(const ImageDraw& draw, const StepState* state) : draw_(draw), state_(state) {}

  /// What is dropped becomes 0 whatever it was.
  template <int V>
  __device__ void operator()(unsigned pixel, float (&values)[V]) {
    if (const unsigned image = pixel / draw_.cells; image != image_) {
      image_ = image;
      keeps_ = dropout_keeps(state_->seed, draw_.stream, state_->step, image, draw_.rate);
    }
#pragma unroll
    for (int i = 0; i < V; ++i) values[i] = keeps_ ? values[i] * dropout_scale<float>(draw_.rate) : 0.0f;
  }

 private:
  const ImageDraw& draw_;
  const StepState* state_;
  unsigned image_ = ~0u;
  bool keeps_ = false;
};

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    dropout_forward_deferred(Tile tile, Norm norm, ImageDraw draw, const StepState* state, const T* x, PixelOffset at_x, T* y,
                             PixelOffset at_y) {
  const ThreadCoordinates mine = thread_coordinates<V>(tile);
  if (mine.live == 0) return;
  const NormOf<V> of_mine = load_norm<V>(norm, mine.channel, mine.live);
  ImageMask mask(draw, state);
  for (unsigned pixel = mine.first + mine.lane; pixel < mine.last; pixel += tile.lanes) {
    float values[V] = {};
    load<V>(values, x + at_x(pixel) + mine.channel, mine.live);
    apply<V>(of_mine, norm.activation, values);
    mask(pixel, values);
    store<V>(y + at_y(pixel) + mine.channel, values, mine.live);
  }
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads, summing_blocks)
    dropout_backward_deferred(Tile tile, Norm norm, ImageDraw draw, const StepState* state, const T* x, PixelOffset at_x,
                              const T* dy, PixelOffset at_dy, T* dx, PixelOffset at_dx, bool accumulate, float* sums) {
  ImageMask mask(draw, state);
  backward_through<T, V>(tile, norm, x, at_x, dx, at_dx, accumulate, sums,
                         [&](unsigned pixel, const ThreadCoordinates& mine, float(&gradient)[V]) {
                           load<V>(gradient, dy + at_dy(pixel) + mine.channel, mine.live);
                           mask(pixel, gradient);
                         });
}

class CudaDropout final : public DropoutOp {
 public:
  CudaDropout(Context& context, const Dropout& kind, const Layout& x)
      : context_(context), kind_(kind), rows_(sum_rows_of(x, context.multiprocessors())) {}

  void forward(const Tensor& x, const Deferred* deferred, const StepState* state, const Tensor& y) override {
    const Norm norm = norm_of(deferred, kind_.deferred);
    if (!deferred) return mask(x, state, y, Write::overwrite);
    by_type(x.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const bool wide = is_aligned(x, widest) && is_aligned(y, widest);
      const Tile tile = streaming_tile(x, wide ? widest : 1, context_.multiprocessors());
      launch("dropout_forward_deferred", context_, grid(tile), block_threads,
             wide ? dropout_forward_deferred<T, widest> : dropout_forward_deferred<T, 1>, tile, norm, image_draw(x), state,
             x.as<const T>(), offset_of(x), y.as<T>(), offset_of(y));
    });
  }

  void backward(const Tensor& dy, const Deferred* deferred, const StepState* state, const Tensor& dx, Write mode) override {
    const Norm norm = norm_of(deferred, kind_.deferred);
    if (!deferred) return mask(dy, state, dx, mode);
    by_type(dy.dtype, [&]<class T>(T) {
      constexpr int widest = vector_width<T>;
      const Tensor& x = deferred->x;
      const bool wide = is_aligned(x, widest) && is_aligned(dy, widest) && is_aligned(dx, widest);
      const Tile tile = summing_tile(dx, wide ? widest : 1, rows_);
      launch("dropout_backward_deferred", context_, grid(tile), block_threads,
             wide ? dropout_backward_deferred<T, widest> : dropout_backward_deferred<T, 1>, tile, norm, image_draw(x), state,
             x.as<const T>(), offset_of(x), dy.as<const T>(), offset_of(dy), dx.as<T>(), offset_of(dx),
             mode == Write::accumulate, sums_of(deferred, rows_));
    });
  }

  int sum_rows() const override { return rows_; }
  Reads backward_reads() const override { return {.x = kind_.deferred.has_value()}; }
  std::string implementation() const override { return "own"; }

 private:
  ImageDraw image_draw(const Layout& x) const {
    return {kind_.rate, kind_.stream, static_cast<unsigned>(x.shape.h * x.shape.w)};
  }

  void mask(const Tensor& x, const StepState* state, const Tensor& y, Write mode) {
    by_type(x.dtype, [&]<class T>(T) {
      const VectorLaunch vectors(x, {&x, &y}, vector_width<T>);
      const Draw draw{kind_.rate, kind_.per_image, kind_.stream, vectors.extent.width,
                      static_cast<std::uint64_t>(x.shape.count() / x.shape.n)};
      launch("dropout_mask", context_, blocks_for(vectors.extent.count()), block_threads,
             vectors.wide ? dropout_mask<T, vector_width<T>> : dropout_mask<T, 1>, vectors.extent, draw, state, x.as<const T>(),
             offset_of(x), y.as<T>(), offset_of(y), mode == Write::accumulate);
    });
  }

  Context& context_;
  Dropout kind_;
  int rows_;
};

}  // namespace

std::unique_ptr<DropoutOp> make_dropout(Context& context, const Dropout& kind, const Layout& x, const Layout& y) {
  require(x.shape == y.shape && x.dtype == y.dtype, "dropout: x ", to_string(x.shape), " and y ", to_string(y.shape),
          " differ");
  if (kind.deferred && !kind.per_image) return nullptr;
  return std::make_unique<CudaDropout>(context, kind, x);
}

}  // namespace microtome::cuda
