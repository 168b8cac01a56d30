#include "engine/ledger.h"

#include <algorithm>
#include <cstdint>

namespace microtome {
namespace {

struct Edge {
  std::int64_t at;
  bool begins;
  std::size_t activity;
};

std::string_view label(const Activity& activity) {
  if (!activity.name.empty()) return activity.name;
  return activity.kind == Activity::Kind::copy ? "(copy)" : "(fill)";
}

}  // namespace

Ledger ledger(const Recorded& recorded) {
  Ledger result{.total_ns = static_cast<double>(recorded.end_ns - recorded.start_ns)};
  const std::vector<Activity>& activities = recorded.activities;
  std::vector<Edge> edges;
  for (std::size_t i = 0; i < activities.size(); ++i) {
    const Activity& a = activities[i];
    if (a.end_ns < a.start_ns) {
      ++result.unfinished;
      continue;
    }
    edges.push_back({std::clamp(a.start_ns, recorded.start_ns, recorded.end_ns), true, i});
    edges.push_back({std::clamp(a.end_ns, recorded.start_ns, recorded.end_ns), false, i});
  }
  // At one moment beginnings go first, so that a piece of no length begins before it ends.
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) {
    return a.at != b.at ? a.at < b.at : a.begins != b.begins ? a.begins : a.activity < b.activity;
  });

  std::vector<double> shares(activities.size()), sums(activities.size());
  std::vector<std::size_t> running;
  std::int64_t now = recorded.start_ns;
  for (const Edge& edge : edges) {
    const double passed = static_cast<double>(edge.at - now), among = static_cast<double>(running.size());
    if (running.empty()) {
      (edge.activity == edges.front().activity && edge.begins ? result.ends_ns : result.within_ns) += passed;
    } else {
      result.busy_ns += passed;
      result.overlap_ns += (among - 1) * passed;
    }
    for (const std::size_t i : running) shares[i] += passed / among, sums[i] += passed;
    now = edge.at;
    if (edge.begins)
      running.push_back(edge.activity);
    else
      running.erase(std::find(running.begin(), running.end(), edge.activity));
  }
  result.ends_ns += static_cast<double>(recorded.end_ns - now);

  for (std::size_t i = 0; i < activities.size(); ++i) {
    const Activity& a = activities[i];
    const auto add = [&](Spent& spent) { spent.sum_ns += sums[i], spent.share_ns += shares[i], ++spent.pieces; };
    if (a.attributed)
      add(result.scopes[{a.scope.row, a.scope.pass}]);
    else
      result.unattributed_ns += shares[i];
    if (a.kind == Activity::Kind::op) continue;
    KernelSpent& kernel = result.kernels[std::string(label(a))];
    add(kernel);
    kernel.launch = a.launch;
    if (a.attributed) kernel.scopes.emplace(a.scope.row, a.scope.pass);
  }
  return result;
}

std::vector<Recorded> split_steps(Recorded recorded) {
  std::stable_sort(recorded.activities.begin(), recorded.activities.end(),
                   [](const Activity& a, const Activity& b) { return a.start_ns < b.start_ns; });
  std::vector<Recorded> steps(1);
  steps[0] = {.start_ns = recorded.start_ns, .dropped = recorded.dropped, .note = std::move(recorded.note)};
  bool advanced = false;
  for (Activity& a : recorded.activities) {
    if (advanced && a.attributed && a.scope.pass == Pass::input) {
      steps.back().end_ns = a.start_ns;
      steps.push_back({.start_ns = a.start_ns});
      advanced = false;
    }
    advanced = advanced || (a.attributed && a.scope.pass == Pass::advance);
    steps.back().activities.push_back(std::move(a));
  }
  steps.back().end_ns = recorded.end_ns;
  return steps;
}

}  // namespace microtome
