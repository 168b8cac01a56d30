// Batch state->batch of the epoch from what lies on the device: x = (pixel - mean) / divisor, RGB or BGR, or features as they
// are; y = label.
// Mapping: a row of blocks an image, one thread for V neighbours of it; the first thread of a block finds which image.
// Traffic: reads the image once, writes x once. Numerics: float32, rounded once.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vector.h"
#include "kernels/formulas/normalise.h"
#include "kernels/formulas/permutation.h"

namespace microtome::cuda {

namespace {

/// A choice, not an index: indexing an argument would put it into local memory.
__device__ inline float of_channel(const std::array<float, 3>& values, int channel) {
  return channel == 0 ? values[0] : channel == 1 ? values[1] : values[2];
}

/// V elements of x from `first` on.
template <int V>
__device__ inline void load_image(float (&values)[V], const Gather& kind, const std::uint8_t* image, int first, int channels) {
  int channel = first % channels;
  Vector<std::uint8_t, V> pixels;
  if (kind.bgr) {
#pragma unroll
    for (int i = 0, c = channel; i < V; ++i) {
      pixels.at[i] = image[first + i + 2 - 2 * c];
      if (++c == channels) c = 0;
    }
  } else {
    pixels = *reinterpret_cast<const Vector<std::uint8_t, V>*>(image + first);
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    values[i] = normalise<float>(pixels.at[i], of_channel(kind.mean, channel), of_channel(kind.divisor, channel));
    if (++channel == channels) channel = 0;
  }
}

template <int V, class T>
__device__ inline void load_image(float (&values)[V], const Gather&, const T* features, int first, int) {
  load<V>(values, features + first);
}

/// `count` elements an image of `channels` each. Vectors need `count` to be a multiple of V and x packed.
template <class From, class T, int V>
__global__ void __launch_bounds__(block_threads)
    gather_forward(Gather kind, int count, int channels, const From* images, const std::uint8_t* labels, const StepState* state,
                   T* x, Place at_x, float* y) {
  __shared__ std::int64_t source;
  const unsigned j = blockIdx.y;
  if (threadIdx.x == 0) {
    // A batch beyond the last image, which no epoch asks for, starts again with the first instead of leaving the array.
    const std::uint64_t number = (state->batch * kind.batch_size + j) % kind.images;
    const auto images_in_all = static_cast<std::uint64_t>(kind.images);
    source = static_cast<std::int64_t>(kind.shuffle ? permuted(number, images_in_all, state->seed, state->epoch) : number);
    if (blockIdx.x == 0) y[j] = static_cast<float>(labels[source]);
  }
  __syncthreads();
  const int first = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (first >= count) return;
  float values[V];
  load_image<V>(values, kind, images + source * count, first, channels);
  const unsigned cell = static_cast<unsigned>(first / channels), cells = static_cast<unsigned>(count / channels);
  store<V>(x + (V == 1 ? at_x(j * cells + cell) + first % channels : std::int64_t{j} * count + first), values);
}

class CudaGather final : public GatherOp {
 public:
  CudaGather(Context& context, const Gather& kind) : context_(context), kind_(kind) {}

  void forward(const Tensor& images, const Tensor& labels, const StepState* state, const Tensor& x, const Tensor& y) override {
    by_type(x.dtype, [&]<class T>(T) {
      images.dtype == DType::u8 ? gather<std::uint8_t, T>(images, labels, state, x, y)
                                : gather<T, T>(images, labels, state, x, y);
    });
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

 private:
  template <class From, class T>
  void gather(const Tensor& images, const Tensor& labels, const StepState* state, const Tensor& x, const Tensor& y) {
    constexpr int widest = vector_width<T>;
    const int count = static_cast<int>(x.shape.count() / x.shape.n);
    // 50 x 50 x 3 is a multiple of 4 but not of 8: bf16 then goes half as wide.
    const auto fits = [&](int v) {
      const auto aligned_to = [v](const Tensor& t) {
        return reinterpret_cast<std::uintptr_t>(t.data) % (static_cast<unsigned>(v) * size_bytes(t.dtype)) == 0;
      };
      return x.is_packed() && count % v == 0 && aligned_to(images) && aligned_to(x);
    };
    const int v = fits(widest) ? widest : fits(4) ? 4 : 1;
    const dim3 blocks(blocks_for(static_cast<unsigned>((count + v - 1) / v)), static_cast<unsigned>(x.shape.n));
    launch("gather_forward", context_, blocks, block_threads,
           v == widest ? gather_forward<From, T, widest>
           : v == 4    ? gather_forward<From, T, 4>
                       : gather_forward<From, T, 1>,
           kind_, count, x.shape.c, images.as<const From>(), labels.as<const std::uint8_t>(), state, x.as<T>(), place(x),
           y.as<float>());
  }

  Context& context_;
  Gather kind_;
};

}  // namespace

std::unique_ptr<GatherOp> make_gather(Context& context, const Gather& kind, const Layout& images, const Layout& x) {
  const bool features = images.dtype != DType::u8;
  require((!features || images.dtype == x.dtype) && images.is_packed() && images.shape.n == kind.images,
          "gather: images are packed ", kind.images, "xHxWxC of u8 or ", name(x.dtype), ", not ", to_string(images.shape),
          " of ", name(images.dtype));
  require(images.shape.h == x.shape.h && images.shape.w == x.shape.w && images.shape.c == x.shape.c, "gather: images ",
          to_string(images.shape), " and x ", to_string(x.shape), " differ");
  require(features || x.shape.c == 3 || (x.shape.c < 3 && !kind.bgr), "gather: an image of ", x.shape.c, " channels");
  require(x.shape.n <= 65535, "gather: a batch has at most 65535 images");
  return std::make_unique<CudaGather>(context, kind);
}

}  // namespace microtome::cuda
