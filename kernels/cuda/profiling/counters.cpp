#include "kernels/cuda/profiling/counters.h"

#include "engine/check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace microtome::cuda {

namespace {

/// `name.rollup.submetric`: a bare sum or average over units grows with the range, what is made of one does not.
bool adds_up(const std::string& metric) {
  return metric.ends_with(".sum") || metric.ends_with(".avg");
}

}  // namespace

CudaCounters::CudaCounters(ScopeListener*& slot, std::unique_ptr<RangeCounter> counter, const std::vector<std::string>& metrics)
    : slot_(slot), counter_(std::move(counter)) {
  require(slot_ == nullptr, "counters beside a trace");
  for (const std::string& metric : metrics) adds_up_.push_back(adds_up(metric));
  slot_ = this;
}

CudaCounters::~CudaCounters() {
  slot_ = nullptr;
}

int CudaCounters::windows() const {
  const int most = counter_->most_ranges();
  return (static_cast<int>(scopes_.size()) + most - 1) / most;
}

int CudaCounters::steps() const {
  return 1 + windows() * counter_->passes();
}

void CudaCounters::start() {
  require(!on_ && done_ < steps(), "all has been counted");
  on_ = true;
  entered_ = 0;
  if (done_ == 0) return;
  const int at = done_ - 1, most = counter_->most_ranges(), window = at / counter_->passes();
  if (at % counter_->passes() == 0) counter_->open(std::min(most, static_cast<int>(scopes_.size()) - window * most));
  counter_->start();
}

void CudaCounters::enter(const Scope& scope) {
  if (!on_) return;
  const int number = entered_++;
  if (done_ == 0) return scopes_.push_back(scope);
  require(number < static_cast<int>(scopes_.size()) && scopes_[static_cast<std::size_t>(number)] == scope,
          "a step that differs from the one before cannot be counted");
  require(!pushed_, "a row's pass within another");
  if (number / counter_->most_ranges() != (done_ - 1) / counter_->passes()) return;
  counter_->push(number);
  pushed_ = true;
}

void CudaCounters::leave() {
  if (std::exchange(pushed_, false)) counter_->pop();
}

void CudaCounters::stop() {
  require(on_ && entered_ == static_cast<int>(scopes_.size()), "a step that differs from the one before cannot be counted");
  on_ = false;
  if (done_++ == 0) return;
  counter_->stop();
  if ((done_ - 1) % counter_->passes() != 0) return;
  std::vector<CountedRange> window = counter_->read();
  std::move(window.begin(), window.end(), std::back_inserter(counted_));
}

std::map<ScopeKey, std::vector<double>> CudaCounters::values() const {
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  struct Sum {
    double value = 0, weight = 0;
  };
  std::map<ScopeKey, std::vector<Sum>> sums;
  for (const CountedRange& range : counted_) {
    const Scope& scope = scopes_.at(static_cast<std::size_t>(range.number));
    std::vector<Sum>& of = sums[{scope.row, scope.pass}];
    of.resize(adds_up_.size());
    for (std::size_t i = 0; i < of.size(); ++i) {
      const double weight = adds_up_[i] ? 1 : range.ns;
      if (!std::isfinite(range.values[i]) || weight <= 0) continue;  // of a range without a kernel
      of[i].value += weight * range.values[i];
      of[i].weight += weight;
    }
  }
  std::map<ScopeKey, std::vector<double>> values;
  for (const auto& [key, of] : sums)
    for (std::size_t i = 0; i < of.size(); ++i)
      values[key].push_back(of[i].weight == 0 ? unknown : adds_up_[i] ? of[i].value : of[i].value / of[i].weight);
  return values;
}

}  // namespace microtome::cuda
