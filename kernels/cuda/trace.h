// What the device did, by row and pass: see engine/profile.h.
#pragma once

#include "engine/profile.h"

#include <memory>
#include <string>

namespace microtome::cuda {

/// A trace that hears what work is queued for.
class CudaTrace : public Trace {
 public:
  virtual void enter(const Scope& scope) = 0;
  virtual void leave() = 0;
};

/// `slot` is where the backend looks for whom to tell; it is set for as long as the trace lives. Without CUPTI, or where
/// another profiler has the device, a trace only brackets what that profiler should see (cudaProfilerStart, cudaProfilerStop);
/// its note says so.
std::unique_ptr<CudaTrace> make_trace(CudaTrace*& slot);

/// Through CUPTI. Null with the reason and a cure in `why` where it cannot be had.
std::unique_ptr<CudaTrace> make_cupti_trace(CudaTrace*& slot, std::string& why);

}  // namespace microtome::cuda
