// x[j,h,w,c] = (images[i,h,w,c] - mean[c]) / divisor[c], or images[i,h,w,2 - c] with bgr, or features[i,h,w,c] as they are;
// y[j] = labels[i]; i is number batch * batch_size + j of the epoch, in file order or permuted. A pixel has 256 values: their
// images are tabulated once, but for augmented ones. See kernels/formulas/permutation.h and augmentation.h.
#include "kernels/cpu/cpu.h"
#include "kernels/formulas/augmentation.h"
#include "kernels/formulas/normalise.h"
#include "kernels/formulas/permutation.h"

#include <array>
#include <cstring>

namespace microtome {

namespace {

class CpuGather final : public GatherOp {
 public:
  CpuGather(const Gather& kind, const Layout& images, const Layout& x)
      : kind_(kind), images_(images), x_(x), augments_(kind.augment.any()) {
    require_f32(x, x);
    require(images.dtype == DType::u8 || images.dtype == DType::f32, "gather: images are ", name(images.dtype),
            " and neither u8 nor f32");
    require(images.shape == Shape{kind.images, x.shape.h, x.shape.w, x.shape.c} && (features() || x.shape.c <= 3),
            "gather: ", to_string(images.shape), " does not give ", to_string(x.shape));
    require(!kind.bgr || features() || x.shape.c == 3, "gather: ", x.shape.c, " channels are not blue, green and red");
    require_augmentable(kind, images);
    if (features()) return;
    for (int c = 0; c < x.shape.c; ++c)
      for (int value = 0; value < 256; ++value)
        table_[c][value] = normalise<float>(static_cast<float>(value), kind.mean[c], kind.divisor[c]);
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& images, const Tensor& labels, const StepState* state, const Tensor& x, const Tensor& y) override {
    require_layout(images, images_, "images"), require_layout(x, x_, "x"), require_vector(y, x.shape.n, "y");
    require(labels.dtype == DType::u8 && labels.shape.count() == kind_.images, "gather: labels are ", name(labels.dtype), " ",
            to_string(labels.shape));
    const std::uint64_t first = state->batch * kind_.batch_size;
    require(first + x.shape.n <= static_cast<std::uint64_t>(kind_.images), "gather: batch ", state->batch,
            " lies beyond the last image");
#pragma omp parallel for schedule(static)
    for (int j = 0; j < x.shape.n; ++j) {
      const std::uint64_t i = kind_.shuffle ? permuted(first + j, kind_.images, state->seed, state->epoch) : first + j;
      y.as<float>()[j] = labels.as<std::uint8_t>()[i];
      const std::uint8_t* image = images.as<std::uint8_t>() + i * images.strides.n;
      Warp<float> warp;
      if (augments_) warp = drawn_warp<float>(kind_.augment, state->seed, state->epoch, i, x.shape.h, x.shape.w);
      for (int h = 0; h < x.shape.h; ++h)
        for (int w = 0; w < x.shape.w; ++w) {
          const std::int64_t at = h * images.strides.h + w * images.strides.w;
          float* to = pixel(x, j, h, w);
          if (features())
            std::memcpy(to, images.as<float>() + i * images.strides.n + at, x.shape.c * sizeof(float));
          else if (augments_)
            for (int c = 0; c < x.shape.c; ++c) {
              const float from = warped(warp, image, x.shape.h, x.shape.w, x.shape.c, h, w, kind_.bgr ? 2 - c : c);
              to[c] = normalise(from, kind_.mean[c], kind_.divisor[c]);
            }
          else
            for (int c = 0; c < x.shape.c; ++c) to[c] = table_[c][image[at + (kind_.bgr ? 2 - c : c)]];
          for (std::int64_t c = x.shape.c; c < x.strides.w; ++c) to[c] = 0;
        }
    }
  }

 private:
  bool features() const {
    return images_.dtype != DType::u8;
  }

  Gather kind_;
  Layout images_, x_;
  bool augments_;
  std::array<std::array<float, 256>, 3> table_{};
};

}  // namespace

std::unique_ptr<GatherOp> make_cpu_gather(const Gather& kind, const Layout& images, const Layout& x) {
  return std::make_unique<CpuGather>(kind, images, x);
}

}  // namespace microtome
