// What a device did, when, and what for.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace microtome {

/// What work is queued for, beside a row: `input`, `loss`, `update` and `advance` belong to a step and to no row;
/// `norm_correction` is a gradient's correction for deferred batch-norms; `backward` all of a row's backward pass where it is
/// one piece.
enum class Pass { input, forward, loss, backward, backward_data, backward_filter, norm_correction, update, advance };

std::string_view name(Pass pass);

struct Scope {
  std::string_view row;  // a graph's, which outlives the traces; empty where the pass belongs to none
  Pass pass = Pass::forward;
  bool operator==(const Scope&) const = default;
};

using ScopeKey = std::pair<std::string_view, Pass>;  // Scope's, in an order

/// One piece of work.
struct Activity {
  enum class Kind { op, kernel, copy, fill };  // op: on a device that is the host
  Kind kind = Kind::op;
  std::string name;                       // of a kernel, demangled; empty for an op
  std::int64_t start_ns = 0, end_ns = 0;  // by one clock
  bool attributed = false;                // whether the scope is known
  Scope scope;
  int stream = 0;           // numbered as they are met
  std::uint64_t bytes = 0;  // of a copy or fill
  struct Launch {
    std::array<std::uint32_t, 3> grid{}, block{};
    std::uint32_t registers = 0;     // a thread
    std::uint32_t shared_bytes = 0;  // a block, static and dynamic
    std::uint32_t local_bytes = 0;   // a thread: spills and arrays
  } launch;                          // of a kernel
};

/// What happened between a trace's start and its stop, in no order.
struct Recorded {
  std::vector<Activity> activities;
  std::int64_t start_ns = 0, end_ns = 0;  // by the activities' clock; the device was idle at both
  std::uint64_t dropped = 0;              // pieces of work that the device's own tracer lost
  std::string note;                       // why nothing, or less, was seen: another profiler has the device, no permission
};

/// Records what a device does, on and off. What is recorded in a step (Backend::record) bears its scopes in replays only where
/// the trace was made before. One at a time for a device; it must not outlive the backend.
class Trace {
 public:
  virtual ~Trace() = default;
  virtual void start() = 0;     // waits until the device is idle
  virtual Recorded stop() = 0;  // likewise
};

/// Reads hardware counters by row and pass. A device has few registers to count in, so that the same step is taken again and
/// again, op by op, between start() and stop(). No trace may be there at the same time; it must not outlive the backend.
class Counters {
 public:
  virtual ~Counters() = default;
  virtual int steps() const = 0;  // that all of it takes; known after the first, 1 before
  virtual void start() = 0;       // of a step; waits until the device is idle
  virtual void stop() = 0;        // likewise
  /// When all steps are done: of one, for each counter in the order asked for. NaN where nothing was counted.
  virtual std::map<ScopeKey, std::vector<double>> values() const = 0;
};

/// For devices whose work is done when a call returns: the time between enter() and leave().
class HostTrace final : public Trace {
 public:
  /// `slot` is where the backend looks for whom to tell; it is set for as long as this lives.
  explicit HostTrace(HostTrace*& slot) : slot_(slot) { slot_ = this; }
  ~HostTrace() override { slot_ = nullptr; }
  HostTrace(const HostTrace&) = delete;

  void start() override;
  Recorded stop() override;
  void enter(const Scope& scope);
  void leave();

 private:
  static std::int64_t now();

  HostTrace*& slot_;
  bool on_ = false;
  Recorded recorded_;
};

}  // namespace microtome
