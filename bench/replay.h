// Time on a device: many instances of some work recorded as one step and replayed, so that launches and the wait for the end
// cost nothing.
#pragma once

#include "engine/backend.h"

#include <functional>
#include <memory>
#include <vector>

namespace microtome::bench {

class Replay {
 public:
  /// The instances run in turn, each at least once.
  Replay(Backend& backend, std::vector<std::function<void()>> instances);

  /// Seconds of one instance.
  double run();

 private:
  std::unique_ptr<Recording> record(std::size_t count);

  Backend& backend_;
  std::vector<std::function<void()>> instances_;
  std::size_t count_;
  std::unique_ptr<Recording> recording_;
};

}  // namespace microtome::bench
