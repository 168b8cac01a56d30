#include "engine/streams.h"

#include <algorithm>

namespace microtome {

std::vector<int> assign_streams(std::span<const PlannedOp> ops, int streams) {
  std::vector<int> result(ops.size(), 0), last_in(static_cast<std::size_t>(streams), -1);
  std::vector<std::vector<int>> makers;  // of a value: the ops that write it
  for (int i = 0; i < static_cast<int>(ops.size()); ++i) {
    const PlannedOp& op = ops[i];
    std::vector<int> producers;
    for (const int input : op.inputs) producers.insert(producers.end(), makers[input].begin(), makers[input].end());
    std::sort(producers.rbegin(), producers.rend());
    makers.resize(std::max(makers.size(), static_cast<std::size_t>(op.output) + 1));
    if (is_free(op)) {
      makers[op.output] = std::move(producers);
      continue;
    }
    makers[op.output] = {i};
    const auto is_last = [&](int p) { return last_in[result[p]] == p; };
    const auto before = std::find_if(producers.begin(), producers.end(), is_last);
    result[i] = before != producers.end()
                    ? result[*before]
                    : static_cast<int>(std::min_element(last_in.begin(), last_in.end()) - last_in.begin());
    last_in[result[i]] = i;
  }
  return result;
}

std::vector<std::vector<int>> waits(std::span<const Task> tasks, int streams) {
  using Progress = std::vector<int>;  // of each stream: the last task known to be done
  std::vector<Progress> known(static_cast<std::size_t>(streams), Progress(static_cast<std::size_t>(streams), -1)), after;
  std::vector<std::vector<int>> result(tasks.size());
  for (int t = 0; t < static_cast<int>(tasks.size()); ++t) {
    const Task& task = tasks[t];
    Progress& progress = known[task.stream];
    for (int earlier = t - 1; earlier >= 0; --earlier) {
      const Task& other = tasks[earlier];
      if (other.stream == task.stream || progress[other.stream] >= earlier) continue;
      const bool conflict = std::any_of(task.accesses.begin(), task.accesses.end(), [&](const Access& a) {
        return std::any_of(other.accesses.begin(), other.accesses.end(), [&](const Access& b) { return a.conflicts(b); });
      });
      if (!conflict) continue;
      result[t].push_back(earlier);
      for (int stream = 0; stream < streams; ++stream) progress[stream] = std::max(progress[stream], after[earlier][stream]);
    }
    progress[task.stream] = t;
    after.push_back(progress);
  }
  return result;
}

}  // namespace microtome
