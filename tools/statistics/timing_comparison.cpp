#include "tools/statistics/timing_comparison.h"

#include "engine/check.h"
#include "engine/median.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <utility>

namespace microtome {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double false_alarms = 0.05;  // at most so large a share of the cases that are called changed
constexpr int few_cases = 20;          // of fewer than these a 95% quantile is the largest
constexpr int few_pairs = 10'000;      // up to these ranks are counted, beyond them normal

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return std::lerp(values[below], values[above], place - static_cast<double>(below));
}

/// log(after / before) of every pair of repetitions, ascending.
std::vector<double> differences(const std::vector<double>& before, const std::vector<double>& after) {
  std::vector<double> all;
  all.reserve(before.size() * after.size());
  for (const double b : before) {
    for (const double a : after) all.push_back(std::log(a / b));
  }
  std::sort(all.begin(), all.end());
  return all;
}

double interquartile_range(std::vector<double> seconds) {
  for (double& s : seconds) s = std::log(s);
  return quantile(seconds, 0.75) - quantile(seconds, 0.25);
}

/// P(U <= u) for u = 0, 1, …: in how many pairs the one of n is above the one of m where both are of one distribution. Counted
/// by the Gaussian binomial, the product of (1 - q^(m+i)) / (1 - q^i) for i = 1 … n.
std::vector<double> rank_distribution(std::size_t n, std::size_t m) {
  const std::size_t pairs = n * m;
  std::vector<double> cumulative(pairs + 1, 0.0);
  if (pairs > few_pairs) {
    const double mean = 0.5 * static_cast<double>(pairs), deviation = std::sqrt(mean * static_cast<double>(n + m + 1) / 6);
    for (std::size_t u = 0; u <= pairs; ++u) {
      cumulative[u] = 0.5 * std::erfc((mean - static_cast<double>(u) - 0.5) / deviation / std::sqrt(2.0));
    }
    return cumulative;
  }
  cumulative[0] = 1;
  for (std::size_t i = 1; i <= n; ++i) {
    for (std::size_t u = pairs; u >= m + i && u <= pairs; --u) cumulative[u] -= cumulative[u - m - i];
    for (std::size_t u = i; u <= pairs; ++u) cumulative[u] += cumulative[u - i];
  }
  std::partial_sum(cumulative.begin(), cumulative.end(), cumulative.begin());
  for (double& p : cumulative) p /= cumulative.back();
  return cumulative;
}

class RankDistributions {
 public:
  const std::vector<double>& of(std::size_t n, std::size_t m) {
    const auto [found, fresh] = known_.try_emplace({n, m});
    if (fresh) found->second = rank_distribution(n, m);
    return found->second;
  }

 private:
  std::map<std::pair<std::size_t, std::size_t>, std::vector<double>> known_;
};

/// What the repetitions of both sides say by themselves.
struct Sampled {
  std::vector<double> differences;
  double shift = 0, low = 0, high = 0;  // logs of the ratio and of its interval
};

Sampled sample(const Timings& before, const Timings& after, RankDistributions& distributions) {
  Sampled s{.differences = differences(before.seconds, after.seconds)};
  const std::vector<double>& d = s.differences;
  const std::vector<double>& below = distributions.of(before.seconds.size(), after.seconds.size());
  const auto outside = static_cast<std::size_t>(std::upper_bound(below.begin(), below.end(), false_alarms / 2) - below.begin());
  s.shift = median(d);
  s.low = outside > 0 ? d[outside - 1] : -infinity;
  s.high = outside > 0 ? d[d.size() - outside] : infinity;
  return s;
}

/// The probability that chance alone takes the repetitions so far beyond the floor. Those just at it do not count.
double chance(const Sampled& s, double floor, const std::vector<double>& below) {
  const std::vector<double>& d = s.differences;
  const auto slower = static_cast<std::size_t>(d.end() - std::upper_bound(d.begin(), d.end(), floor));
  const auto faster = static_cast<std::size_t>(std::lower_bound(d.begin(), d.end(), -floor) - d.begin());
  return std::min(1.0, 2 * below[d.size() - std::max(slower, faster)]);
}

/// The largest chance that still counts, such that of all that do at most `false_alarms` are expected to be accidents.
double threshold(std::vector<double> chances) {
  std::sort(chances.begin(), chances.end());
  for (std::size_t i = chances.size(); i > 0; --i) {
    const double limit = false_alarms * static_cast<double>(i) / static_cast<double>(chances.size());
    if (chances[i - 1] <= limit) return limit;
  }
  return 0;
}

Change change_of(const Sampled& s, double floor, bool by_chance, double relevant) {
  if (std::abs(s.shift) > floor && !by_chance) return s.shift > 0 ? Change::slower : Change::faster;
  const bool excluded = std::max(-s.low, s.high) < std::log1p(relevant);
  return excluded ? Change::unchanged : Change::ambiguous;
}

using ByKey = std::map<std::string_view, const Timings*>;

ByKey by_key(std::span<const Timings> all) {
  ByKey found;
  for (const Timings& timings : all) {
    require(!timings.seconds.empty() && *std::min_element(timings.seconds.begin(), timings.seconds.end()) > 0,
            "comparison: repetitions of ", timings.key, " must take time");
    require(found.emplace(timings.key, &timings).second, "comparison: ", timings.key, " stands there twice");
  }
  return found;
}

}  // namespace

