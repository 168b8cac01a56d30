// y[n,p,q,k] = activation(b[k] + sum over r,s,c of x[n, p stride - before + r, q stride - before + s, g C/G + c] w[k,r,s,c]),
// g = k / (K/G) the group of k; cells outside the image are 0.
// Own kernels where they serve, else oneDNN with activations in NHWC and filters in whatever blocks it likes: only
// they, being small, are reordered. A slice of a wider tensor, which oneDNN's fast kernels do not take, is packed first.
#include "kernels/cpu/filter_gradient.h"
#include "kernels/cpu/lane.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/winograd.h"

#include <cstring>
#include <optional>

namespace microtome {

namespace {

using dnnl::memory;

/// Copies or, accumulating, adds a packed tensor to one of any strides.
void put(const float* packed, const Tensor& to, Write write) {
  with_write(write, [&](auto accumulate) {
    for_each_run(
        to.shape,
        [&](std::int64_t first, std::int64_t count, std::int64_t at) {
          const float* from = packed + first;
          float* target = to.as<float>() + at;
#pragma omp simd
          for (std::int64_t i = 0; i < count; ++i) target[i] = accumulate ? target[i] + from[i] : from[i];
        },
        to);
  });
}

/// A tensor as oneDNN is to see it: packed.
class Staged {
 public:
  Staged() = default;
  Staged(const Layout& layout, ScratchPlan& plan) : packed_(layout.is_packed()), place_(plan.take(layout.packed_bytes())) {}

  float* input(const Tensor& tensor, const Scratch& scratch) const {
    if (packed_) return tensor.as<float>();
    float* to = scratch.at(place_);
    for_each_run(
        tensor.shape,
        [&](std::int64_t first, std::int64_t count, std::int64_t at) {
          std::memcpy(to + first, tensor.as<float>() + at, count * sizeof(float));
        },
        tensor);
    return to;
  }
  /// Where to write; then `finish`.
  float* output(const Tensor& tensor, Write write, const Scratch& scratch) const {
    return packed_ && write == Write::overwrite ? tensor.as<float>() : scratch.at(place_);
  }
  void finish(const Tensor& tensor, Write write, const Scratch& scratch) const {
    if (!packed_ || write == Write::accumulate) put(scratch.at(place_), tensor, write);
  }

 private:
  bool packed_ = true;
  std::size_t place_ = 0;
};

class CpuConv final : public ConvOp {
 public:
  CpuConv(Scratch& scratch, const Conv& kind, const Layout& x, const Layout& y)
      : scratch_(scratch),
        kind_(kind),
        x_(x),
        y_(y),
        w_({y.shape.c, kind.window.kernel.h, kind.window.kernel.w, x.shape.c / kind.groups}) {
    require_f32(x, y);
    require(x.shape.c % kind.groups == 0 && y.shape.c % kind.groups == 0, "conv: groups ", kind.groups,
            " must divide channels ", x.shape.c, " and ", y.shape.c);
    require(kind.window.output(x.shape, y.shape.c) == y.shape, "conv: ", to_string(x.shape), " does not give ",
            to_string(y.shape));
    require_reserve();
    const Window& window = kind.window;
    if (const Window back = Winograd::transposed(window); Winograd::serves(back, kind.groups, y, x))
      scratch_.reserve(winograd_data_.emplace(back, y, x).scratch_bytes());
    if (Winograd::serves(window, kind.groups, x, y))
      scratch_.reserve(winograd_.emplace(window, x, y).scratch_bytes());
    else if (FilterGradient::serves(window, kind.groups, x, y))
      scratch_.reserve(filter_gradient_.emplace(window, x, y).scratch_bytes());
    onednn::check("conv", [&] { make(); });
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return winograd_ ? "own: F(2x2, 3x3)" : forward_.implementation(); }

  std::string describe() override {
    const std::string own = "own: F(2x2, 3x3)";
    return fmt::format("forward {}, backward_data {}, backward_filter {}", implementation(),
                       winograd_data_ ? own : backward_data_.implementation(),
                       winograd_          ? own
                       : filter_gradient_ ? "own"
                                          : backward_filter_.implementation());
  }

