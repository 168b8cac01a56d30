// Batch state->batch of the epoch from what lies on the device: x = (pixel - mean) / divisor, RGB or BGR, augmented or as it
// is, or features as they are; y = label. Mapping: a row of blocks an image; the first thread of a block finds which image and
// what becomes of it. A packed x: one thread for V neighbours; one whose pixels lie further apart, as convolutions like them (3
// channels of 8): one a pixel, zeros included. Traffic: reads the image once, four pixels for each of an image that is warped,
// from the L1 cache; writes x once. Numerics: float32, rounded once.
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/augmentation.h"
#include "kernels/formulas/normalise.h"
#include "kernels/formulas/permutation.h"

namespace microtome::cuda {

namespace {

/// A choice, not an index: indexing an argument would put it into local memory.
__device__ inline float of_channel(const std::array<float, 3>& values, int channel) {
  return channel == 0 ? values[0] : channel == 1 ? values[1] : values[2];
}

/// What a block works on.
struct Source {
  std::int64_t number;  // of the image on the device
  Warp<float> warp;     // where it is augmented
};

/// For one thread of a block; of an image's first block, it brings the label as well.
template <bool augmented>
__device__ inline void find_source(Source& source, const Gather& kind, const Shape& shape, const std::uint8_t* labels,
                                   const StepState* state, float* y) {
  const unsigned j = blockIdx.y;
  // A batch beyond the last image, which no epoch asks for, starts again with the first instead of leaving the array.
  const std::uint64_t number = (state->batch * kind.batch_size + j) % kind.images;
  const auto images = static_cast<std::uint64_t>(kind.images);
  const std::uint64_t found = kind.shuffle ? permuted(number, images, state->seed, state->epoch) : number;
  source.number = static_cast<std::int64_t>(found);
  if (blockIdx.x == 0) y[j] = static_cast<float>(labels[found]);
  if constexpr (augmented) source.warp = drawn_warp<float>(kind.augment, state->seed, state->epoch, found, shape.h, shape.w);
}

/// Channel `channel` of x at a pixel of an image of u8.
template <bool augmented>
__device__ inline float channel_of(const Gather& kind, const Shape& shape, const Source& source, const std::uint8_t* image,
                                   int cell, int channel) {
  const int from = kind.bgr ? 2 - channel : channel;
  float pixel;
  if constexpr (augmented) {
    pixel = warped(source.warp, image, shape.h, shape.w, shape.c, cell / shape.w, cell % shape.w, from);
  } else {
    pixel = image[cell * shape.c + from];
  }
  return normalise(pixel, of_channel(kind.mean, channel), of_channel(kind.divisor, channel));
}

/// V elements of x from `first` on.
template <bool augmented, int V>
__device__ inline void load_image(float (&values)[V], const Gather& kind, const Shape& shape, const Source& source,
                                  const std::uint8_t* image, int first) {
  int cell = first / shape.c, channel = first % shape.c;
  if (augmented || kind.bgr) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      values[i] = channel_of<augmented>(kind, shape, source, image, cell, channel);
      if (++channel == shape.c) channel = 0, ++cell;
    }
  } else {
    const auto pixels = *reinterpret_cast<const Vector<std::uint8_t, V>*>(image + first);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      values[i] = normalise<float>(pixels.at[i], of_channel(kind.mean, channel), of_channel(kind.divisor, channel));
      if (++channel == shape.c) channel = 0;
    }
  }
}

template <bool augmented, int V, class T>
__device__ inline void load_image(float (&values)[V], const Gather&, const Shape&, const Source&, const T* features,
                                  int first) {
  load<V>(values, features + first);
}

/// Vectors need an image's elements to be a multiple of V, and x packed.
template <class From, class T, int V, bool augmented>
__global__ void __launch_bounds__(block_threads)
    gather_forward(Gather kind, Shape shape, const From* images, const std::uint8_t* labels, const StepState* state, T* x,
                   float* y) {
  __shared__ Source source;
  if (threadIdx.x == 0) find_source<augmented>(source, kind, shape, labels, state, y);
  __syncthreads();
  const int first = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V, count = shape.h * shape.w * shape.c;
  if (first >= count) return;
  float values[V];
  load_image<augmented>(values, kind, shape, source, images + source.number * count, first);
  store<V>(x + std::int64_t{blockIdx.y} * count + first, values);
}

