// y[n,k] = activation(b[k] + sum over c of x[n,c] w[c,k])
// dx[n,c] = sum over k of dy[n,k] w[c,k]; dw[c,k] = sum over n of x[n,c] dy[n,k]; db[k] = sum over n of dy[n,k]
#include "kernels/cpu/lane.h"
#include "kernels/cpu/onednn.h"

namespace microtome {

namespace {

using dnnl::memory;

memory::desc matrix(std::int64_t rows, std::int64_t columns, std::int64_t row_stride, std::int64_t column_stride) {
  return {{rows, columns}, memory::data_type::f32, memory::dims{row_stride, column_stride}};
}

/// c = a b, or c += a b.
class Product {
 public:
  Product() = default;
  Product(const memory::desc& a, const memory::desc& b, const memory::desc& c, Write write, ScratchPlan& plan) {
    dnnl::primitive_attr attributes = onednn::attributes();
    if (write == Write::accumulate) {
      dnnl::post_ops sum;
      sum.append_sum();
      attributes.set_post_ops(sum);
    }
    const auto description = onednn::describe<dnnl::matmul>(attributes, a, b, c);
    primitive_ = onednn::Primitive(dnnl::matmul(description), description, plan);
    primitive_.argument(DNNL_ARG_SRC, a);
    primitive_.argument(DNNL_ARG_WEIGHTS, b);
    primitive_.argument(DNNL_ARG_DST, c);
  }

  void run(const Tensor& a, const Tensor& b, const Tensor& c, const Scratch& scratch) {
    primitive_.bind(DNNL_ARG_SRC, a.data);
    primitive_.bind(DNNL_ARG_WEIGHTS, b.data);
    primitive_.bind(DNNL_ARG_DST, c.data);
    primitive_.run(scratch);
  }

  const std::string& implementation() const { return primitive_.implementation(); }

 private:
  onednn::Primitive primitive_;
};

class CpuDense final : public DenseOp {
 public:
  CpuDense(Scratch& scratch, const Dense& kind, const Layout& x, const Layout& y)
      : scratch_(scratch), kind_(kind), x_(x), y_(y), batch_(x.shape.n), inputs_(x.shape.c), outputs_(y.shape.c) {
    require_f32(x, y);
    require(x.shape == Shape{batch_, 1, 1, inputs_} && y.shape == Shape{batch_, 1, 1, outputs_}, "dense: ", to_string(x.shape),
            " does not give ", to_string(y.shape));
    const memory::desc m_x = matrix(batch_, inputs_, x.strides.n, 1), m_y = matrix(batch_, outputs_, y.strides.n, 1);
    const memory::desc m_w = matrix(inputs_, outputs_, outputs_, 1);
    const memory::desc x_transposed = matrix(inputs_, batch_, 1, x.strides.n),
                       w_transposed = matrix(outputs_, inputs_, 1, outputs_);
    require_reserve();
    onednn::check("dense", [&] {
      for (const Write write : {Write::overwrite, Write::accumulate}) {
        ScratchPlan data, filter;
        backward_data_[static_cast<int>(write)] = Product(m_y, w_transposed, m_x, write, data);
        backward_filter_[static_cast<int>(write)] = Product(x_transposed, m_y, m_w, write, filter);
        scratch_.reserve(std::max(data.bytes(), filter.bytes()));
      }
      ScratchPlan plan;
      forward_ = Product(m_x, m_w, m_y, Write::overwrite, plan);
      scratch_.reserve(plan.bytes());
    });
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return forward_.implementation(); }

  void forward(const Tensor& x, const Tensor& w, const Tensor* b, const Tensor& y) override {
    require_layout(x, x_, "x"), require_weights(w, b), require_layout(y, y_, "y");
    onednn::check("dense forward", [&] { forward_.run(x, w, y, scratch_); });
    if (!b && kind_.activation == Activation::none) return;
    with_activation(kind_.activation, [&](auto function) {
      for (int n = 0; n < batch_; ++n) {
        float* row = pixel(y, n, 0, 0);
        for (int k = 0; k < outputs_; ++k) row[k] = activate(function(), b ? row[k] + b->as<float>()[k] : row[k]);
      }
    });
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_vector(w, std::int64_t{inputs_} * outputs_, "w"), require_layout(dx, x_, "dx");
    onednn::check("dense backward_data", [&] { backward_data_[static_cast<int>(write)].run(dy, w, dx, scratch_); });
  }

  void backward_filter(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor* db, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_weights(dw, db);
    onednn::check("dense backward_filter", [&] { backward_filter_[static_cast<int>(write)].run(x, dy, dw, scratch_); });
    if (!db) return;
    float* sums = db->as<float>();
    if (write == Write::overwrite) std::fill_n(sums, outputs_, 0.0f);
    for (int n = 0; n < batch_; ++n)
      for (int k = 0; k < outputs_; ++k) sums[k] += pixel(dy, n, 0, 0)[k];
  }

 private:
  void require_weights(const Tensor& w, const Tensor* b) const {
    require_vector(w, std::int64_t{inputs_} * outputs_, "w");
    require((b != nullptr) == kind_.bias, "dense: a bias where none was planned, or none where one was");
    if (b) require_vector(*b, outputs_, "b");
  }

  Scratch& scratch_;
  Dense kind_;
  Layout x_, y_;
  int batch_, inputs_, outputs_;
  Product forward_, backward_data_[2], backward_filter_[2];  // [Write]
};

}  // namespace

std::unique_ptr<DenseOp> make_cpu_dense(Scratch& scratch, const Dense& kind, const Layout& x, const Layout& y) {
  return std::make_unique<CpuDense>(scratch, kind, x, y);
}

}  // namespace microtome
