#include "tools/study/grid.h"

#include "engine/check.h"
#include "nets/nets.h"
#include "tools/cli/arguments.h"
#include "tools/study/published_results.h"

#include <algorithm>
#include <charconv>
#include <map>

namespace microtome {
namespace {

/// Of two words, one or both.
std::vector<std::string> one_or_both(const std::string& option, const std::string& list, const std::string& one,
                                     const std::string& other) {
  std::vector<std::string> words = words_of(option, list);
  for (const std::string& word : words)
    if (word != one && word != other)
      fail(ExitCode::usage, fmt::format("unknown word in --{}", option),
           {.expected = fmt::format("{}, {}, or both with a comma between", one, other), .found = word});
  return words;
}

std::vector<std::uint64_t> seeds_of(const std::string& list) {
  std::vector<std::uint64_t> seeds;
  for (const std::string& word : words_of("seeds", list)) {
    std::uint64_t seed = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), seed);
    if (error != std::errc() || end != word.data() + word.size())
      fail(ExitCode::usage, "--seeds takes whole numbers, commas between", {.expected = "0 to 2^64 - 1", .found = word});
    seeds.push_back(seed);
  }
  return seeds;
}

std::vector<const Network*> networks_of(const std::string& list) {
  std::vector<const Network*> nets;
  if (list == "all") {
    for (const PaperNetwork& network : paper_networks()) nets.push_back(&find_network(network.net));
    return nets;
  }
  for (const std::string& word : words_of("nets", list)) {
    const Network& network = find_network(word);
    if (std::ranges::find(nets, &network) != nets.end()) fail(ExitCode::usage, "--nets names the same twice", {.found = word});
    nets.push_back(&network);
  }
  return nets;
}

struct DataSet {
  std::string name;
  Extent image;
};

std::vector<DataSet> data_sets(const StudyOptions& options) {
  std::vector<DataSet> sets;
  if (options.pcam) sets.push_back({"pcam", *options.pcam});
  if (options.idc) sets.push_back({"idc", *options.idc});
  return sets;
}

bool holds(const std::vector<std::string>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

/// A base from the other data set is what a published one is to the study: trained on other images, as it likes them.
Cell parent_of(const Cell& cell) {
  return {cell.net, cell.data == "pcam" ? "idc" : "pcam", "full", "native", "none", cell.seed};
}

}  // namespace

Grid make_grid(const StudyOptions& options) {
  const std::vector<const Network*> nets = networks_of(options.nets);
  const std::vector<std::string> modes = one_or_both("modes", options.modes, "full", "transfer");
  const std::vector<std::string> preprocess = one_or_both("preprocess", options.preprocess, "paper", "native");
  const std::vector<std::string> augment = one_or_both("augment", options.augment, "none", "d4");
  const std::vector<std::uint64_t> seeds = seeds_of(options.seeds);
  const std::vector<DataSet> sets = data_sets(options);
  if (sets.empty())
    fail(ExitCode::usage, "a study needs data", {.expected = "--pcam DIR, --idc DIR, or both", .next = "study --help"});
  const bool transfers = holds(modes, "transfer");
  if (options.weights == "none" && transfers)
    fail(ExitCode::usage, "a frozen base at its random start is not worth a cell",
         {.expected = "--modes full with --weights none", .found = "--modes " + options.modes, .next = "--modes full"});
  if (options.weights == "other" && transfers &&
      (sets.size() < 2 || !holds(modes, "full") || !holds(preprocess, "native") || !holds(augment, "none")))
    fail(ExitCode::usage, "--weights other lacks the cells whose bases it transfers",
         {.expected = "--pcam and --idc, --modes full,transfer, native in --preprocess, none in --augment",
          .next = "add what is missing, or --modes full"});

  Grid grid;
  std::map<std::pair<std::string_view, std::string>, bool> fits;
  for (const Network* network : nets)
    for (const DataSet& set : sets) {
      try {
        network->build(set.image);
        fits[{network->name, set.name}] = true;
      } catch (const Error& error) {
        if (error.code() != ExitCode::usage) throw;
        grid.notes.push_back(fmt::format("{} has no cell on {}, whose images are {}x{}: {}; {}", network->name, set.name,
                                         set.image.h, set.image.w, error.what(), error.report().expected));
      }
    }

  for (const std::uint64_t seed : seeds)
    for (const std::string mode : {"full", "transfer"})
      for (const DataSet& set : sets)
        for (const Network* network : nets)
          for (const std::string& pixels : preprocess)
            for (const std::string& views : augment) {
              if (!holds(modes, mode) || !fits.contains({network->name, set.name})) continue;
              if (!network->top && mode == "transfer") continue;
              if (!network->top && pixels != preprocess[0]) continue;  // it has no published base: both are the same
              const Cell cell{std::string(network->name), set.name, mode, pixels, views, seed};
              if (mode == "full" || options.weights != "other") {
                grid.cells.push_back({cell, ""});
              } else if (const Cell parent = parent_of(cell); fits.contains({network->name, parent.data})) {
                grid.cells.push_back({cell, parent.name()});
              } else if (seed == seeds[0] && pixels == preprocess[0] && views == augment[0]) {
                grid.notes.push_back(
                    fmt::format("{} has no transfer to {}: it cannot be trained on {}", network->name, set.name, parent.data));
              }
            }
  if (grid.cells.empty())
    fail(ExitCode::usage, "the study has no cell",
         {.expected = "a network that the images are large enough for, and that has a base where it is to be frozen",
          .found = fmt::format("--nets {} --modes {}", options.nets, options.modes)});
  return grid;
}

std::vector<int> deal(const StudyOptions& options, const std::vector<PlannedCell>& cells, int shards) {
  std::map<std::pair<std::string, std::string>, double> macs;
  for (const DataSet& set : data_sets(options))
    for (const PlannedCell& planned : cells)
      if (planned.cell.data == set.name)
        if (auto& cost = macs[{planned.cell.net, set.name}]; cost == 0)
          cost = static_cast<double>(find_network(planned.cell.net).build(set.image).macs());

  std::map<std::string, double> costs;  // of a parent with its children, or of a cell alone
  const auto root = [](const PlannedCell& planned) { return planned.parent.empty() ? planned.cell.name() : planned.parent; };
  for (const PlannedCell& planned : cells) {
    constexpr double passes_of_training = 3;
    costs[root(planned)] +=
        macs[{planned.cell.net, planned.cell.data}] * (planned.cell.mode == "full" ? passes_of_training : 1);
  }
  std::vector<std::pair<std::string, double>> largest_first(costs.begin(), costs.end());
  std::ranges::stable_sort(largest_first, std::greater(), &std::pair<std::string, double>::second);
  std::vector<double> load(std::min(static_cast<std::size_t>(shards), costs.size()));  // the rest have nothing to do
  std::map<std::string, int> shard;
  for (const auto& [name, cost] : largest_first) {
    const auto least = std::ranges::min_element(load);
    *least += cost;
    shard[name] = static_cast<int>(least - load.begin()) + 1;
  }
  std::vector<int> dealt;
  for (const PlannedCell& planned : cells) dealt.push_back(shard[root(planned)]);
  return dealt;
}

}  // namespace microtome
