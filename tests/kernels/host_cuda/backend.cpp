#include "kernels/host_cuda/backend.h"

#include "kernels/cuda/conv.h"
#include "kernels/cuda/dense.h"
#include "kernels/cuda/device/context.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/vendor/plans.h"

#include <cstring>

namespace microtome::test {

namespace {

class Replay final : public Recording {
 public:
  explicit Replay(std::function<void()> step) : step_(std::move(step)) {}
  void run() override { step_(); }

 private:
  std::function<void()> step_;
};

class HostCudaBackend final : public Backend {
 public:
  HostCudaBackend(Precision precision, host_cuda::Order order, const BackendOptions& options)
      : context_(precision, options), order_(order), plans_(context_), cublas_(make_cublas()) {}

  Device device() const override {
    Device device{.name = "host_cuda", .description = "CUDA's kernels on the host", .versions = "tests only"};
    cuda::check(cudaMemGetInfo(&device.available_bytes, &device.memory_bytes));
    return device;
  }
  DType activation_type() const override { return context_.precision() == Precision::bf16 ? DType::bf16 : DType::f32; }
  DType parameter_type() const override { return DType::f32; }
  int image_channels() const override { return context_.precision() == Precision::bf16 ? 8 : 0; }

  int streams() const override { return context_.streams(); }
  void use_stream(int stream) override { context_.use_stream(stream); }
  void record_event(int event) override { context_.record_event(event); }
  void wait_event(int event) override { context_.wait_event(event); }

  Buffer allocate(std::size_t bytes) override { return context_.allocate(bytes); }
  void write(void* device, const void* host, std::size_t bytes) override {
    // A Lab writes before it runs ops, so this is where a backend of the other order takes over.
    host_cuda::set_order(order_);
    std::memcpy(device, host, bytes);
  }
  void read(void* host, const void* device, std::size_t bytes) override { std::memcpy(host, device, bytes); }
  void zero(void* device, std::size_t bytes) override { std::memset(device, 0, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (!context_.warming_up()) std::memcpy(to, from, bytes);
  }
  void synchronize() override {}

  std::unique_ptr<Recording> record(std::function<void()> step) override {
    cuda::warm_up(context_, plans_, step);
    return std::make_unique<Replay>(std::move(step));
  }

  std::unique_ptr<ConvOp> conv(const Conv& kind, const Layout& x, const Layout& y) override {
    auto op = cuda::make_conv(context_, plans_, kind, x, y);
    if (op && op->implementation() != "own") skip_second_order();
    return op;
  }
  std::unique_ptr<FilterTransformOp> filter_transform(P4m p4m, const Layout& w, const Layout& all) override {
    return cuda::make_filter_transform(context_, p4m, w, all);
  }
  std::unique_ptr<DenseOp> dense(const Dense& kind, const Layout& x, const Layout& y) override {
    skip_second_order();
    return cuda::make_dense(context_, cublas_.raw(), kind, x, y);
  }
  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) override {
    return cuda::make_batch_norm(context_, kind, x, y);
  }
  std::unique_ptr<DeferredNormOp> deferred_norm(const BatchNorm& kind, const Layout& x) override {
    return context_.options().defer ? cuda::make_deferred_norm(context_, kind, x) : nullptr;
  }
  std::unique_ptr<NormCorrectionOp> norm_correction(const Layout&) override { return cuda::make_norm_correction(context_); }
  std::unique_ptr<ActivateOp> activate(const Activate& kind, const Layout& x, const Layout& y) override {
    return cuda::make_activate(context_, kind, x, y);
  }
  std::unique_ptr<PoolOp> pool(const Pool& kind, const Layout& x, const Layout& y) override {
    return cuda::make_pool(context_, kind, x, y);
  }
  std::unique_ptr<DropoutOp> dropout(const Dropout& kind, const Layout& x, const Layout& y) override {
    return cuda::make_dropout(context_, kind, x, y);
  }
  std::unique_ptr<AddOp> add(const Add& kind, const Layout& a, const Layout& b, const Layout& y) override {
    return cuda::make_add(context_, kind, a, b, y);
  }
  std::unique_ptr<MultiplyOp> multiply(const Multiply& kind, const Layout& x, const Layout& gate, const Layout& y) override {
    return cuda::make_multiply(context_, kind, x, gate, y);
  }
  std::unique_ptr<GatherOp> gather(const Gather& kind, const Layout& images, const Layout& x) override {
    return cuda::make_gather(context_, kind, images, x);
  }
  std::unique_ptr<LossOp> loss(const Loss& kind, const Layout& z) override { return cuda::make_loss(context_, kind, z); }
  std::unique_ptr<OptimizerOp> optimizer(const Optimizer& kind, std::int64_t count) override {
    return cuda::make_optimizer(context_, kind, count);
  }
  std::unique_ptr<AdvanceOp> advance() override { return cuda::make_advance(context_); }

 private:
  void skip_second_order() const {
    if (order_ == host_cuda::Order::ascending) return;
    fail(ExitCode::machine, "libraries are the same in either order of threads", {.next = "see the tests in ascending order"});
  }

  static cuda::CublasHandle make_cublas() {
    cublasLtHandle_t raw = nullptr;
    cuda::check(cublasLtCreate(&raw));
    return cuda::CublasHandle(raw);
  }

  cuda::Context context_;
  host_cuda::Order order_;
  cuda::Plans plans_;
  cuda::CublasHandle cublas_;
};

}  // namespace

std::unique_ptr<Backend> make_host_cuda_backend(Precision precision, host_cuda::Order order, const BackendOptions& options) {
  return std::make_unique<HostCudaBackend>(precision, order, options);
}

}  // namespace microtome::test
