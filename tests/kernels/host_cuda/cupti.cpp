#include "kernels/cuda/profiling/cupti.h"

#include "kernels/host_cuda/cuda_profiler_api.h"
#include "kernels/host_cuda/watched.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

using microtome::host_cuda::Watched;
using microtome::host_cuda::Work;

struct CUgraphNode_st {
  std::uint64_t id;
  Work work;
};
struct CUgraph_st {
  std::uint32_t id;
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
};

namespace {

Watched* watched = nullptr;

/// Of a record in a buffer; each starts at a multiple of 8 bytes.
std::size_t size_of(CUpti_ActivityKind kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: return sizeof(CUpti_ActivityKernel9);
    case CUPTI_ACTIVITY_KIND_MEMCPY: return sizeof(CUpti_ActivityMemcpy5);
    case CUPTI_ACTIVITY_KIND_MEMSET: return sizeof(CUpti_ActivityMemset4);
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: return sizeof(CUpti_ActivityExternalCorrelation);
    default: return 8;  // a call
  }
}

}  // namespace

namespace microtome::host_cuda {

Watched::Watched() {
  watched = this;
}

Watched::~Watched() {
  watched = nullptr;
}

CUgraph Watched::graph() {
  const auto id = static_cast<std::uint32_t>(graphs_.size() + 1);
  return graphs_.emplace_back(std::make_unique<CUgraph_st>(CUgraph_st{id, {}})).get();
}

void Watched::tell(CUpti_CallbackId id, CUpti_GraphData data) {
  if (!heard.contains(id)) return;
  const CUpti_ResourceData resource{&data};
  callback(userdata, CUPTI_CB_DOMAIN_RESOURCE, id, &resource);
}

void Watched::add_node(CUgraph graph, const Work& work) {
  auto& node = graph->nodes.emplace_back(std::make_unique<CUgraphNode_st>(CUgraphNode_st{++nodes_, work}));
  tell(CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, {.graph = graph, .node = node.get()});
}

CUgraph Watched::instantiate(CUgraph original) {
  CUgraph clone = graph();
  for (const auto& node : original->nodes) {
    add_node(clone, node->work);
    tell(CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED, {clone, original, clone->nodes.back().get(), node.get()});
  }
  return clone;
}

void Watched::launch(CUgraph graph) {
  ++correlation_;
  for (const auto& node : graph->nodes) record(node->work, correlation_, node->id, graph->id);
}

void Watched::launch(const Work& work) {
  record(work, ++correlation_, 0, 0);
}

void Watched::record(const Work& work, std::uint32_t correlation, std::uint64_t node, std::uint32_t graph) {
  const std::uint64_t start = clock += 10, end = still_running ? 0 : clock += 100;
  const bool calls = enabled.contains(CUPTI_ACTIVITY_KIND_RUNTIME) && enabled.contains(CUPTI_ACTIVITY_KIND_DRIVER);
  if (calls && enabled.contains(CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION) && !external.empty())
    put(CUpti_ActivityExternalCorrelation{CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0,
                                          external.back(), correlation});
  if (calls) put(std::uint64_t{CUPTI_ACTIVITY_KIND_RUNTIME});
  if (!enabled.contains(work.kind)) return;
  switch (work.kind) {
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      put(CUpti_ActivityMemcpy5{.kind = work.kind,
                                .copyKind = CUPTI_ACTIVITY_MEMCPY_KIND_HTOD,
                                .bytes = work.bytes,
                                .start = start,
                                .end = end,
                                .streamId = 7,
                                .correlationId = correlation,
                                .graphNodeId = node,
                                .graphId = graph});
      break;
    case CUPTI_ACTIVITY_KIND_MEMSET:
      put(CUpti_ActivityMemset4{.kind = work.kind,
                                .bytes = work.bytes,
                                .start = start,
                                .end = end,
                                .streamId = 7,
                                .correlationId = correlation,
                                .graphNodeId = node,
                                .graphId = graph});
      break;
    default:
      put(CUpti_ActivityKernel9{.kind = work.kind,
                                .registersPerThread = 40,
                                .start = start,
                                .end = end,
                                .streamId = 7,
                                .gridX = 132,
                                .gridY = 2,
                                .gridZ = 1,
                                .blockX = 256,
                                .blockY = 1,
                                .blockZ = 1,
                                .staticSharedMemory = 1024,
                                .dynamicSharedMemory = 4096,
                                .localMemoryPerThread = 16,
                                .correlationId = correlation,
                                .name = work.name,
                                .graphNodeId = node,
                                .graphId = graph});
  }
}

template <class Record>
void Watched::put(const Record& record) {
  static_assert(sizeof(Record) % 8 == 0);
  if (buffer_ != nullptr && valid_ + sizeof record > size_) flush();
  if (buffer_ == nullptr) {
    std::size_t most_records = 0;
    valid_ = 0;
    request(&buffer_, &size_, &most_records);
    buffers.insert(buffer_);
    buffers_clear = buffers_clear && std::all_of(buffer_, buffer_ + size_, [](std::uint8_t byte) { return byte == 0; });
  }
  std::memcpy(buffer_ + valid_, &record, sizeof record);
  valid_ += sizeof record;
}

void Watched::flush() {
  if (buffer_ == nullptr) return;
  std::thread([&] { complete(nullptr, 0, buffer_, size_, valid_); }).join();
  buffer_ = nullptr;
}

}  // namespace microtome::host_cuda

