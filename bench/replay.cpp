#include "bench/replay.h"

#include <algorithm>
#include <chrono>

namespace microtome::bench {

namespace {

constexpr double long_enough = 2e-3;  // seconds, beside which a synchronisation is nothing
constexpr double most_repeats = 200;

}  // namespace

Replay::Replay(Backend& backend, std::vector<std::function<void()>> instances)
    : backend_(backend), instances_(std::move(instances)), count_(instances_.size()), recording_(record(count_)) {
  run();
  const double repeats = std::clamp(long_enough / (run() * static_cast<double>(count_)), 1.0, most_repeats);
  if (repeats >= 2) count_ *= static_cast<std::size_t>(repeats), recording_ = record(count_);
  run();
}

double Replay::run() {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  recording_->run();
  backend_.synchronize();
  return std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(count_);
}

std::unique_ptr<Recording> Replay::record(std::size_t count) {
  auto recording = backend_.record([this, count] {
    for (std::size_t i = 0; i < count; ++i) instances_[i % instances_.size()]();
  });
  backend_.synchronize();
  return recording;
}

}  // namespace microtome::bench
