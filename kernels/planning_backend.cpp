#include "kernels/planning_backend.h"

#include "engine/check.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace microtome {
namespace {

[[noreturn]] void fail_to_run() {
  fail(ExitCode::bug, "a plan was run");
}

/// What all its ops say of themselves. They read x, or of a deferred input its own x.
template <class Kind>
struct Planned : Kind {
  Op::Reads backward_reads() const override { return {.x = true}; }
  int sum_rows() const override { return 1; }
  std::string implementation() const override { return "planned"; }
};

struct PlannedConv final : Planned<ConvOp> {
  explicit PlannedConv(bool fuses) : fuses_(fuses) {}
  void forward(const Tensor&, const Deferred*, const Tensor&, const Tensor*, const Tensor&, const Tensor*) override {
    fail_to_run();
  }
  void backward_data(const Tensor&, const Tensor&, const Deferred*, const Tensor&, Write) override { fail_to_run(); }
  void backward_filter(const Tensor&, const Deferred*, const Tensor&, const Tensor&, const Tensor*, Write) override {
    fail_to_run();
  }
  int statistics_rows() const override { return 1; }
  bool fuses_backward() const override { return fuses_; }

 private:
  bool fuses_;
};
struct PlannedFilterTransform final : Planned<FilterTransformOp> {
  void forward(const Tensor&, const Tensor&) override { fail_to_run(); }
  void backward(const Tensor&, const Tensor&) override { fail_to_run(); }
};
struct PlannedDense final : Planned<DenseOp> {
  void forward(const Tensor&, const Tensor&, const Tensor*, const Tensor&) override { fail_to_run(); }
  void backward_data(const Tensor&, const Tensor&, const Tensor&, Write) override { fail_to_run(); }
  void backward_filter(const Tensor&, const Tensor&, const Tensor&, const Tensor*, Write) override { fail_to_run(); }
};
struct PlannedNorm final : Planned<BatchNormOp> {
  void forward(const Tensor&, const Tensor*, const Tensor&, const Tensor&, const Tensor&, const Tensor*, const Tensor*,
               const Tensor&) override {
    fail_to_run();
  }
  void backward(const Tensor&, const Tensor&, const Tensor*, const Tensor&, const Tensor&, const Tensor*, const Tensor&,
                Write) override {
    fail_to_run();
  }
};
struct PlannedDeferredNorm final : Planned<DeferredNormOp> {
  void forward(const Tensor&, const Tensor*, const Tensor&, const Tensor&, const Tensor&, const Tensor*, const Tensor*,
               const Tensor&) override {
    fail_to_run();
  }
  void backward(const Tensor&, const Tensor*, const Tensor*, const Tensor&, const Tensor&, Write) override { fail_to_run(); }
};
struct PlannedNormCorrection final : Planned<NormCorrectionOp> {
  void run(const Tensor&, const Tensor&, const Tensor&) override { fail_to_run(); }
};
struct PlannedActivate final : Planned<ActivateOp> {
  void forward(const Tensor&, const Tensor&) override { fail_to_run(); }
  void backward(const Tensor*, const Tensor*, const Tensor&, const Tensor&, Write) override { fail_to_run(); }
};
struct PlannedPool final : Planned<PoolOp> {
  void forward(const Tensor&, const Deferred*, const Tensor&) override { fail_to_run(); }
  void backward(const Tensor&, const Deferred*, const Tensor&, Write) override { fail_to_run(); }
};
struct PlannedDropout final : Planned<DropoutOp> {
  void forward(const Tensor&, const Deferred*, const StepState*, const Tensor&) override { fail_to_run(); }
  void backward(const Tensor&, const Deferred*, const StepState*, const Tensor&, Write) override { fail_to_run(); }
};
struct PlannedAdd final : Planned<AddOp> {
  void forward(const Tensor&, const Deferred*, const Tensor&, const Deferred*, const Tensor&) override { fail_to_run(); }
  void backward(const Tensor&, const Deferred*, Side, const Tensor&, Write) override { fail_to_run(); }
};
struct PlannedMultiply final : Planned<MultiplyOp> {
  void forward(const Tensor&, const Deferred*, const Tensor&, const Tensor&) override { fail_to_run(); }
  void backward_data(const Tensor&, const Tensor&, const Deferred*, const Tensor&, Write) override { fail_to_run(); }
  void backward_gate(const Tensor&, const Deferred*, const Tensor&, const Tensor&, Write) override { fail_to_run(); }
};
struct PlannedGather final : Planned<GatherOp> {
  void forward(const Tensor&, const Tensor&, const StepState*, const Tensor&, const Tensor&) override { fail_to_run(); }
};
struct PlannedLoss final : Planned<LossOp> {
  void forward(const Tensor&, const Tensor&, StepState*, BatchMetrics*, float*) override { fail_to_run(); }
  void backward(const Tensor&, const Tensor&, const Tensor&) override { fail_to_run(); }
};
struct PlannedOptimizer final : Planned<OptimizerOp> {
  void update(const Tensor&, const StepState*, const Tensor&, const Tensor&, const Tensor&, const Tensor*) override {
    fail_to_run();
  }
};
struct PlannedAdvance final : Planned<AdvanceOp> {
  void run(StepState*, bool) override { fail_to_run(); }
};

class PlanningBackend final : public Backend {
 public:
  PlanningBackend(DType activations, bool defers) : activations_(activations), defers_(defers) {}

