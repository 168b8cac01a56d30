// CUPTI's functions, found when a trace is made: programs start where its library is missing.
#pragma once

#include <cupti.h>
#include <fmt/format.h>

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

/// With what cures it, where something does.
inline std::string reason(decltype(&::cuptiGetResultString) text_of, CUptiResult status) {
  if (status == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED)
    return "another profiler has this process: rows and passes are ranges of the NVTX domain microtome there, around steps "
           "that are not recorded (--graph off); to have them here, run without it";
  if (status == CUPTI_ERROR_INSUFFICIENT_PRIVILEGES)
    return "the driver lets no one but administrators profile: run as root, or load it with "
           "NVreg_RestrictProfilingToAdminUsers=0";
  const char* what = nullptr;
  static_cast<void>(text_of(status, &what));
  return fmt::format("CUPTI refuses: {}", what != nullptr ? what : "an error without a name");
}

/// A function of the library; null where that is missing or too old for it.
void* find_in_cupti(const char* name, std::string& why);

/// Into a table of them, once; false with the reason in `why` where there is none.
template <class Function>
bool find_in_cupti(const char* name, Function*& function, std::string& why) {
  if (function == nullptr) function = reinterpret_cast<Function*>(find_in_cupti(name, why));
  return function != nullptr;
}

/// The records' layouts that CUDA 12.4 has. Later ones only append to them, so that every CUPTI since writes these.
using KernelRecord = CUpti_ActivityKernel9;
using CopyRecord = CUpti_ActivityMemcpy5;
using FillRecord = CUpti_ActivityMemset4;

}  // namespace microtome::cuda
