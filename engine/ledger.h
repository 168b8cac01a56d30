// Where recorded time went, by row and pass and by kernel; pure arithmetic, the same for every device.
#pragma once

#include "engine/profile.h"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

struct Spent {
  double sum_ns = 0;    // of the pieces of work, however many ran side by side
  double share_ns = 0;  // of the busy time: while n pieces run, each has an n-th
  int pieces = 0;
};

struct KernelSpent : Spent {
  Activity::Launch launch;  // the last one
  std::set<ScopeKey> scopes;
};

/// Of a stretch of time. busy + within + ends == total, and the shares of all scopes + unattributed == busy.
struct Ledger {
  double total_ns = 0;
  double busy_ns = 0;          // some piece of work runs
  double overlap_ns = 0;       // what the sum of the pieces is above that
  double within_ns = 0;        // none runs, between the first and the last
  double ends_ns = 0;          // before the first and after the last
  double unattributed_ns = 0;  // share of what nobody knows the scope of
  int unfinished = 0;          // pieces without an end, or that end before they begin: counted, not timed
  std::map<ScopeKey, Spent> scopes;
  std::map<std::string, KernelSpent> kernels;  // kernels, copies and fills, by name
};

/// Activities in any order; what lies outside of the recording is cut off.
Ledger ledger(const Recorded& recorded);

/// A recording's steps, one after another without a gap between: each begins with the input that follows an advance.
/// Activities come out in the order of their starts. `dropped` and `note` go to the first.
std::vector<Recorded> split_steps(Recorded recorded);

}  // namespace microtome
