// all[h K + k, r, s, c] = w[k, h^-1 (r, s), h^-1 c] for the eight symmetries h of p4m; dw the sum over the eight places.
// Channels of a map's symmetry stay together: a run of `each` is copied or added at a time.
#include "kernels/formulas/filter_transform.h"
#include "kernels/cpu/cpu.h"

namespace microtome {

namespace {

class CpuFilterTransform final : public FilterTransformOp {
 public:
  CpuFilterTransform(P4m p4m, const Layout& w, const Layout& all) : p4m_(p4m), w_(w), all_(all) {
    require_f32(w, all);
    require_derived(p4m, w, all);
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& w, const Tensor& all) override {
    require_layout(w, w_, "w"), require_layout(all, all_, "all");
    for_each_run_of_filters([&](std::int64_t from, int g, std::int64_t to, int each) {
      static_cast<void>(g);
      std::copy_n(w.as<float>() + from, each, all.as<float>() + to);
    });
  }

  void backward(const Tensor& dall, const Tensor& dw) override {
    require_layout(dall, all_, "dall"), require_layout(dw, w_, "dw");
    for_each_run_of_filters([&](std::int64_t to, int g, std::int64_t from, int each) {
      const float* in = dall.as<float>() + from;
      float* out = dw.as<float>() + to;
#pragma omp simd
      for (int c = 0; c < each; ++c) out[c] = g == 0 ? in[c] : out[c] + in[c];
    });
  }

 private:
  /// Calls f(run of w, g, run of all, length) for g = 0 … 7, in this order for each run of w. Filters are spread over the
  /// threads.
  template <class F>
  void for_each_run_of_filters(const F& f) const {
    const Shape& s = w_.shape;
    const int runs = p4m_ == P4m::group ? p4m_symmetries : 1, each = s.c / runs;
#pragma omp parallel for schedule(static)
    for (int k = 0; k < s.n; ++k)
      for (int g = 0; g < p4m_symmetries; ++g)
        for (int row = 0; row < s.h; ++row)
          for (int column = 0; column < s.w; ++column) {
            const P4mCell cell = p4m_moved(g, s.h, {row, column});
            const std::int64_t from = ((std::int64_t{k} * s.h + row) * s.w + column) * s.c;
            const std::int64_t to = (((std::int64_t{g} * s.n + k) * s.h + cell.row) * s.w + cell.column) * s.c;
            for (int i = 0; i < runs; ++i) f(from + i * each, g, to + p4m_channel(p4m_, g, s.c, i * each), each);
          }
  }

  P4m p4m_;
  Layout w_, all_;
};

}  // namespace

std::unique_ptr<FilterTransformOp> make_cpu_filter_transform(P4m p4m, const Layout& w, const Layout& all) {
  return std::make_unique<CpuFilterTransform>(p4m, w, all);
}

}  // namespace microtome
