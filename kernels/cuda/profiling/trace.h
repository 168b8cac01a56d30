// What the device did, by row and pass: see engine/profile.h.
#pragma once

#include "engine/profile.h"

#include <memory>
#include <string>

namespace microtome::cuda {

/// Hears what work is queued for.
class ScopeListener {
 public:
  virtual ~ScopeListener() = default;
  virtual void enter(const Scope& scope) = 0;
  virtual void leave() = 0;
};

class CudaTrace : public Trace, public ScopeListener {};

/// `slot` is where the backend looks for whom to tell; it is set for as long as the trace lives. Without CUPTI, or where
/// another profiler has the device, a trace only brackets what that profiler should see (cudaProfilerStart, cudaProfilerStop);
/// its note says so.
std::unique_ptr<CudaTrace> make_trace(ScopeListener*& slot);

/// Through CUPTI. Null with the reason and a cure in `why` where it cannot be had.
std::unique_ptr<CudaTrace> make_cupti_trace(ScopeListener*& slot, std::string& why);

}  // namespace microtome::cuda
