// cuDNN's graph API (cudnnBackend*), as thin as can be: descriptors that free themselves, graphs of operations, plans.
#pragma once

#include "engine/check.h"
#include "engine/tensor.h"

#include <cudnn.h>

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace microtome::cuda {

/// What cuDNN says of the last refusal of this thread's; may be empty.
std::string last_reason();

/// Throws Error(ExitCode::machine).
void check(cudnnStatus_t status, std::source_location at = std::source_location::current());
void check_nothrow(cudnnStatus_t status, std::source_location at = std::source_location::current()) noexcept;

/// "9.19.0" of 91900.
std::string version_text(std::size_t version);

/// Throws Error(ExitCode::machine) where the cuDNN that is loaded is older than the one that this was compiled with. A later
/// minor version serves what an earlier one was compiled with; patches of one minor version serve each other.
void check_version(std::size_t loaded);

/// cuDNN on the current device, its work queued on a stream. One thread at a time may use it.
class CudnnHandle {
 public:
  explicit CudnnHandle(cudaStream_t stream);
  CudnnHandle(CudnnHandle&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  CudnnHandle& operator=(CudnnHandle&&) = delete;
  ~CudnnHandle();

  cudnnHandle_t raw() const { return raw_; }

 private:
  cudnnHandle_t raw_ = nullptr;
};

/// Owns one backend descriptor.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~Descriptor();

  cudnnBackendDescriptor_t raw() const { return raw_; }

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values,
           std::source_location at = std::source_location::current());
  void set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values);
  void set(cudnnBackendAttributeName_t name, std::int64_t value) { set(name, std::span(&value, 1)); }
  void set(cudnnBackendAttributeName_t name, float value) { set(name, CUDNN_TYPE_FLOAT, 1, &value); }
  void set(cudnnBackendAttributeName_t name, bool value) { set(name, CUDNN_TYPE_BOOLEAN, 1, &value); }
  void set(cudnnBackendAttributeName_t name, cudnnDataType_t value) { set(name, CUDNN_TYPE_DATA_TYPE, 1, &value); }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  }
  void finalize(std::source_location at = std::source_location::current());

  /// False where cuDNN refuses: the way it says that an engine does not support a graph, or that it knows none of that number.
  bool try_set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const void* value);
  bool try_finalize();

  /// As many values as there are, at most `values.size()`.
  std::int64_t read(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t room, void* values) const;

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
};

/// A tensor as cuDNN sees it: dimensions in the order N C H W, strides to match.
struct TensorSpec {
  std::int64_t id = 0;  // data are handed over under this number
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::array<std::int64_t, 4> dimensions{1, 1, 1, 1};
  std::array<std::int64_t, 4> strides{1, 1, 1, 1};
  std::int64_t alignment = 16;  // bytes, of the address
  bool is_virtual = false;      // between two operations, never in memory
  bool by_value = false;        // one number in host memory
};

/// Bytes from a tensor's first element to its last, the gaps of a slice included.
std::size_t extent_bytes(const TensorSpec& spec);

TensorSpec spec_of(std::int64_t id, const Layout& layout, std::int64_t alignment);
cudnnDataType_t cudnn_type(DType type);

/// Where plans will run: the device of a handle, or, without a GPU, a description of one.
struct Target {
  cudnnHandle_t handle = nullptr;
  const Descriptor* properties = nullptr;
};

/// A device description for Target, from a JSON text with the keys that cuDNN asks for.
Descriptor device_properties(std::string_view json);

/// Operations and their tensors, recorded one after another.
class OperationGraph {
 public:
  const Descriptor& tensor(const TensorSpec& spec);

  /// The tensors that a run is handed.
  const std::vector<TensorSpec>& arguments() const { return arguments_; }

  /// All operations as one descriptor; none where cuDNN refuses the combination.
  std::optional<Descriptor> finalized(const Target& target) const;

  Descriptor& part(cudnnBackendDescriptorType_t type);
  void operation(const Descriptor& finalized) { operations_.push_back(finalized.raw()); }

  /// y = mode(x), or mode(x, b) with a second operand.
  void pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b, const Descriptor& y);

 private:
  std::vector<std::unique_ptr<Descriptor>> parts_;
  std::vector<cudnnBackendDescriptor_t> operations_;
  std::vector<TensorSpec> arguments_;
};

/// What an engine may do to the numbers.
struct EngineLimits {
  bool tensor_cores = true;    // on float32 they mean tf32
  bool deterministic = false;  // the same bits twice
  std::size_t workspace_bytes = std::size_t{1} << 30;
};

/// An engine and what its knobs are set to, in numbers that a file can hold.
struct EngineChoice {
  std::int64_t engine = -1;                                    // its global index
  std::vector<std::pair<std::int64_t, std::int64_t>> knobs{};  // type and value, in the order of the types
  auto operator<=>(const EngineChoice&) const = default;
};

/// An engine with its knobs chosen, which supports a graph on a target.
struct Candidate {
  Descriptor config;
  std::int64_t engine = -1;
  bool runtime_compiled = false;  // its plan can be built only where there is a driver

  EngineChoice choice() const;
};

/// A heuristic's list, best first, of engines that sum in float32 and use neither Winograd's nor Fourier's transform, whose
/// errors exceed those of a plain sum.
std::vector<Candidate> candidates(const Target& target, const OperationGraph& graph, const EngineLimits& limits,
                                  cudnnBackendHeurMode_t mode);

/// What was chosen before, perhaps by another process. None where this cuDNN does not know it, or it does not support the
/// graph.
std::optional<Candidate> candidate(const Target& target, const OperationGraph& graph, const EngineLimits& limits,
                                   const EngineChoice& choice);

/// An engine, ready to run a graph. One thread at a time may use it.
class ExecutionPlan {
 public:
  /// None where cuDNN refuses, or wants more workspace than it may have.
  static std::optional<ExecutionPlan> build(const Target& target, Candidate candidate, const EngineLimits& limits);

  /// The first that builds of heuristic mode A's candidates, then of the fallback's. None: no such engine.
  static std::optional<ExecutionPlan> first(const Target& target, const OperationGraph& graph, const EngineLimits& limits);

  const Candidate& candidate() const { return candidate_; }
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  std::string engine() const;  // "cudnn engine 62"
  const Descriptor& descriptor() const { return plan_; }

 private:
  ExecutionPlan(Candidate candidate, Descriptor plan, std::size_t workspace_bytes);

  Candidate candidate_;
  Descriptor plan_;
  std::size_t workspace_bytes_;
};

/// Runs of one plan by one caller: the arguments of the last run are those of the next one as well, unless a test moves its
/// tensors.
class Execution {
 public:
  struct Argument {
    std::int64_t id;
    void* data;
    bool operator==(const Argument&) const = default;
  };
  void run(cudnnHandle_t handle, const ExecutionPlan& plan, std::span<const Argument> arguments, void* workspace);

 private:
  std::optional<Descriptor> variant_;
  std::vector<Argument> arguments_;
  void* workspace_ = nullptr;
};

}  // namespace microtome::cuda
