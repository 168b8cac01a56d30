// y[n,k] = activation(b[k] + sum over c of x[n,c] w[c,k])
// dx[n,c] = sum over k of dy[n,k] w[c,k]; dw[c,k] = sum over n of x[n,c] dy[n,k]; db[k] = sum over n of dy[n,k]
#include "kernels/formulas/activation.h"
#include "kernels/reference/reference.h"

#include <vector>

namespace microtome {

namespace {

template <class T>
class ReferenceDense final : public DenseOp {
 public:
  ReferenceDense(const Dense& kind, const Layout& x, const Layout& y)
      : kind_(kind), x_(x), y_(y), batch_(x.shape.n), inputs_(x.shape.c), outputs_(y.shape.c) {
    require_types<T>(x, y);
    require(x.shape == Shape{batch_, 1, 1, inputs_} && y.shape == Shape{batch_, 1, 1, outputs_}, "dense: ", to_string(x.shape),
            " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {.x = true}; }
  std::string implementation() const override { return "naive"; }

  void forward(const Tensor& x, const Tensor& w, const Tensor* b, const Tensor& y) override {
    require_layout(x, x_, "x"), require_weights(w, b), require_layout(y, y_, "y");
    std::vector<T> sums(outputs_);  // all of an image at once, since the weights of one output lie far apart
    for (int n = 0; n < batch_; ++n) {
      for (int k = 0; k < outputs_; ++k) sums[k] = b ? at<T>(*b, k) : T(0);
      for (int c = 0; c < inputs_; ++c)
        for (int k = 0; k < outputs_; ++k) sums[k] += at<T>(x, n, 0, 0, c) * weight(w, c, k);
      for (int k = 0; k < outputs_; ++k) at<T>(y, n, 0, 0, k) = activate(kind_.activation, sums[k]);
    }
  }

  void backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_vector<T>(w, std::int64_t{inputs_} * outputs_, "w"), require_layout(dx, x_, "dx");
    for (int n = 0; n < batch_; ++n)
      for (int c = 0; c < inputs_; ++c) {
        T sum = 0;
        for (int k = 0; k < outputs_; ++k) sum += at<T>(dy, n, 0, 0, k) * weight(w, c, k);
        put(at<T>(dx, n, 0, 0, c), sum, write);
      }
  }

  void backward_filter(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor* db, Write write) override {
    require_layout(x, x_, "x"), require_layout(dy, y_, "dy"), require_weights(dw, db);
    for (int c = 0; c < inputs_; ++c)
      for (int k = 0; k < outputs_; ++k) {
        T sum = 0;
        for (int n = 0; n < batch_; ++n) sum += at<T>(x, n, 0, 0, c) * at<T>(dy, n, 0, 0, k);
        put(weight(dw, c, k), sum, write);
      }
    for (int k = 0; db && k < outputs_; ++k) {
      T sum = 0;
      for (int n = 0; n < batch_; ++n) sum += at<T>(dy, n, 0, 0, k);
      put(at<T>(*db, k), sum, write);
    }
  }

 private:
  T& weight(const Tensor& w, int c, int k) const { return at<T>(w, std::int64_t{c} * outputs_ + k); }

  void require_weights(const Tensor& w, const Tensor* b) const {
    require_vector<T>(w, std::int64_t{inputs_} * outputs_, "w");
    require((b != nullptr) == kind_.bias, "dense: a bias where none was planned, or none where one was");
    if (b) require_vector<T>(*b, outputs_, "b");
  }

  Dense kind_;
  Layout x_, y_;
  int batch_, inputs_, outputs_;
};

}  // namespace

template <std::floating_point T>
std::unique_ptr<DenseOp> Reference<T>::dense(const Dense& kind, const Layout& x, const Layout& y) {
  return std::make_unique<ReferenceDense<T>>(kind, x, y);
}

template std::unique_ptr<DenseOp> Reference<double>::dense(const Dense&, const Layout&, const Layout&);
template std::unique_ptr<DenseOp> Reference<float>::dense(const Dense&, const Layout&, const Layout&);

}  // namespace microtome
