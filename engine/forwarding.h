// A backend that is another one but for what a class derived from it does otherwise.
#pragma once

#include "engine/backend.h"

#include <memory>
#include <utility>

namespace microtome {

/// Does what another backend does, which must outlive it.
class Forwarding : public Backend {
 public:
  explicit Forwarding(Backend& backend) : backend_(backend) {}

  Device device() const override { return backend_.device(); }
  DType activation_type() const override { return backend_.activation_type(); }
  int image_channels() const override { return backend_.image_channels(); }
  DType parameter_type() const override { return backend_.parameter_type(); }
  Buffer allocate(std::size_t bytes) override { return backend_.allocate(bytes); }
  void write(void* device, const void* host, std::size_t bytes) override { backend_.write(device, host, bytes); }
  void read(void* host, const void* device, std::size_t bytes) override { backend_.read(host, device, bytes); }
  void zero(void* device, std::size_t bytes) override { backend_.zero(device, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override { backend_.copy(to, from, bytes); }
  std::unique_ptr<AsyncRead> read_async(const void* device, std::size_t bytes) override {
    return backend_.read_async(device, bytes);
  }
  Buffer resident(const void* host, std::size_t bytes) override { return backend_.resident(host, bytes); }
  void synchronize() override { backend_.synchronize(); }
  std::size_t scratch_bytes() const override { return backend_.scratch_bytes(); }
  std::size_t missing_scratch_bytes() const override { return backend_.missing_scratch_bytes(); }
  void take_scratch() override { backend_.take_scratch(); }
  void forget_ops() override { backend_.forget_ops(); }
  int streams() const override { return backend_.streams(); }
  void use_stream(int stream) override { backend_.use_stream(stream); }
  void record_event(int event) override { backend_.record_event(event); }
  void wait_event(int event) override { backend_.wait_event(event); }
  void enter(const Scope& scope) override { backend_.enter(scope); }
  void leave() override { backend_.leave(); }
  std::unique_ptr<Trace> trace() override { return backend_.trace(); }
  std::unique_ptr<Recording> record(std::function<void()> step) override { return backend_.record(std::move(step)); }

  std::unique_ptr<ConvOp> conv(const Conv& k, const Layout& x, const Layout& y) override { return backend_.conv(k, x, y); }
  std::unique_ptr<FilterTransformOp> filter_transform(P4m p4m, const Layout& w, const Layout& all) override {
    return backend_.filter_transform(p4m, w, all);
  }
  std::unique_ptr<DenseOp> dense(const Dense& k, const Layout& x, const Layout& y) override { return backend_.dense(k, x, y); }
  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& k, const Layout& x, const Layout& y) override {
    return backend_.batch_norm(k, x, y);
  }
  std::unique_ptr<DeferredNormOp> deferred_norm(const BatchNorm& k, const Layout& x) override {
    return backend_.deferred_norm(k, x);
  }
  std::unique_ptr<NormCorrectionOp> norm_correction(const Layout& x) override { return backend_.norm_correction(x); }
  std::unique_ptr<ActivateOp> activate(const Activate& k, const Layout& x, const Layout& y) override {
    return backend_.activate(k, x, y);
  }
  std::unique_ptr<PoolOp> pool(const Pool& k, const Layout& x, const Layout& y) override { return backend_.pool(k, x, y); }
  std::unique_ptr<DropoutOp> dropout(const Dropout& k, const Layout& x, const Layout& y) override {
    return backend_.dropout(k, x, y);
  }
  std::unique_ptr<AddOp> add(const Add& k, const Layout& a, const Layout& b, const Layout& y) override {
    return backend_.add(k, a, b, y);
  }
  std::unique_ptr<MultiplyOp> multiply(const Multiply& k, const Layout& x, const Layout& gate, const Layout& y) override {
    return backend_.multiply(k, x, gate, y);
  }
  std::unique_ptr<GatherOp> gather(const Gather& k, const Layout& images, const Layout& x) override {
    return backend_.gather(k, images, x);
  }
  std::unique_ptr<LossOp> loss(const Loss& k, const Layout& z) override { return backend_.loss(k, z); }
  std::unique_ptr<OptimizerOp> optimizer(const Optimizer& k, std::int64_t count) override {
    return backend_.optimizer(k, count);
  }
  std::unique_ptr<AdvanceOp> advance() override { return backend_.advance(); }

 private:
  Backend& backend_;
};

}  // namespace microtome