std::string_view name_of(Change change) {
  switch (change) {
    case Change::unchanged: return "SAME";
    case Change::faster: return "FASTER";
    case Change::slower: return "SLOWER";
    case Change::ambiguous: return "AMBIGUOUS";
    case Change::appeared: return "NEW";
    case Change::gone: return "GONE";
  }
  return "";
}

NoiseFloor::NoiseFloor(std::span<const Timings> one, std::span<const Timings> other) {
  const ByKey others = by_key(other);
  RankDistributions distributions;
  std::vector<double> pool;
  for (const auto& [key, timings] : by_key(one)) {
    const auto found = others.find(key);
    if (found == others.end()) continue;
    const Sampled s = sample(*timings, *found->second, distributions);
    const double explained = (s.high - s.low) / 2;
    pool.push_back(std::sqrt(std::max(0.0, s.shift * s.shift - explained * explained)));
    drifts_.emplace(key, pool.back());
  }
  quantile_ = quantile(pool, pool.size() < few_cases ? 1.0 : 0.95);
}

double NoiseFloor::of(const Timings& before, const Timings& after) const {
  const auto own = drifts_.find(after.key);
  const double from_runs = 2 * std::max(quantile_, own == drifts_.end() ? 0.0 : own->second);
  if (drifts_.size() >= few_cases) return from_runs;
  return std::max({from_runs, interquartile_range(before.seconds), interquartile_range(after.seconds)});
}

double NoiseFloor::pooled() const {
  return std::expm1(2 * quantile_);
}

std::vector<Comparison> compare(std::span<const Timings> before, std::span<const Timings> after, const NoiseFloor& floor,
                                double relevant) {
  RankDistributions distributions;
  const ByKey earlier = by_key(before), later = by_key(after);
  std::vector<Comparison> result;
  std::vector<Sampled> sampled;
  std::vector<double> chances;
  for (const auto& [key, a] : later) {
    const auto found = earlier.find(key);
    if (found == earlier.end()) continue;
    const Timings& b = *found->second;
    const Sampled& s = sampled.emplace_back(sample(b, *a, distributions));
    const double noise = floor.of(b, *a), seconds = median(b.seconds), ratio = std::exp(s.shift);
    chances.push_back(chance(s, noise, distributions.of(b.seconds.size(), a->seconds.size())));
    result.push_back({.key = a->key,
                      .before = seconds,
                      .after = median(a->seconds),
                      .ratio = ratio,
                      .low = std::exp(s.low),
                      .high = std::exp(s.high),
                      .floor = std::expm1(noise),
                      .epoch_seconds = seconds * (ratio - 1) * a->calls});
  }
  const double limit = threshold(chances);
  for (std::size_t i = 0; i < sampled.size(); ++i) {
    result[i].change = change_of(sampled[i], std::log1p(result[i].floor), chances[i] > limit, relevant);
  }
  std::stable_sort(result.begin(), result.end(), [](const Comparison& x, const Comparison& y) {
    return std::pair(std::abs(x.epoch_seconds), std::abs(std::log(x.ratio))) >
           std::pair(std::abs(y.epoch_seconds), std::abs(std::log(y.ratio)));
  });
  for (const auto& [key, a] : later) {
    if (!earlier.contains(key)) result.push_back({.key = a->key, .change = Change::appeared, .after = median(a->seconds)});
  }
  for (const auto& [key, b] : earlier) {
    if (!later.contains(key)) result.push_back({.key = b->key, .change = Change::gone, .before = median(b->seconds)});
  }
  return result;
}

int repetitions_needed(int cases) {
  int n = 1;
  while (2 * rank_distribution(static_cast<std::size_t>(n), static_cast<std::size_t>(n)).front() > false_alarms / cases) ++n;
  return n;
}

std::string Gate::text() const {
  std::string text = fmt::format("gate {:.4g}%: ", 100 * share);
  text += passed() ? "passed" : fmt::format("failed by {}", failed_by.size());
  if (!undecided.empty()) text += fmt::format("; {} AMBIGUOUS may be slower by more", undecided.size());
  return text;
}

Gate gate_of(std::span<const Comparison> comparisons, double share) {
  constexpr double rounding = 1e-9;  // so that what is slower by just the share counts
  Gate gate{.share = share};
  for (const Comparison& c : comparisons) {
    if (c.high * (1 + c.floor) < (1 + share) * (1 - rounding)) continue;
    if (c.change == Change::slower) gate.failed_by.push_back(c.key);
    if (c.change == Change::ambiguous) gate.undecided.push_back(c.key);
  }
  return gate;
}

void require_enough_for_a_gate(std::size_t repetitions, const std::string& where, const std::string& next) {
  const int needed = repetitions_needed(1);
  if (repetitions < static_cast<std::size_t>(needed))
    fail(ExitCode::data, "too few repetitions for a gate: none of them could fail it",
         {.where = where,
          .expected = fmt::format("{} or more of each case", needed),
          .found = fmt::format("{}", repetitions),
          .next = next});
}

double share_of(const std::string& text) {
  double percent = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, percent);
  if (error != std::errc() || rest + 1 != end || *rest != '%' || !std::isfinite(percent) || percent < 0)
    fail(ExitCode::usage, "--gate takes a percentage", {.expected = "0% or more, as in --gate 5%", .found = text});
  return percent / 100;
}

}  // namespace microtome