  void forward(const Tensor& x, const Deferred*, const Tensor& w, const Tensor* b, const Tensor& y, const Tensor*) override {
    require_layout(x, x_, "x"), require_vector(w, w_.count(), "w"), require_bias(b), require_layout(y, y_, "y");
    if (winograd_)
      return winograd_->forward(scratch_, x, w.as<float>(), Winograd::Filter::straight, b ? b->as<float>() : nullptr,
                                kind_.activation, y, Write::overwrite);
    onednn::check("conv forward", [&] {
      forward_.bind(DNNL_ARG_SRC, forward_x_.input(x, scratch_));
      forward_.bind(DNNL_ARG_WEIGHTS, forward_w_.input(w_, w.as<float>(), scratch_));
      if (b) forward_.bind(DNNL_ARG_BIAS, b->data);
      forward_.bind(DNNL_ARG_DST, forward_y_.output(y, Write::overwrite, scratch_));
      forward_.run(scratch_);
    });
    forward_y_.finish(y, Write::overwrite, scratch_);
    if (kind_.activation != Activation::none) activate_in_place(y);
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Deferred*, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_vector(w, w_.count(), "w"), require_layout(dx, x_, "dx");
    if (winograd_data_)
      return winograd_data_->forward(scratch_, dy, w.as<float>(), Winograd::Filter::transposed, nullptr, Activation::none, dx,
                                     write);
    onednn::check("conv backward_data", [&] {
      backward_data_.bind(DNNL_ARG_DIFF_DST, data_dy_.input(dy, scratch_));
      backward_data_.bind(DNNL_ARG_WEIGHTS, data_w_.input(w_, w.as<float>(), scratch_));
      backward_data_.bind(DNNL_ARG_DIFF_SRC, data_dx_.output(dx, write, scratch_));
      backward_data_.run(scratch_);
    });
    data_dx_.finish(dx, write, scratch_);
  }

  void backward_filter(const Tensor& x, const Deferred*, const Tensor& dy, const Tensor& dw, const Tensor* db,
                       Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_vector(dw, w_.count(), "dw"), require_bias(db);
    if (winograd_) return winograd_->backward_filter(scratch_, x, dy, dw.as<float>(), db ? db->as<float>() : nullptr, write);
    if (filter_gradient_) return filter_gradient_->run(scratch_, x, dy, dw.as<float>(), db ? db->as<float>() : nullptr, write);
    float* sums = write == Write::accumulate ? scratch_.at(filter_sums_) : dw.as<float>();
    float* bias_sums = db && write == Write::accumulate ? scratch_.at(bias_sums_) : db ? db->as<float>() : nullptr;
    onednn::check("conv backward_filter", [&] {
      backward_filter_.bind(DNNL_ARG_SRC, filter_x_.input(x, scratch_));
      backward_filter_.bind(DNNL_ARG_DIFF_DST, filter_dy_.input(dy, scratch_));
      backward_filter_.bind(DNNL_ARG_DIFF_WEIGHTS, filter_w_.output(sums, scratch_));
      if (db) backward_filter_.bind(DNNL_ARG_DIFF_BIAS, bias_sums);
      backward_filter_.run(scratch_);
      filter_w_.finish(sums, scratch_);
    });
    if (write == Write::overwrite) return;
    put(sums, dw, write);
    if (db) put(bias_sums, *db, write);
  }

 private:
  /// A filter between our K R S C and oneDNN's blocks; nothing happens where these are the same.
  class Filter {
   public:
    Filter() = default;
    Filter(const memory::desc& from, const memory::desc& to, const memory::desc& blocked, ScratchPlan& plan)
        : same_(from == to), place_(plan.take(blocked.get_size())), columns_(columns(to)) {
      if (!same_ && columns_ == 0) reorder_ = onednn::Reorder(from, to, plan);
    }
    float* input(const Shape& shape, float* w, const Scratch& scratch) {
      if (same_) return w;
      if (columns_ > 0)
        transpose(shape, w, scratch.at(place_));
      else
        reorder_.run(w, scratch.at(place_), scratch);
      return scratch.at(place_);
    }
    float* output(float* w, const Scratch& scratch) const { return same_ ? w : scratch.at(place_); }
    void finish(float* w, const Scratch& scratch) {
      if (!same_) reorder_.run(scratch.at(place_), w, scratch);
    }

