// CUPTI's functions, found when a trace is made: programs start where its library is missing.
#pragma once

#include <cupti.h>

#include <string>

namespace microtome::cuda {

#define CUPTI_FUNCTIONS(each)                                                                                               \
  each(cuptiActivityDisable) each(cuptiActivityEnable) each(cuptiActivityFlushAll) each(cuptiActivityGetNextRecord)         \
      each(cuptiActivityGetNumDroppedRecords) each(cuptiActivityPopExternalCorrelationId)                                   \
          each(cuptiActivityPushExternalCorrelationId) each(cuptiActivityRegisterCallbacks) each(cuptiActivitySetAttribute) \
              each(cuptiEnableCallback) each(cuptiGetGraphId) each(cuptiGetGraphNodeId) each(cuptiGetResultString)          \
                  each(cuptiGetTimestamp) each(cuptiSubscribe) each(cuptiUnsubscribe)

struct Cupti {
#define DECLARE(function) decltype(&::function) function = nullptr;
  CUPTI_FUNCTIONS(DECLARE)
#undef DECLARE
};

/// Null with the reason in `why` where there is no such library.
const Cupti* find_cupti(std::string& why);

/// The records' layouts that CUDA 12.4 has. Later ones only append to them, so that every CUPTI since writes these.
using KernelRecord = CUpti_ActivityKernel9;
using CopyRecord = CUpti_ActivityMemcpy5;
using FillRecord = CUpti_ActivityMemset4;

}  // namespace microtome::cuda
