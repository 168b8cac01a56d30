#include "kernels/cuda/vendor/cudnn.h"

#include <algorithm>
#include <cstdio>

namespace microtome::cuda {

std::string last_reason() {
  std::array<char, 512> reason{};
  cudnnGetLastErrorString(reason.data(), reason.size());
  return reason.data();
}

void check(cudnnStatus_t status, std::source_location at) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  fail(ExitCode::machine, fmt::format("cuDNN: {}", cudnnGetErrorString(status)), {.found = last_reason()}, at);
}

void check_nothrow(cudnnStatus_t status, std::source_location at) noexcept {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::fprintf(stderr, "%s:%u: cuDNN: %s\n", at.file_name(), static_cast<unsigned>(at.line()), cudnnGetErrorString(status));
}

std::string version_text(std::size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

void check_version(std::size_t loaded) {
  if (loaded / 100 >= CUDNN_VERSION / 100) return;
  fail(ExitCode::machine, "cuDNN is older than Microtome was built with",
       {.expected = fmt::format("cuDNN {} or a later {}", version_text(CUDNN_VERSION), CUDNN_VERSION / 10000),
        .found = fmt::format("cuDNN {}", version_text(loaded)),
        .next = "install a newer cuDNN, or put its folder first in LD_LIBRARY_PATH; or use --device cpu"});
}

CudnnHandle::CudnnHandle(cudaStream_t stream) {
  check(cudnnCreate(&raw_));
  check(cudnnSetStream(raw_, stream));
}

CudnnHandle::~CudnnHandle() {
  if (raw_ != nullptr) check_nothrow(cudnnDestroy(raw_));
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  check(cudnnBackendCreateDescriptor(type, &raw_));
}

Descriptor::~Descriptor() {
  if (raw_ != nullptr) check_nothrow(cudnnBackendDestroyDescriptor(raw_));
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count, const void* values,
                     std::source_location at) {
  check(cudnnBackendSetAttribute(raw_, name, type, count, values), at);
}

void Descriptor::set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values) {
  set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
}

void Descriptor::finalize(std::source_location at) {
  check(cudnnBackendFinalize(raw_), at);
}

bool Descriptor::try_set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const void* value) {
  return cudnnBackendSetAttribute(raw_, name, type, 1, value) == CUDNN_STATUS_SUCCESS;
}

bool Descriptor::try_finalize() {
  return cudnnBackendFinalize(raw_) == CUDNN_STATUS_SUCCESS;
}

std::int64_t Descriptor::read(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t room,
                              void* values) const {
  std::int64_t count = 0;
  check(cudnnBackendGetAttribute(raw_, name, type, room, &count, values));
  return std::min(count, room);
}

cudnnDataType_t cudnn_type(DType type) {
  require(type == DType::f32 || type == DType::bf16, "cuDNN: no type for ", name(type));
  return type == DType::f32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
}

static std::int64_t element_bytes(const TensorSpec& spec) {
  return spec.type == CUDNN_DATA_FLOAT ? 4 : 2;
}

std::size_t extent_bytes(const TensorSpec& spec) {
  std::int64_t elements = 1;
  for (std::size_t d = 0; d < spec.dimensions.size(); ++d) elements += (spec.dimensions[d] - 1) * spec.strides[d];
  return static_cast<std::size_t>(elements * element_bytes(spec));
}

TensorSpec spec_of(std::int64_t id, const Layout& layout, std::int64_t alignment) {
  const Shape& s = layout.shape;
  return {.id = id,
          .type = cudnn_type(layout.dtype),
          .dimensions = {s.n, s.c, s.h, s.w},
          .strides = {layout.strides.n, 1, layout.strides.h, layout.strides.w},
          .alignment = alignment};
}

Descriptor device_properties(std::string_view json) {
  Descriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(json.size()),
                 json.data());
  properties.finalize();
  return properties;
}

Descriptor& OperationGraph::part(cudnnBackendDescriptorType_t type) {
  return *parts_.emplace_back(std::make_unique<Descriptor>(type));
}

const Descriptor& OperationGraph::tensor(const TensorSpec& spec) {
  Descriptor& tensor = part(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, spec.id);
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, spec.type);
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, spec.dimensions);
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, spec.strides);
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, std::max<std::int64_t>(spec.alignment, element_bytes(spec)));  // less is refused
  tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, spec.is_virtual);
  if (spec.by_value) tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
  tensor.finalize();
  if (!spec.is_virtual) arguments_.push_back(spec);
  return tensor;
}

void OperationGraph::pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b, const Descriptor& y) {
  Descriptor& function = part(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  function.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
  if (mode == CUDNN_POINTWISE_RELU_FWD) {  // a NaN must reach the loss
    const cudnnNanPropagation_t nan = CUDNN_PROPAGATE_NAN;
    static_cast<void>(function.try_set(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, &nan));  // deprecated
  }
  function.finalize();
  Descriptor& step = part(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  step.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
  step.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  if (b != nullptr) step.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
  step.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
  step.finalize();
  operation(step);
}

namespace {

std::vector<Descriptor> ranked_configs(const Target& target, const Descriptor& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (target.properties != nullptr) heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.properties);
  if (!heuristic.try_finalize()) return {};
  constexpr std::int64_t most = 64;
  std::vector<Descriptor> configs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < most; ++i) raw.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).raw());
  std::int64_t count = 0;
  if (cudnnBackendGetAttribute(heuristic.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &count,
                               raw.data()) != CUDNN_STATUS_SUCCESS)
    return {};
  configs.erase(configs.begin() + std::min(count, most), configs.end());
  return configs;
}

