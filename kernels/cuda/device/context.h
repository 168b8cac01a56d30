// What all ops on one device share: the streams their work is queued on, scratch memory, and whether this is in earnest.
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/device/check.h"

#include <cstddef>
#include <vector>

namespace microtome::cuda {

/// What a call of an op is for. Nothing that outlives a step (weights, statistics, state) is touched but by a run; results of
/// the others are undefined.
enum class Phase {
  run,      // in earnest, or while a graph is captured
  collect,  // says what plans it will need: making them one by one, where they are first needed, would take minutes
  warm_up,  // loads what it will need, since no memory or module may be loaded during a capture
};

/// Used by one thread at a time, on the device that was current when it was made. Outlives the ops that refer to it.
class Context {
 public:
  explicit Context(Precision precision, BackendOptions options = {});
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Precision precision() const { return precision_; }
  const BackendOptions& options() const { return options_; }
  cudaStream_t stream() const { return streams_[current_].handle; }  // the present stream's
  int multiprocessors() const { return multiprocessors_; }

  /// 256-byte aligned device memory. Throws Error(ExitCode::memory).
  Buffer allocate(std::size_t bytes) const;

  /// As Backend's. Streams and events do nothing in a warm-up.
  int streams() const { return static_cast<int>(streams_.size()); }
  int stream_index() const { return static_cast<int>(current_); }
  void use_stream(int stream) { current_ = static_cast<std::size_t>(stream); }
  void record_event(int event);
  void wait_event(int event);

  /// Memory whose contents last for one call of one op; each stream has its own. reserve() makes it at least so large, outside
  /// of any capture; an address handed out to a run stays valid as long as the context, since a CUDA graph may have recorded
  /// it.
  void reserve(std::size_t bytes);
  std::byte* scratch(std::size_t bytes);
  std::size_t scratch_bytes() const;  // of all streams

  bool collecting() const { return phase_ == Phase::collect; }
  bool warming_up() const { return phase_ != Phase::run; }
  void enter(Phase phase) { phase_ = phase; }

 private:
  Precision precision_;
  BackendOptions options_;
  struct Stream {
    cudaStream_t handle = nullptr;
    Buffer scratch;
    bool handed_out = false;
    std::vector<Buffer> retired;
  };
  std::vector<Stream> streams_;
  std::size_t current_ = 0;
  std::vector<cudaEvent_t> events_;
  int multiprocessors_ = 0;
  Phase phase_ = Phase::run;
};

}  // namespace microtome::cuda
