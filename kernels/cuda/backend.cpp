// The CUDA backend: one device, its streams, cuDNN, cuBLASLt and our kernels behind engine/backend.h.
#include "kernels/cuda/conv.h"
#include "kernels/cuda/dense.h"
#include "kernels/cuda/device/async_read.h"
#include "kernels/cuda/device/context.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/profiling/counters.h"
#include "kernels/cuda/profiling/nvtx.h"
#include "kernels/cuda/profiling/trace.h"
#include "kernels/cuda/vendor/plans.h"
#include "kernels/cuda_module.h"

#include <array>
#include <exception>

namespace microtome {

namespace cuda {

namespace {

/// "12.8" of 12080.
std::string cuda_version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

/// A step as one CUDA graph.
class GraphRecording final : public Recording {
 public:
  GraphRecording(Context& context, Plans& plans, const std::function<void()>& step) : context_(context) {
    warm_up(context, plans, step);
    check(cudaDeviceSynchronize());  // streams do not wait for each other in a warm-up
    cudaGraph_t graph = capture(step);
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    check_nothrow(cudaGraphDestroy(graph));
    check(status);
    check(cudaGraphUpload(executable_, context_.stream()));
  }
  ~GraphRecording() override { check_nothrow(cudaGraphExecDestroy(executable_)); }

  void run() override {
    push_range("replay");
    const cudaError_t status = cudaGraphLaunch(executable_, context_.stream());
    pop_range();
    check(status);
  }

 private:
  cudaGraph_t capture(const std::function<void()>& step) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal));
    try {
      step();
    } catch (...) {
      context_.use_stream(0);
      static_cast<void>(cudaStreamEndCapture(context_.stream(), &graph));  // the first error is the one that counts
      if (graph != nullptr) check_nothrow(cudaGraphDestroy(graph));
      throw;
    }
    check(cudaStreamEndCapture(context_.stream(), &graph));
    return graph;
  }

  Context& context_;
  cudaGraphExec_t executable_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(int ordinal, Precision precision, const BackendOptions& options)
      : ordinal_(ordinal), context_(precision, options), plans_(context_), cublas_(make_cublas()) {
    name_this_thread("microtome");
    for (int stream = context_.streams() - 1; stream >= 0; --stream) {
      context_.use_stream(stream);
      name_stream(context_.stream(), stream);
    }
  }

