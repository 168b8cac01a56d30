#include "engine/profile.h"

#include "engine/check.h"

#include <chrono>

namespace microtome {

std::string_view name(Pass pass) {
  switch (pass) {
    case Pass::input: return "input";
    case Pass::forward: return "forward";
    case Pass::loss: return "loss";
    case Pass::backward: return "backward";
    case Pass::backward_data: return "backward_data";
    case Pass::backward_filter: return "backward_filter";
    case Pass::norm_correction: return "norm_correction";
    case Pass::update: return "update";
    case Pass::advance: return "advance";
  }
  return "?";
}

std::int64_t HostTrace::now() {
  using std::chrono::nanoseconds;
  return std::chrono::duration_cast<nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void HostTrace::start() {
  require(!on_, "a trace that runs already");
  on_ = true;
  recorded_ = {};
  recorded_.start_ns = now();
}

Recorded HostTrace::stop() {
  require(on_, "a trace that does not run");
  on_ = false;
  recorded_.end_ns = now();
  return std::move(recorded_);
}

void HostTrace::enter(const Scope& scope) {
  if (on_) recorded_.activities.push_back({.start_ns = now(), .attributed = true, .scope = scope});
}

void HostTrace::leave() {
  if (on_ && !recorded_.activities.empty()) recorded_.activities.back().end_ns = now();
}

}  // namespace microtome
