#include "kernels/cuda/profiling/attribution.h"

#include <fmt/format.h>

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

namespace microtome::cuda {

namespace {

std::string demangled(const std::string& name) {
  if (!name.starts_with("_Z")) return name;  // a C function's, which would be read as a type's
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> readable(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status),
                                                             std::free);
  return readable ? readable.get() : name;
}

/// Of two records equal in all of these, the second came twice: a stream does one thing at a time.
auto identity(const Collected::Record& r) {
  return std::tuple(r.activity.start_ns, r.activity.end_ns, r.stream, r.correlation, r.node, r.activity.kind,
                    std::string_view(r.activity.name));
}

}  // namespace

const GraphNodes::Origin* GraphNodes::find(GraphNode node) const {
  const auto found = origins_.find(node);
  return found == origins_.end() ? nullptr : &found->second;
}

std::optional<Scope> GraphNodes::scope(const Origin& origin) const {
  const Origin* first = &origin;
  // A chain of clones is no longer than all that is known; a circle would be.
  for (std::size_t hops = 0; first->original && hops < origins_.size(); ++hops) {
    const Origin* original = find(*first->original);
    if (original == nullptr) break;
    first = original;
  }
  return first->scope;
}

std::optional<Scope> GraphNodes::scope(GraphNode node) const {
  if (const Origin* origin = find(node)) return scope(*origin);
  std::optional<Scope> agreed;
  for (auto at = origins_.lower_bound({.id = node.id}); at != origins_.end() && at->first.id == node.id; ++at) {
    const std::optional<Scope> one = scope(at->second);
    if (!one || (agreed && *agreed != *one)) return {};
    agreed = one;
  }
  return agreed;
}

Recorded attribute(const GraphNodes& nodes, Collected&& collected) {
  std::vector<Collected::Record>& records = collected.records;
  const std::size_t untimed =
      std::erase_if(records, [](const auto& r) { return r.activity.start_ns == 0 || r.activity.end_ns == 0; });
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return identity(a) < identity(b); });
  const auto twice = [](const auto& a, const auto& b) { return identity(a) == identity(b); };
  records.erase(std::unique(records.begin(), records.end(), twice), records.end());

  Recorded recorded{.dropped = collected.dropped + untimed};
  if (untimed > 0) recorded.note = fmt::format("{} record{} came without times", untimed, untimed == 1 ? "" : "s");
  std::unordered_map<std::string, std::string> names;
  std::unordered_map<std::uint32_t, int> streams;
  recorded.activities.reserve(records.size());
  for (Collected::Record& r : records) {
    Activity& activity = recorded.activities.emplace_back(std::move(r.activity));
    const auto [name, unseen] = names.try_emplace(activity.name);
    if (unseen) name->second = demangled(activity.name);
    activity.name = name->second;
    activity.stream = streams.try_emplace(r.stream, static_cast<int>(streams.size())).first->second;
    std::optional<Scope> scope;
    if (r.node.id != 0) scope = nodes.scope(r.node);
    if (!scope) {
      if (const auto launch = collected.launched_for.find(r.correlation); launch != collected.launched_for.end())
        scope = launch->second;
    }
    activity.attributed = scope.has_value();
    activity.scope = scope.value_or(Scope{});
  }
  return recorded;
}

}  // namespace microtome::cuda