  Device device() const override {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, ordinal_));
    std::size_t available = 0, total = 0;
    check(cudaMemGetInfo(&available, &total));
    int runtime = 0, driver = 0;
    check(cudaRuntimeGetVersion(&runtime));
    check(cudaDriverGetVersion(&driver));
    return {.name = fmt::format("cuda:{}", ordinal_),
            .description = properties.name,
            .versions = fmt::format("CUDA {}, cuDNN {}, cuBLASLt {}, driver for CUDA {}", cuda_version_text(runtime),
                                    version_text(cudnnGetVersion()), cublasLtGetVersion(), cuda_version_text(driver)),
            .memory_bytes = total,
            .available_bytes = available};
  }

  DType activation_type() const override { return context_.precision() == Precision::bf16 ? DType::bf16 : DType::f32; }
  DType parameter_type() const override { return DType::f32; }
  /// cuDNN's tensor-core engines read 16 bytes of channels at once; with fewer they copy the image first.
  int image_channels() const override { return context_.precision() == Precision::bf16 ? 8 : 0; }

  Buffer allocate(std::size_t bytes) override { return context_.allocate(bytes); }

  void write(void* device, const void* host, std::size_t bytes) override {
    if (context_.warming_up()) return;
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, context_.stream()));
    synchronize();
  }
  void read(void* host, const void* device, std::size_t bytes) override {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, context_.stream()));
    synchronize();
  }
  std::size_t scratch_bytes() const override { return context_.scratch_bytes(); }
  std::unique_ptr<AsyncRead> read_async(const void* device, std::size_t bytes) override {
    return make_async_read(context_, device, bytes);
  }
  void zero(void* device, std::size_t bytes) override {
    if (!context_.warming_up()) check(cudaMemsetAsync(device, 0, bytes, context_.stream()));
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (!context_.warming_up()) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, context_.stream()));
  }
  void synchronize() override { check(cudaStreamSynchronize(context_.stream())); }

  int streams() const override { return context_.streams(); }
  void use_stream(int stream) override { context_.use_stream(stream); }
  void record_event(int event) override { context_.record_event(event); }
  void wait_event(int event) override { context_.wait_event(event); }

  void enter(const Scope& scope) override {
    push_range(scope);
    if (listener_) listener_->enter(scope);
  }
  void leave() override {
    if (listener_) listener_->leave();
    pop_range();
  }
  std::unique_ptr<Trace> trace() override { return make_trace(listener_); }
  std::unique_ptr<Counters> counters(const std::vector<std::string>& metrics, std::string& why) override {
    return make_counters(listener_, metrics, why);
  }

  std::unique_ptr<Recording> record(std::function<void()> step) override {
    return std::make_unique<GraphRecording>(context_, plans_, step);
  }

  std::unique_ptr<ConvOp> conv(const Conv& kind, const Layout& x, const Layout& y) override {
    return make_conv(context_, plans_, kind, x, y);
  }
  std::unique_ptr<FilterTransformOp> filter_transform(P4m p4m, const Layout& w, const Layout& all) override {
    return make_filter_transform(context_, p4m, w, all);
  }
  std::unique_ptr<DenseOp> dense(const Dense& kind, const Layout& x, const Layout& y) override {
    return make_dense(context_, cublas_.raw(), kind, x, y);
  }
  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) override {
    return make_batch_norm(context_, kind, x, y);
  }
  std::unique_ptr<DeferredNormOp> deferred_norm(const BatchNorm& kind, const Layout& x) override {
    return context_.options().defer ? make_deferred_norm(context_, kind, x) : nullptr;
  }
  std::unique_ptr<NormCorrectionOp> norm_correction(const Layout&) override { return make_norm_correction(context_); }
  std::unique_ptr<ActivateOp> activate(const Activate& kind, const Layout& x, const Layout& y) override {
    return make_activate(context_, kind, x, y);
  }
  std::unique_ptr<PoolOp> pool(const Pool& kind, const Layout& x, const Layout& y) override {
    return make_pool(context_, kind, x, y);
  }
  std::unique_ptr<DropoutOp> dropout(const Dropout& kind, const Layout& x, const Layout& y) override {
    return make_dropout(context_, kind, x, y);
  }
  std::unique_ptr<AddOp> add(const Add& kind, const Layout& a, const Layout& b, const Layout& y) override {
    return make_add(context_, kind, a, b, y);
  }
  std::unique_ptr<MultiplyOp> multiply(const Multiply& kind, const Layout& x, const Layout& gate, const Layout& y) override {
    return make_multiply(context_, kind, x, gate, y);
  }
  std::unique_ptr<GatherOp> gather(const Gather& kind, const Layout& images, const Layout& x) override {
    return make_gather(context_, kind, images, x);
  }
  std::unique_ptr<LossOp> loss(const Loss& kind, const Layout& z) override { return make_loss(context_, kind, z); }
  std::unique_ptr<OptimizerOp> optimizer(const Optimizer& kind, std::int64_t count) override {
    return make_optimizer(context_, kind, count);
  }
  std::unique_ptr<AdvanceOp> advance() override { return make_advance(context_); }

 private:
  static CublasHandle make_cublas() {
    cublasLtHandle_t raw = nullptr;
    check(cublasLtCreate(&raw));
    return CublasHandle(raw);
  }

  int ordinal_;
  Context context_;
  Plans plans_;
  CublasHandle cublas_;
  ScopeListener* listener_ = nullptr;
};

int device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) static_cast<void>(cudaGetLastError());  // asking is no failure
  if (status == cudaErrorNoDevice) return 0;
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    check(cudaDriverGetVersion(&driver));
    fail(ExitCode::machine, "the NVIDIA driver is older than Microtome's CUDA",
         {.expected = fmt::format("a driver for CUDA {} or later", cuda_version_text(CUDART_VERSION)),
          .found = driver == 0 ? "none that works" : fmt::format("one for CUDA {}", cuda_version_text(driver)),
          .next = "install a newer driver, build Microtome with an older CUDA, or use --device cpu"});
  }
  check(status);
  if (count > 0) check_version(cudnnGetVersion());
  return count;
}

std::unique_ptr<Backend> make_backend(int ordinal, Precision precision, const BackendOptions& options) {
  const int count = device_count();
  if (ordinal < 0 || ordinal >= count) {
    fail(ExitCode::machine, fmt::format("there is no GPU cuda:{}", ordinal),
         {.found = count == 0 ? "none that the driver knows" : fmt::format("cuda:0 to cuda:{}", count - 1),
          .next = count == 0 ? "use --device cpu" : "use one of these"});
  }
  check(cudaSetDevice(ordinal));
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal));
  if (precision != Precision::f32 && major < 8) {
    fail(ExitCode::machine, fmt::format("cuda:{} lacks {}", ordinal, precision == Precision::bf16 ? "bf16" : "tf32"),
         {.expected = "compute capability 8.0 or later", .found = fmt::format("{}.x", major), .next = "use --precision f32"});
  }
  return std::make_unique<CudaBackend>(ordinal, precision, options);
}

}  // namespace

}  // namespace cuda

extern "C" const CudaModule microtome_cuda_module{cuda_module_version, cuda::make_backend, cuda::device_count};

}  // namespace microtome
