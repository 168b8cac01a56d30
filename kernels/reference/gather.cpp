// x[j,h,w,c] = (images[i,h,w,c] - mean[c]) / divisor[c], or images[i,h,w,2 - c] with bgr, or features[i,h,w,c] as they are;
// y[j] = labels[i]; i is number batch * batch_size + j of the epoch, in file order or permuted. See
// kernels/formulas/permutation.h, and augmentation.h for images that are not to be as they are.
#include "kernels/formulas/augmentation.h"
#include "kernels/formulas/normalise.h"
#include "kernels/formulas/permutation.h"
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T>
class ReferenceGather final : public GatherOp {
 public:
  ReferenceGather(const Gather& kind, const Layout& images, const Layout& x) : kind_(kind), images_(images), x_(x) {
    require_types<T>(x, x);
    require(images.dtype == DType::u8 || images.dtype == x.dtype, "gather: images are ", name(images.dtype),
            " and neither u8 nor ", name(x.dtype));
    require(images.shape == Shape{kind.images, x.shape.h, x.shape.w, x.shape.c} && (features() || x.shape.c <= 3),
            "gather: ", to_string(images.shape), " does not give ", to_string(x.shape));
    require(!kind.bgr || features() || x.shape.c == 3, "gather: ", x.shape.c, " channels are not blue, green and red");
    require_augmentable(kind, images);
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& images, const Tensor& labels, const StepState* state, const Tensor& x, const Tensor& y) override {
    require_layout(images, images_, "images"), require_layout(x, x_, "x"), require_vector<T>(y, x.shape.n, "y");
    require(labels.dtype == DType::u8 && labels.shape.count() == kind_.images, "gather: labels are ", name(labels.dtype), " ",
            to_string(labels.shape));
    const std::uint64_t first = state->batch * kind_.batch_size;
    require(first + x.shape.n <= static_cast<std::uint64_t>(kind_.images), "gather: batch ", state->batch,
            " lies beyond the last image");
    for (int j = 0; j < x.shape.n; ++j) {
      const int i = source(*state, first + j);
      at<T>(y, j) = static_cast<T>(at<std::uint8_t>(labels, i));
      const Shape& s = x.shape;
      const Warp<T> warp = drawn_warp<T>(kind_.augment, state->seed, state->epoch, i, s.h, s.w);
      const auto value = [&](int h, int w, int c) {
        if (features()) return at<T>(images, i, h, w, c);
        const int from = kind_.bgr ? 2 - c : c;
        const T pixel = kind_.augment.any() ? warped(warp, &at<std::uint8_t>(images, i, 0, 0, 0), s.h, s.w, s.c, h, w, from)
                                            : static_cast<T>(at<std::uint8_t>(images, i, h, w, from));
        return normalise<T>(pixel, kind_.mean[c], kind_.divisor[c]);
      };
      for_each({1, s.h, s.w, static_cast<int>(x.strides.w)},
               [&](int, int h, int w, int c) { at<T>(x, j, h, w, c) = c < s.c ? value(h, w, c) : 0; });
    }
  }

 private:
  bool features() const { return images_.dtype != DType::u8; }
  int source(const StepState& state, std::uint64_t number) const {
    return static_cast<int>(kind_.shuffle ? permuted(number, kind_.images, state.seed, state.epoch) : number);
  }

  Gather kind_;
  Layout images_, x_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<GatherOp> Reference<T>::gather(const Gather& kind, const Layout& images, const Layout& x) {
  return std::make_unique<ReferenceGather<T>>(kind, images, x);
}

template std::unique_ptr<GatherOp> Reference<double>::gather(const Gather&, const Layout&, const Layout&);
template std::unique_ptr<GatherOp> Reference<float>::gather(const Gather&, const Layout&, const Layout&);

}  // namespace microtome
