// From what a CUDA tracer tells, piece by piece and in any order, to what the device did for which row and pass.
#pragma once

#include "engine/profile.h"

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

namespace microtome::cuda {

/// Of a graph; both numbers are the tracer's.
struct GraphNode {
  std::uint64_t id = 0;
  std::uint32_t graph = 0;
  auto operator<=>(const GraphNode&) const = default;
};

/// What the nodes of all graphs are for. A graph is captured once, cloned where it is instantiated, and its clone's nodes are
/// what runs.
class GraphNodes {
 public:
  void created(GraphNode node, const Scope& scope) { origins_[node].scope = scope; }
  /// What a clone is for is what its original is for, whatever was being done when it was made.
  void cloned(GraphNode from, GraphNode to) { origins_[to].original = from; }

  /// Where no such node of the graph is known, all graphs' nodes of that id speak for it, if they agree: a launch may name the
  /// executable graph by a number of its own.
  std::optional<Scope> scope(GraphNode node) const;

 private:
  struct Origin {
    std::optional<Scope> scope;  // in force when the node was created
    std::optional<GraphNode> original;
  };
  std::optional<Scope> scope(const Origin& origin) const;
  const Origin* find(GraphNode node) const;

  std::map<GraphNode, Origin> origins_;
};

/// What a trace collects between its start and its stop.
struct Collected {
  struct Record {
    Activity activity;  // its name as the linker has it; scope and stream are still open
    std::uint32_t stream = 0;
    std::uint32_t correlation = 0;  // of the call that launched it
    GraphNode node;                 // id 0 outside of graphs
  };
  std::vector<Record> records;
  std::unordered_map<std::uint32_t, Scope> launched_for;  // by correlation: what a call was made for
  std::uint64_t dropped = 0;
};

/// Activities by their start. A record without its times is one more that was dropped; one that came twice counts once.
Recorded attribute(const GraphNodes& nodes, Collected&& collected);

}  // namespace microtome::cuda
