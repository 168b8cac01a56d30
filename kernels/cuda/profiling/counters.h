// Hardware counters by row and pass: see engine/profile.h.
#pragma once

#include "engine/profile.h"
#include "kernels/cuda/profiling/trace.h"

#include <memory>
#include <string>
#include <vector>

namespace microtome::cuda {

/// Work between a push and its pop.
struct CountedRange {
  int number = 0;
  double ns = 0;  // on the device
  std::vector<double> values;
};

/// Counts numbered ranges. What it counts in has room for one group of counters, so that a window of ranges is run in several
/// passes, each between start() and stop().
class RangeCounter {
 public:
  virtual ~RangeCounter() = default;
  virtual int most_ranges() const = 0;  // of a window
  virtual int passes() const = 0;       // over a window
  virtual void open(int ranges) = 0;    // a window
  virtual void start() = 0;
  virtual void push(int number) = 0;  // waits until the device is idle, as do pop() and stop()
  virtual void pop() = 0;
  virtual void stop() = 0;
  virtual std::vector<CountedRange> read() = 0;  // of a window, after its passes
};

/// Counters that hear what work is queued for. The first step is only heard, for its ranges: each entry of a scope is one.
class CudaCounters final : public Counters, public ScopeListener {
 public:
  /// `metrics` by CUPTI's names; `slot` is where the backend looks for whom to tell, set for as long as this lives.
  CudaCounters(ScopeListener*& slot, std::unique_ptr<RangeCounter> counter, const std::vector<std::string>& metrics);
  ~CudaCounters() override;
  CudaCounters(const CudaCounters&) = delete;

  int steps() const override;
  void start() override;
  void stop() override;
  std::map<ScopeKey, std::vector<double>> values() const override;

  void enter(const Scope& scope) override;
  void leave() override;

 private:
  int windows() const;

  ScopeListener*& slot_;
  std::unique_ptr<RangeCounter> counter_;
  std::vector<bool> adds_up_;  // a metric over ranges; others are means over time
  std::vector<Scope> scopes_;  // of a step's ranges, in their order
  std::vector<CountedRange> counted_;
  bool on_ = false, pushed_ = false;
  int done_ = 0;     // steps
  int entered_ = 0;  // of this step's ranges
};

/// By CUPTI's range profiler. Null with the reason and a cure in `why` where it cannot be had; throws Error(ExitCode::usage)
/// for a metric that the chip does not have.
std::unique_ptr<Counters> make_counters(ScopeListener*& slot, const std::vector<std::string>& metrics, std::string& why);

}  // namespace microtome::cuda