  Device device() const override {
    constexpr std::size_t memory = std::numeric_limits<std::int64_t>::max();
    return {.name = "plan", .description = "none", .versions = "", .memory_bytes = memory, .available_bytes = memory};
  }
  DType activation_type() const override { return activations_; }
  DType parameter_type() const override { return DType::f32; }

  Buffer allocate(std::size_t bytes) override {
    // Pages that nobody touches are never there.
    void* data = std::calloc(1, std::max<std::size_t>(bytes, 1));
    if (data == nullptr) throw std::bad_alloc();
    return {data, bytes, [](void* memory) noexcept { std::free(memory); }};
  }
  void write(void* device, const void* host, std::size_t bytes) override { std::memcpy(device, host, bytes); }
  void read(void* host, const void* device, std::size_t bytes) override { std::memcpy(host, device, bytes); }
  void zero(void*, std::size_t) override {}  // it is
  void copy(void*, const void*, std::size_t) override { fail_to_run(); }
  void synchronize() override {}
  std::unique_ptr<Recording> record(std::function<void()>) override { fail_to_run(); }

  std::unique_ptr<ConvOp> conv(const Conv& kind, const Layout& x, const Layout&) override {
    if (!defers_ && (kind.deferred || kind.statistics)) return nullptr;
    return std::make_unique<PlannedConv>(defers_ && kind.groups == x.shape.c);
  }
  std::unique_ptr<FilterTransformOp> filter_transform(P4m, const Layout&, const Layout&) override {
    return std::make_unique<PlannedFilterTransform>();
  }
  std::unique_ptr<DenseOp> dense(const Dense&, const Layout&, const Layout&) override {
    return std::make_unique<PlannedDense>();
  }
  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm&, const Layout&, const Layout&) override {
    return std::make_unique<PlannedNorm>();
  }
  std::unique_ptr<DeferredNormOp> deferred_norm(const BatchNorm&, const Layout&) override {
    return defers_ ? std::make_unique<PlannedDeferredNorm>() : nullptr;
  }
  std::unique_ptr<NormCorrectionOp> norm_correction(const Layout&) override {
    return std::make_unique<PlannedNormCorrection>();
  }
  std::unique_ptr<ActivateOp> activate(const Activate&, const Layout&, const Layout&) override {
    return std::make_unique<PlannedActivate>();
  }
  std::unique_ptr<PoolOp> pool(const Pool&, const Layout&, const Layout&) override { return std::make_unique<PlannedPool>(); }
  std::unique_ptr<DropoutOp> dropout(const Dropout&, const Layout&, const Layout&) override {
    return std::make_unique<PlannedDropout>();
  }
  std::unique_ptr<AddOp> add(const Add&, const Layout&, const Layout&, const Layout&) override {
    return std::make_unique<PlannedAdd>();
  }
  std::unique_ptr<MultiplyOp> multiply(const Multiply&, const Layout&, const Layout&, const Layout&) override {
    return std::make_unique<PlannedMultiply>();
  }
  std::unique_ptr<GatherOp> gather(const Gather&, const Layout&, const Layout&) override {
    return std::make_unique<PlannedGather>();
  }
  std::unique_ptr<LossOp> loss(const Loss&, const Layout&) override { return std::make_unique<PlannedLoss>(); }
  std::unique_ptr<OptimizerOp> optimizer(const Optimizer&, std::int64_t) override {
    return std::make_unique<PlannedOptimizer>();
  }
  std::unique_ptr<AdvanceOp> advance() override { return std::make_unique<PlannedAdvance>(); }

 private:
  DType activations_;
  bool defers_;
};

}  // namespace

std::unique_ptr<Backend> make_planning_backend(DType activations, bool defers) {
  return std::make_unique<PlanningBackend>(activations, defers);
}

}  // namespace microtome
