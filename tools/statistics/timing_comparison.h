// Whether the same work takes the same time before and after a change: the median ratio of all pairs of repetitions
// [Hodges1963], its interval from their ranks [Mann1947], a noise floor from runs of unchanged code, and a limit to the share
// of false alarms over all cases [Benjamini1995]. Nothing is assumed of how times are distributed.
#pragma once

#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// Repetitions of one piece of work.
struct Timings {
  std::string key;
  std::vector<double> seconds;  // of a call
  double calls = 0;             // an epoch; 0 where nobody knows
};

/// slower, faster: beyond the noise floor, and not by chance. unchanged: neither, and a change that matters is excluded.
/// ambiguous: the repetitions leave open whether there is one. appeared, gone: on one side alone.
enum class Change { unchanged, faster, slower, ambiguous, appeared, gone };

std::string_view name_of(Change change);  // "SAME"

struct Comparison {
  std::string key;
  Change change = Change::unchanged;
  double before = 0, after = 0;                                    // median seconds of a call; 0 where there is none
  double ratio = 1;                                                // of after to before
  double low = 0, high = std::numeric_limits<double>::infinity();  // the ratio's interval, of 95%
  double floor = 0;                                                // ratios between 1 / (1 + floor) and 1 + floor are noise
  double epoch_seconds = 0;                                        // more than before
};

/// How far unchanged code's times drift from run to run, beyond what the scatter of the repetitions explains. A pair of runs
/// shows one drift of a case, which says little of that case's next one: so the floor is twice the 95% quantile of all cases'
/// drifts, and for a case that drifted by more, twice its own. From less than 20 cases the largest is taken, and never less
/// than the interquartile range of the case's repetitions; which alone is the floor where there is no such pair of runs.
class NoiseFloor {
 public:
  NoiseFloor() = default;
  NoiseFloor(std::span<const Timings> one, std::span<const Timings> other);

  /// Of a case, as a logarithm of a ratio.
  double of(const Timings& before, const Timings& after) const;
  /// The share of all cases; 0 without runs.
  double pooled() const;
  int cases() const { return static_cast<int>(drifts_.size()); }

 private:
  std::map<std::string, double, std::less<>> drifts_;  // logarithms
  double quantile_ = 0;
};

/// Cases are matched by key and come back by the size of their effect in an epoch, then of their ratio; those of one side last.
/// `relevant`: the change that matters.
std::vector<Comparison> compare(std::span<const Timings> before, std::span<const Timings> after, const NoiseFloor& floor = {},
                                double relevant = 0.05);

/// The least number of repetitions on both sides that can show one changed case among so many.
int repetitions_needed(int cases);

/// Whether anything takes longer by a share, as far as its interval and the noise floor go: half of all that are slower by just
/// that share have a median below it.
struct Gate {
  double share = 0;
  std::vector<std::string> failed_by;  // keys: slower, and it is not excluded that by the share or more
  std::vector<std::string> undecided;  // ambiguous, likewise

  bool passed() const { return failed_by.empty(); }
  std::string text() const;  // "gate 5%: failed by 1"
};

Gate gate_of(std::span<const Comparison> comparisons, double share);

/// Error(ExitCode::data) where a gate could not fail, whatever became slower; `where` is the file, `next` gets more.
void require_enough_for_a_gate(std::size_t repetitions, const std::string& where, const std::string& next);

/// 0.05 of "5%", as --gate has it; else Error(ExitCode::usage).
double share_of(const std::string& text);

}  // namespace microtome
