// A backend is a factory of ops on one device, and that device's memory.
#pragma once

#include "engine/buffer.h"
#include "engine/ops.h"
#include "engine/profile.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace microtome {

/// f32: plain float32. tf32: float32 storage, tensor-core products with 10-bit mantissas. bf16: bf16 storage and products;
/// accumulation, statistics, master weights and optimiser stay float32.
enum class Precision { f32, tf32, bf16 };

struct Device {
  std::string name;                 // "cpu", "cuda:0", "reference"
  std::string description;          // "Intel Xeon …, 2 cores" or "NVIDIA H200"
  std::string versions;             // "oneDNN 2.6.3" or "CUDA 13.0, cuDNN 9.19.0, driver 580"
  std::size_t memory_bytes = 0;     // in all
  std::size_t available_bytes = 0;  // now, for a run's tensors
  std::string bound = {};           // what leaves no more, where that is not the device itself
  bool is_host = false;             // its memory is the host's: images lie there already, and what is saved is made there
};

/// A recorded step; run() repeats it on the same addresses.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void run() = 0;
};

/// Some bytes of the device's memory, seen by a host that goes on queueing work. Each copy is taken between two pieces of
/// queued work, so that it is whole: what a step left, never half a step.
class AsyncRead {
 public:
  virtual ~AsyncRead() = default;
  /// The last finished copy, null before the first; starts the next one unless one is under way. Never waits.
  virtual const void* latest() = 0;
};

/// Factories return null to decline an *option* of an op (an `activation`, `deferred`, `statistics`), and the planner falls
/// back to separate ops; an op they cannot make at all throws. Those of ops that exist for an option's sake decline by default.
/// Work is queued in order; only `read`, `write` and `synchronize` wait for it, and where the device's memory is the host's not
/// even these.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual Device device() const = 0;
  virtual DType activation_type() const = 0;        // of activations and their gradients: f32, bf16; f64 in reference
  virtual int image_channels() const { return 0; }  // that it wants room for in images that have fewer, zeros there
  virtual DType parameter_type() const = 0;         // of weights, gradients, statistics, optimiser: f32; f64 in reference

  /// Memory on the device, 256-byte aligned, contents undefined. Throws Error(ExitCode::memory) when there is not enough.
  virtual Buffer allocate(std::size_t bytes) = 0;
  virtual void write(void* device, const void* host, std::size_t bytes) = 0;
  virtual void read(void* host, const void* device, std::size_t bytes) = 0;
  virtual void zero(void* device, std::size_t bytes) = 0;
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;  // both on the device; queued like an op

  /// As it stands here for devices whose memory is the host's: a read, which waits for nothing.
  virtual std::unique_ptr<AsyncRead> read_async(const void* device, std::size_t bytes) {
    struct Reader final : AsyncRead {
      Reader(Backend& b, const void* d, std::size_t count) : backend(b), device(d), copy(count) {}
      const void* latest() override {
        backend.read(copy.data(), device, copy.size());
        return copy.data();
      }
      Backend& backend;
      const void* device;
      std::vector<std::byte> copy;
    };
    return std::make_unique<Reader>(*this, device, bytes);
  }

  /// Read-only data as the device sees it: a copy, or the host's own memory where that is the device's. The host's must outlive
  /// it.
  virtual Buffer resident(const void* host, std::size_t bytes) {
    Buffer copy = allocate(bytes);
    write(copy.data(), host, bytes);
    return copy;
  }
  virtual void synchronize() = 0;
  /// What ops share for the length of a call, as large as the ops made so far need it.
  virtual std::size_t scratch_bytes() const { return 0; }
  /// Of that, what is taken only with the next run; and takes it now. Where scratch grows, what was there is given back first.
  virtual std::size_t missing_scratch_bytes() const { return 0; }
  virtual void take_scratch() {}
  /// Gives back what is kept of ops that are gone, for others like them.
  virtual void forget_ops() {}

  /// Work may be queued in several streams, each in order, that run side by side. It is queued in the stream used last; what
  /// waits for the device waits for stream 0, which a program therefore joins to all others. Recordings begin and end in stream
  /// 0.
  virtual int streams() const { return 1; }
  virtual void use_stream(int stream) { static_cast<void>(stream); }
  /// What the stream gets after wait_event(event) begins when all that the recording stream had got before record_event(event)
  /// is done.
  virtual void record_event(int event) { static_cast<void>(event); }
  virtual void wait_event(int event) { static_cast<void>(event); }

  /// What is queued until leave() is for `scope`. Nearly free while nobody traces. As they stand here for devices whose work is
  /// done when a call returns.
  virtual void enter(const Scope& scope) {
    if (host_trace_) host_trace_->enter(scope);
  }
  virtual void leave() {
    if (host_trace_) host_trace_->leave();
  }
  virtual std::unique_ptr<Trace> trace() { return std::make_unique<HostTrace>(host_trace_); }
  /// By the vendor's names. Null with the reason and a cure in `why` where none can be read. Throws Error(ExitCode::usage) for
  /// a counter that the device does not have.
  virtual std::unique_ptr<Counters> counters(const std::vector<std::string>& metrics, std::string& why) {
    static_cast<void>(metrics);
    why = "counters are read on a GPU";
    return nullptr;
  }

  /// Records the ops that `step` runs (a CUDA graph) or keeps `step` (CPU). `step` may be run while recording.
  virtual std::unique_ptr<Recording> record(std::function<void()> step) = 0;

  virtual std::unique_ptr<ConvOp> conv(const Conv&, const Layout& x, const Layout& y) = 0;
  virtual std::unique_ptr<FilterTransformOp> filter_transform(P4m, const Layout& w, const Layout& all) = 0;
  virtual std::unique_ptr<DenseOp> dense(const Dense&, const Layout& x, const Layout& y) = 0;
  virtual std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm&, const Layout& x, const Layout& y) = 0;
  virtual std::unique_ptr<DeferredNormOp> deferred_norm(const BatchNorm&, const Layout& x) {
    return static_cast<void>(x), nullptr;
  }
  virtual std::unique_ptr<NormCorrectionOp> norm_correction(const Layout& x) { return static_cast<void>(x), nullptr; }
  virtual std::unique_ptr<ActivateOp> activate(const Activate&, const Layout& x, const Layout& y) = 0;
  virtual std::unique_ptr<PoolOp> pool(const Pool&, const Layout& x, const Layout& y) = 0;
  virtual std::unique_ptr<DropoutOp> dropout(const Dropout&, const Layout& x, const Layout& y) = 0;
  virtual std::unique_ptr<AddOp> add(const Add&, const Layout& a, const Layout& b, const Layout& y) = 0;
  virtual std::unique_ptr<MultiplyOp> multiply(const Multiply&, const Layout& x, const Layout& gate, const Layout& y) = 0;
  virtual std::unique_ptr<GatherOp> gather(const Gather&, const Layout& images, const Layout& x) = 0;
  virtual std::unique_ptr<LossOp> loss(const Loss&, const Layout& z) = 0;
  virtual std::unique_ptr<OptimizerOp> optimizer(const Optimizer&, std::int64_t count) = 0;
  virtual std::unique_ptr<AdvanceOp> advance() = 0;

 private:
  HostTrace* host_trace_ = nullptr;
};

/// Says what work is queued for, as long as it lives.
class Scoped {
 public:
  Scoped(Backend& backend, const Scope& scope) : backend_(backend) { backend.enter(scope); }
  ~Scoped() { backend_.leave(); }
  Scoped(const Scoped&) = delete;

 private:
  Backend& backend_;
};

}  // namespace microtome
