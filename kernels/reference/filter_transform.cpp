// all[h K + k, r, s, c] = w[k, h^-1 (r, s), h^-1 c] for the eight symmetries h of p4m; dw the sum over the eight places. See
// engine/p4m.h.
#include "kernels/formulas/filter_transform.h"
#include "kernels/reference/reference.h"

namespace microtome {

namespace {

template <class T>
class ReferenceFilterTransform final : public FilterTransformOp {
 public:
  ReferenceFilterTransform(P4m p4m, const Layout& w, const Layout& all) : p4m_(p4m), w_(w), all_(all) {
    require_types<T>(w, all);
    require_derived(p4m, w, all);
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& w, const Tensor& all) override {
    require_layout(w, w_, "w"), require_layout(all, all_, "all");
    const Shape& s = w.shape;
    for_each(all.shape, [&](int filter, int row, int column, int channel) {
      const int back = p4m_inverse(filter / s.n);
      const P4mCell cell = p4m_moved(back, s.h, {row, column});
      at<T>(all, filter, row, column, channel) =
          at<T>(w, filter % s.n, cell.row, cell.column, p4m_channel(p4m_, back, s.c, channel));
    });
  }

  void backward(const Tensor& dall, const Tensor& dw) override {
    require_layout(dall, all_, "dall"), require_layout(dw, w_, "dw");
    const Shape& s = dw.shape;
    for_each(s, [&](int filter, int row, int column, int channel) {
      T sum = 0;
      for (int g = 0; g < p4m_symmetries; ++g) {
        const P4mCell cell = p4m_moved(g, s.h, {row, column});
        sum += at<T>(dall, g * s.n + filter, cell.row, cell.column, p4m_channel(p4m_, g, s.c, channel));
      }
      at<T>(dw, filter, row, column, channel) = sum;
    });
  }

 private:
  P4m p4m_;
  Layout w_, all_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<FilterTransformOp> Reference<T>::filter_transform(P4m p4m, const Layout& w, const Layout& all) {
  return std::make_unique<ReferenceFilterTransform<T>>(p4m, w, all);
}

template std::unique_ptr<FilterTransformOp> Reference<double>::filter_transform(P4m, const Layout&, const Layout&);
template std::unique_ptr<FilterTransformOp> Reference<float>::filter_transform(P4m, const Layout&, const Layout&);

}  // namespace microtome