bool is_acceptable(const Descriptor& engine, const EngineLimits& limits) {
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  const std::int64_t count = engine.read(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                         static_cast<std::int64_t>(notes.size()), notes.data());
  return std::none_of(notes.begin(), notes.begin() + count, [&](cudnnBackendNumericalNote_t note) {
    switch (note) {
      case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: return !limits.tensor_cores;
      case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: return limits.deterministic;
      case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
      case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
      case CUDNN_NUMERICAL_NOTE_FFT:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
      case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return true;
      default: return false;
    }
  });
}

bool is_runtime_compiled(const Descriptor& engine) {
  std::array<cudnnBackendBehaviorNote_t, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT> notes{};
  const std::int64_t count = engine.read(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                         static_cast<std::int64_t>(notes.size()), notes.data());
  return std::find(notes.begin(), notes.begin() + count, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != notes.begin() + count;
}

Candidate candidate_of(Descriptor config, const Descriptor& engine) {
  std::int64_t index = -1;
  engine.read(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
  const bool runtime_compiled = is_runtime_compiled(engine);
  return {std::move(config), index, runtime_compiled};
}

}  // namespace

std::optional<Descriptor> OperationGraph::finalized(const Target& target) const {
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  if (target.handle != nullptr) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(operations_.size()),
            operations_.data());
  if (!graph.try_finalize()) return {};
  return graph;
}

EngineChoice Candidate::choice() const {
  EngineChoice result{engine};
  constexpr std::int64_t most = CUDNN_KNOB_TYPE_COUNTS;  // cuDNN does not say beforehand how many there are
  std::vector<Descriptor> knobs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < most; ++i) raw.push_back(knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR).raw());
  const std::int64_t count = config.read(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, raw.data());
  knobs.erase(knobs.begin() + count, knobs.end());
  for (const Descriptor& knob : knobs) {
    cudnnBackendKnobType_t type{};
    std::int64_t value = 0;
    knob.read(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
    knob.read(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
    result.knobs.emplace_back(type, value);
  }
  std::sort(result.knobs.begin(), result.knobs.end());
  return result;
}

std::vector<Candidate> candidates(const Target& target, const OperationGraph& graph, const EngineLimits& limits,
                                  cudnnBackendHeurMode_t mode) {
  const std::optional<Descriptor> operations = graph.finalized(target);
  if (!operations) return {};
  std::vector<Candidate> result;
  for (Descriptor& config : ranked_configs(target, *operations, mode)) {
    Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t raw = engine.raw();
    config.read(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
    if (is_acceptable(engine, limits)) result.push_back(candidate_of(std::move(config), engine));
  }
  return result;
}

std::optional<Candidate> candidate(const Target& target, const OperationGraph& graph, const EngineLimits& limits,
                                   const EngineChoice& choice) {
  const std::optional<Descriptor> operations = graph.finalized(target);
  if (!operations) return {};
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, *operations);
  if (target.properties != nullptr) engine.set(CUDNN_ATTR_ENGINE_DEVICEPROP, *target.properties);
  Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  if (!engine.try_set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, &choice.engine) || !engine.try_finalize()) return {};
  std::vector<Descriptor> knobs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const auto& [number, value] : choice.knobs) {
    Descriptor& knob = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    const auto type = static_cast<cudnnBackendKnobType_t>(number);
    if (!knob.try_set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, &type) ||
        !knob.try_set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, &value) || !knob.try_finalize())
      return {};
    raw.push_back(knob.raw());
  }
  config.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  if (!raw.empty()) {
    config.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(raw.size()),
               raw.data());
  }
  if (!config.try_finalize() || !is_acceptable(engine, limits)) return {};
  return candidate_of(std::move(config), engine);
}

std::optional<ExecutionPlan> ExecutionPlan::build(const Target& target, Candidate candidate, const EngineLimits& limits) {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (target.handle != nullptr) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  if (target.properties != nullptr) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.properties);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, candidate.config);
  if (!plan.try_finalize()) return {};
  std::int64_t workspace = 0;
  plan.read(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
  if (static_cast<std::size_t>(workspace) > limits.workspace_bytes) return {};
  return ExecutionPlan(std::move(candidate), std::move(plan), static_cast<std::size_t>(workspace));
}

std::optional<ExecutionPlan> ExecutionPlan::first(const Target& target, const OperationGraph& graph,
                                                  const EngineLimits& limits) {
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (Candidate& candidate : candidates(target, graph, limits, mode)) {
      if (std::optional<ExecutionPlan> plan = build(target, std::move(candidate), limits)) return plan;
    }
  }
  return {};
}

ExecutionPlan::ExecutionPlan(Candidate candidate, Descriptor plan, std::size_t workspace_bytes)
    : candidate_(std::move(candidate)), plan_(std::move(plan)), workspace_bytes_(workspace_bytes) {}

std::string ExecutionPlan::engine() const {
  return fmt::format("cudnn engine {}", candidate_.engine);
}

void Execution::run(cudnnHandle_t handle, const ExecutionPlan& plan, std::span<const Argument> arguments, void* workspace) {
  if (!variant_ || workspace != workspace_ ||
      !std::equal(arguments.begin(), arguments.end(), arguments_.begin(), arguments_.end())) {
    arguments_.assign(arguments.begin(), arguments.end());
    workspace_ = workspace;
    std::vector<std::int64_t> ids;
    std::vector<void*> data;
    for (const Argument& argument : arguments_) ids.push_back(argument.id), data.push_back(argument.data);
    variant_.emplace(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    variant_->set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
    variant_->set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, static_cast<std::int64_t>(data.size()),
                  data.data());
    variant_->set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace_);
    variant_->finalize();
  }
  check(cudnnBackendExecute(handle, plan.descriptor().raw(), variant_->raw()));
}

}  // namespace microtome::cuda
