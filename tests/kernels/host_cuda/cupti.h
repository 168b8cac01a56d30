// Test only: as much of CUPTI as cupti_trace.cpp uses, and a device to watch with it (watched.h). Structures have the members
// that are read there, in any layout.
#pragma once

#include <cstddef>
#include <cstdint>

#define CUPTIAPI

using CUcontext = struct CUctx_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphNode = struct CUgraphNode_st*;

enum CUptiResult {
  CUPTI_SUCCESS = 0,
  CUPTI_ERROR_INVALID_PARAMETER = 1,
  CUPTI_ERROR_MAX_LIMIT_REACHED = 12,
  CUPTI_ERROR_QUEUE_EMPTY = 33,
  CUPTI_ERROR_INSUFFICIENT_PRIVILEGES = 35,
  CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 39,
  CUPTI_ERROR_UNKNOWN = 999
};
CUptiResult cuptiGetResultString(CUptiResult result, const char** text);

using CUpti_CallbackId = std::uint32_t;
enum CUpti_CallbackDomain { CUPTI_CB_DOMAIN_RESOURCE = 3 };
enum { CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED = 13, CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED = 20 };
struct CUpti_ResourceData {
  void* resourceDescriptor;
};
struct CUpti_GraphData {
  CUgraph graph, originalGraph;
  CUgraphNode node, originalNode;
};
using CUpti_CallbackFunc = void (*)(void* userdata, CUpti_CallbackDomain, CUpti_CallbackId, const void* data);
using CUpti_SubscriberHandle = struct CUpti_Subscriber_st*;
CUptiResult cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc callback, void* userdata);
CUptiResult cuptiUnsubscribe(CUpti_SubscriberHandle subscriber);
CUptiResult cuptiEnableCallback(std::uint32_t enable, CUpti_SubscriberHandle, CUpti_CallbackDomain, CUpti_CallbackId);
CUptiResult cuptiGetGraphId(CUgraph graph, std::uint32_t* id);
CUptiResult cuptiGetGraphNodeId(CUgraphNode node, std::uint64_t* id);

enum CUpti_ActivityKind {
  CUPTI_ACTIVITY_KIND_MEMCPY = 1,
  CUPTI_ACTIVITY_KIND_MEMSET = 2,
  CUPTI_ACTIVITY_KIND_DRIVER = 4,
  CUPTI_ACTIVITY_KIND_RUNTIME = 5,
  CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL = 10,
  CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION = 39
};
enum { CUPTI_ACTIVITY_MEMCPY_KIND_HTOD = 1, CUPTI_ACTIVITY_MEMCPY_KIND_DTOH = 2, CUPTI_ACTIVITY_MEMCPY_KIND_DTOD = 8 };
struct CUpti_Activity {
  CUpti_ActivityKind kind;
};
struct CUpti_ActivityKernel9 {
  CUpti_ActivityKind kind;
  std::uint16_t registersPerThread;
  std::uint64_t start, end;
  std::uint32_t streamId;
  std::int32_t gridX, gridY, gridZ, blockX, blockY, blockZ, staticSharedMemory, dynamicSharedMemory;
  std::uint32_t localMemoryPerThread, correlationId;
  const char* name;
  std::uint64_t graphNodeId;
  std::uint32_t graphId;
};
struct CUpti_ActivityMemcpy5 {
  CUpti_ActivityKind kind;
  std::uint8_t copyKind;
  std::uint64_t bytes, start, end;
  std::uint32_t streamId, correlationId;
  std::uint64_t graphNodeId;
  std::uint32_t graphId;
};
struct CUpti_ActivityMemset4 {
  CUpti_ActivityKind kind;
  std::uint64_t bytes, start, end;
  std::uint32_t streamId, correlationId;
  std::uint64_t graphNodeId;
  std::uint32_t graphId;
};
enum CUpti_ExternalCorrelationKind { CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0 = 3 };
struct CUpti_ActivityExternalCorrelation {
  CUpti_ActivityKind kind;
  CUpti_ExternalCorrelationKind externalKind;
  std::uint64_t externalId;
  std::uint32_t correlationId;
};

enum CUpti_ActivityAttribute { CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER = 5 };
inline constexpr std::uint32_t CUPTI_ACTIVITY_FLAG_FLUSH_FORCED = 1;
using CUpti_BuffersCallbackRequestFunc = void (*)(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records);
using CUpti_BuffersCallbackCompleteFunc = void (*)(CUcontext, std::uint32_t stream, std::uint8_t* buffer, std::size_t size,
                                                   std::size_t valid_size);
CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc, CUpti_BuffersCallbackCompleteFunc);
CUptiResult cuptiActivitySetAttribute(CUpti_ActivityAttribute, std::size_t* size, void* value);
CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind);
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind);
CUptiResult cuptiActivityFlushAll(std::uint32_t flag);
CUptiResult cuptiActivityGetNextRecord(std::uint8_t* buffer, std::size_t valid_size, CUpti_Activity** record);
CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext, std::uint32_t stream, std::size_t* dropped);
CUptiResult cuptiActivityPushExternalCorrelationId(CUpti_ExternalCorrelationKind, std::uint64_t id);
CUptiResult cuptiActivityPopExternalCorrelationId(CUpti_ExternalCorrelationKind, std::uint64_t* last_id);
CUptiResult cuptiGetTimestamp(std::uint64_t* timestamp);