const microtome::cuda::Cupti* microtome::cuda::find_cupti(std::string& why) {
  static const Cupti table = [] {
    Cupti filled;
#define FILL(function) filled.function = ::function;
    CUPTI_FUNCTIONS(FILL)
#undef FILL
    return filled;
  }();
  if (watched->installed) return &table;
  why = "CUPTI's library is missing";
  return nullptr;
}

CUptiResult cuptiGetResultString(CUptiResult, const char** text) {
  return *text = "CUPTI_ERROR_UNKNOWN", CUPTI_SUCCESS;
}

CUptiResult cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc callback, void* userdata) {
  if (watched->on_subscribe != CUPTI_SUCCESS) return watched->on_subscribe;
  if (watched->callback != nullptr) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  watched->callback = callback;
  watched->userdata = userdata;
  return *subscriber = reinterpret_cast<CUpti_SubscriberHandle>(watched), CUPTI_SUCCESS;
}
CUptiResult cuptiUnsubscribe(CUpti_SubscriberHandle) {
  watched->callback = nullptr;
  watched->heard.clear();
  return CUPTI_SUCCESS;
}
CUptiResult cuptiEnableCallback(std::uint32_t, CUpti_SubscriberHandle, CUpti_CallbackDomain, CUpti_CallbackId id) {
  return watched->heard.insert(id), CUPTI_SUCCESS;
}
CUptiResult cuptiGetGraphId(CUgraph graph, std::uint32_t* id) {
  return *id = graph->id, CUPTI_SUCCESS;
}
CUptiResult cuptiGetGraphNodeId(CUgraphNode node, std::uint64_t* id) {
  return *id = node->id, CUPTI_SUCCESS;
}

CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request,
                                           CUpti_BuffersCallbackCompleteFunc complete) {
  watched->request = request;
  watched->complete = complete;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivitySetAttribute(CUpti_ActivityAttribute, std::size_t*, void*) {
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) {
  if (watched->on_enable == CUPTI_SUCCESS) watched->enabled.insert(kind);
  return watched->on_enable;
}
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) {
  return watched->enabled.erase(kind), CUPTI_SUCCESS;
}
CUptiResult cuptiActivityFlushAll(std::uint32_t) {
  return watched->flush(), CUPTI_SUCCESS;
}
CUptiResult cuptiActivityGetNextRecord(std::uint8_t* buffer, std::size_t valid_size, CUpti_Activity** record) {
  std::uint8_t* next = *record == nullptr ? buffer : reinterpret_cast<std::uint8_t*>(*record) + size_of((*record)->kind);
  if (next == buffer + valid_size) return CUPTI_ERROR_MAX_LIMIT_REACHED;
  return *record = reinterpret_cast<CUpti_Activity*>(next), CUPTI_SUCCESS;
}
CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, std::uint32_t, std::size_t* dropped) {
  return *dropped = std::exchange(watched->dropped, 0), CUPTI_SUCCESS;
}
CUptiResult cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind, std::uint64_t id) {
  return watched->external.push_back(id), CUPTI_SUCCESS;
}
CUptiResult cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind, std::uint64_t* last_id) {
  if (watched->external.empty()) return CUPTI_ERROR_QUEUE_EMPTY;
  *last_id = watched->external.back();
  watched->external.pop_back();
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetTimestamp(std::uint64_t* timestamp) {
  return *timestamp = ++watched->clock, CUPTI_SUCCESS;
}

cudaError_t cudaProfilerStart() {
  return ++watched->brackets, cudaSuccess;
}
cudaError_t cudaProfilerStop() {
  return --watched->brackets, cudaSuccess;
}
