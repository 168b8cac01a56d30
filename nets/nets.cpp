#include "nets/nets.h"

#include "engine/check.h"
#include "engine/nearest.h"

#include <fmt/ranges.h>

#include <array>
#include <string>
#include <vector>

namespace microtome {
namespace {

constexpr std::array table{
    Network{"b2", "b2", "two convolutions [Bonnet2021]", b2},
    Network{"b6", "b6", "six convolutions [Bonnet2021]", b6},
};

}  // namespace

Graph Network::build(Extent image, Head) const {
  Graph graph;
  try {
    graph.output(base(graph.input(image)));
  } catch (Error& error) {
    throw error.within(fmt::format("network {} at {}x{}", name, image.h, image.w));
  }
  return graph;
}

std::span<const Network> networks() { return table; }

const Network& find_network(std::string_view name) {
  std::vector<std::string> names;
  for (const Network& network : table) {
    if (network.name == name || network.short_name == name) return network;
    names.emplace_back(network.name);
  }
  const std::string near = nearest(name, names);
  fail(ExitCode::usage, fmt::format("there is no network \"{}\"", name),
       {.expected = fmt::format("{}", fmt::join(names, ", ")), .next = near.empty() ? "" : fmt::format("did you mean {}?", near)});
}

}  // namespace microtome