/// x's pixels are `width` elements apart, a multiple of V.
template <class T, int V, bool augmented>
__global__ void __launch_bounds__(block_threads)
    gather_forward_padded(Gather kind, Shape shape, const std::uint8_t* images, const std::uint8_t* labels,
                          const StepState* state, T* x, PixelOffset at_x, int width, float* y) {
  __shared__ Source source;
  if (threadIdx.x == 0) find_source<augmented>(source, kind, shape, labels, state, y);
  __syncthreads();
  const int cells = shape.h * shape.w, cell = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (cell >= cells) return;
  const std::uint8_t* image = images + source.number * cells * shape.c;
  T* to = x + at_x(blockIdx.y * static_cast<unsigned>(cells) + static_cast<unsigned>(cell));
  for (int first = 0; first < width; first += V) {
    float values[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int channel = first + i;
      values[i] = channel < shape.c ? channel_of<augmented>(kind, shape, source, image, cell, channel) : 0.0f;
    }
    store<V>(to + first, values);
  }
}

class CudaGather final : public GatherOp {
 public:
  CudaGather(Context& context, const Gather& kind) : context_(context), kind_(kind) {}

  void forward(const Tensor& images, const Tensor& labels, const StepState* state, const Tensor& x, const Tensor& y) override {
    by_type(x.dtype, [&]<class T>(T) {
      if (images.dtype != DType::u8) return gather<T, T, false>(images, labels, state, x, y);
      kind_.augment.any() ? gather<std::uint8_t, T, true>(images, labels, state, x, y)
                          : gather<std::uint8_t, T, false>(images, labels, state, x, y);
    });
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  template <class From, class T, bool augmented>
  void gather(const Tensor& images, const Tensor& labels, const StepState* state, const Tensor& x, const Tensor& y) {
    constexpr int widest = vector_width<T>;
    const auto blocks = [&x](int threads) {
      return dim3(blocks_for(static_cast<unsigned>(threads)), static_cast<unsigned>(x.shape.n));
    };
    if constexpr (sizeof(From) == 1) {
      if (!x.is_packed()) {
        launch("gather_forward_padded", context_, blocks(x.shape.h * x.shape.w), block_threads,
               is_aligned(x, widest) ? gather_forward_padded<T, widest, augmented> : gather_forward_padded<T, 1, augmented>,
               kind_, x.shape, images.as<const std::uint8_t>(), labels.as<const std::uint8_t>(), state, x.as<T>(), offset_of(x),
               static_cast<int>(x.strides.w), y.as<float>());
        return;
      }
    }
    const int count = static_cast<int>(x.shape.count() / x.shape.n);
    // 50 x 50 x 3 is a multiple of 4 but not of 8: bf16 then goes half as wide.
    const auto fits = [&](int v) {
      const auto aligned_to = [v](const Tensor& t) {
        return reinterpret_cast<std::uintptr_t>(t.data) % (static_cast<unsigned>(v) * size_bytes(t.dtype)) == 0;
      };
      return count % v == 0 && aligned_to(images) && aligned_to(x);
    };
    const int v = fits(widest) ? widest : fits(4) ? 4 : 1;
    launch("gather_forward", context_, blocks((count + v - 1) / v), block_threads,
           v == widest ? gather_forward<From, T, widest, augmented>
           : v == 4    ? gather_forward<From, T, 4, augmented>
                       : gather_forward<From, T, 1, augmented>,
           kind_, x.shape, images.as<const From>(), labels.as<const std::uint8_t>(), state, x.as<T>(), y.as<float>());
  }

  Context& context_;
  Gather kind_;
};

}  // namespace

std::unique_ptr<GatherOp> make_gather(Context& context, const Gather& kind, const Layout& images, const Layout& x) {
  const bool features = images.dtype != DType::u8;
  require((!features || (images.dtype == x.dtype && x.is_packed())) && images.is_packed() && images.shape.n == kind.images,
          "gather: images are packed ", kind.images, "xHxWxC of u8 or ", name(x.dtype), ", not ", to_string(images.shape),
          " of ", name(images.dtype));
  require(images.shape.h == x.shape.h && images.shape.w == x.shape.w && images.shape.c == x.shape.c, "gather: images ",
          to_string(images.shape), " and x ", to_string(x.shape), " differ");
  require(features || x.shape.c == 3 || (x.shape.c < 3 && !kind.bgr), "gather: an image of ", x.shape.c, " channels");
  require_augmentable(kind, images);
  require(x.shape.n <= 65535, "gather: a batch has at most 65535 images");
  return std::make_unique<CudaGather>(context, kind);
}

}  // namespace microtome::cuda