   private:
    /// The k that lie side by side in blocks of R S C rows, the last filled up with zeros; 0 in other formats. oneDNN's own
    /// reorder to these takes its reference code where there is something to fill up, at ten times the time (2.6).
    static int columns(const memory::desc& to) {
      const auto [dims, strides, sizes, dimensions] = onednn::blocks_of(to);
      if (dims.size() != 4 || dimensions != memory::dims{0} || sizes[0] % lanes != 0) return 0;
      const memory::dim n = sizes[0], c = dims[1] * n, s = dims[3];
      return strides == memory::dims{dims[2] * s * c, n, s * c, c} ? static_cast<int>(n) : 0;
    }

    void transpose(const Shape& shape, const float* w, float* to) const {
      const int filters = shape.n, taps = shape.h * shape.w * shape.c, blocks = (filters + columns_ - 1) / columns_;
#pragma omp parallel for collapse(2) schedule(static)
      for (int block = 0; block < blocks; ++block)
        for (int first = 0; first < taps; first += lanes) {
          const int count = std::min(lanes, taps - first);
          float* target = to + (std::int64_t{block} * taps + first) * columns_;
          for (int k = 0; k < columns_; k += lanes) {
            float rows[lanes][lanes] = {};  // of k, and of taps
            for (int i = 0; i < std::min(lanes, filters - block * columns_ - k); ++i)
              std::copy_n(w + std::int64_t{block * columns_ + k + i} * taps + first, count, rows[i]);
            for (int j = 0; j < count; ++j)
              for (int i = 0; i < lanes; ++i) target[j * columns_ + k + i] = rows[i][j];
          }
        }
    }

    bool same_ = true;
    std::size_t place_ = 0;
    int columns_ = 0;
    onednn::Reorder reorder_;
  };

