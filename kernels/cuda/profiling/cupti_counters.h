// What CUPTI knows of a chip's counters; needs no GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace microtome::cuda {

struct CounterFunctions;

/// How a chip counts: which counters in which pass.
class CounterPlan {
 public:
  /// `availability`: the device's own word on what it has, or empty. Throws Error(ExitCode::usage) for a metric that the chip
  /// does not have, Error(ExitCode::machine) where CUPTI does not know the chip.
  CounterPlan(const CounterFunctions& cupti, const std::string& chip, std::vector<std::string> metrics,
              const std::vector<std::uint8_t>& availability = {});
  ~CounterPlan();
  CounterPlan(const CounterPlan&) = delete;

  int passes() const { return passes_; }
  const std::vector<std::uint8_t>& image() const { return image_; }
  const std::vector<const char*>& metrics() const { return names_; }
  /// Of the range with that index in what was counted, by metric.
  std::vector<double> values(const std::vector<std::uint8_t>& counted, std::size_t index) const;

 private:
  [[noreturn]] void fail_unknown(const std::string& metric) const;

  const CounterFunctions& cupti_;
  struct Host;  // CUPTI's object
  std::unique_ptr<Host> host_;
  std::vector<std::string> metrics_;
  std::vector<const char*> names_;  // the same
  std::vector<std::uint8_t> image_;
  int passes_ = 0;
};

/// Null with the reason in `why` where CUPTI's library is missing or older than its range profiler.
const CounterFunctions* find_counter_functions(std::string& why);

}  // namespace microtome::cuda