  void make() {
    const auto f32 = memory::data_type::f32;
    const auto any = memory::format_tag::any, nhwc = memory::format_tag::nhwc;
    const Shape &sx = x_.shape, &sy = y_.shape;
    const std::int64_t g = kind_.groups, k = w_.n, c = w_.c, r = w_.h, s = w_.w;
    const memory::desc x({sx.n, sx.c, sx.h, sx.w}, f32, nhwc), y({sy.n, sy.c, sy.h, sy.w}, f32, nhwc);
    const memory::dims w_dims = g == 1 ? memory::dims{k, c, r, s} : memory::dims{g, k / g, c, r, s};
    const memory::dims w_strides =
        g == 1 ? memory::dims{r * s * c, 1, s * c, c} : memory::dims{k / g * r * s * c, r * s * c, 1, s * c, c};
    const memory::desc ours(w_dims, f32, w_strides), w(w_dims, f32, any);
    const memory::desc b = kind_.bias ? memory::desc({k}, f32, memory::format_tag::x) : memory::desc();
    const Window& window = kind_.window;
    const memory::dims stride{window.stride.h, window.stride.w}, before{window.before.h, window.before.w};
    // A window need not reach the image's last cells; oneDNN wants padding that fits exactly.
    const auto fit = [](int p, int step, int kernel, int size, int pad) { return (p - 1) * step + kernel - size - pad; };
    const memory::dims after{fit(sy.h, window.stride.h, window.kernel.h, sx.h, window.before.h),
                             fit(sy.w, window.stride.w, window.kernel.w, sx.w, window.before.w)};
    const dnnl::primitive_attr attributes = onednn::attributes();
    const auto direct = dnnl::algorithm::convolution_direct;

    const auto chosen = onednn::describe<dnnl::convolution_forward>(attributes, dnnl::prop_kind::forward_training, direct, x, w,
                                                                    b, y, stride, before, after);
    ScratchPlan plan, data_plan, filter_plan;
    if (!winograd_) {
      forward_x_ = Staged(x_, plan);
      forward_y_ = Staged(y_, plan);
      forward_w_ = Filter(ours, chosen.weights_desc(), chosen.weights_desc(), plan);
      forward_ = onednn::Primitive(dnnl::convolution_forward(chosen), chosen, plan);
      forward_.argument(DNNL_ARG_SRC, x);
      forward_.argument(DNNL_ARG_WEIGHTS, chosen.weights_desc());
      if (kind_.bias) forward_.argument(DNNL_ARG_BIAS, b);
      forward_.argument(DNNL_ARG_DST, y);
    }
    if (!winograd_data_) {
      const auto chosen_data = onednn::describe_backward<dnnl::convolution_backward_data>(chosen, attributes, direct, x, w, y,
                                                                                          stride, before, after);
      data_dy_ = Staged(y_, data_plan);
      data_dx_ = Staged(x_, data_plan);
      data_w_ = Filter(ours, chosen_data.weights_desc(), chosen_data.weights_desc(), data_plan);
      backward_data_ = onednn::Primitive(dnnl::convolution_backward_data(chosen_data), chosen_data, data_plan);
      backward_data_.argument(DNNL_ARG_DIFF_DST, y);
      backward_data_.argument(DNNL_ARG_WEIGHTS, chosen_data.weights_desc());
      backward_data_.argument(DNNL_ARG_DIFF_SRC, x);
    }
    if (!winograd_ && !filter_gradient_) {
      const auto chosen_filter = onednn::describe_backward<dnnl::convolution_backward_weights>(chosen, attributes, direct, x, w,
                                                                                               b, y, stride, before, after);
      filter_x_ = Staged(x_, filter_plan);
      filter_dy_ = Staged(y_, filter_plan);
      filter_sums_ = filter_plan.take(w_.count() * sizeof(float));
      bias_sums_ = filter_plan.take(k * sizeof(float));
      filter_w_ = Filter(chosen_filter.diff_weights_desc(), ours, chosen_filter.diff_weights_desc(), filter_plan);
      backward_filter_ = onednn::Primitive(dnnl::convolution_backward_weights(chosen_filter), chosen_filter, filter_plan);
      backward_filter_.argument(DNNL_ARG_SRC, x);
      backward_filter_.argument(DNNL_ARG_DIFF_DST, y);
      backward_filter_.argument(DNNL_ARG_DIFF_WEIGHTS, chosen_filter.diff_weights_desc());
      if (kind_.bias) backward_filter_.argument(DNNL_ARG_DIFF_BIAS, b);
    }
    scratch_.reserve(std::max({plan.bytes(), data_plan.bytes(), filter_plan.bytes()}));
  }

  /// Not a post-op: oneDNN's relu turns a NaN into 0, and an overflow would never reach the loss.
  void activate_in_place(const Tensor& y) const {
    with_activation(kind_.activation, [&](auto function) {
      for_each_run(
          y.shape,
          [&](std::int64_t, std::int64_t count, std::int64_t at) {
            float* values = y.as<float>() + at;
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i) values[i] = activate(function(), values[i]);
          },
          y);
    });
  }

  void require_bias(const Tensor* b) const {
    require((b != nullptr) == kind_.bias, "conv: a bias where none was planned, or none where one was");
    if (b) require_vector(*b, w_.n, "b");
  }

  Scratch& scratch_;
  Conv kind_;
  Layout x_, y_;
  Shape w_;  // K R S C/G
  std::optional<Winograd> winograd_, winograd_data_;
  std::optional<FilterGradient> filter_gradient_;
  onednn::Primitive forward_, backward_data_, backward_filter_;
  Staged forward_x_, forward_y_, data_dy_, data_dx_, filter_x_, filter_dy_;
  Filter forward_w_, data_w_, filter_w_;
  std::size_t filter_sums_ = 0, bias_sums_ = 0;
};

}  // namespace

std::unique_ptr<ConvOp> make_cpu_conv(Scratch& scratch, const Conv& kind, const Layout& x, const Layout& y) {
  return std::make_unique<CpuConv>(scratch, kind, x, y);
}

}  // namespace microtome
