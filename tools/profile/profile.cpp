#include "tools/profile/profile.h"

#include "engine/median.h"
#include "tools/profile/advice.h"

#include <fmt/format.h>

#include <boost/math/distributions/students_t.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace microtome {
namespace {

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

/// Half of the 95% interval of the mean.
double half_interval(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double n = static_cast<double>(values.size()), mean = sum(values) / n;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return boost::math::quantile(boost::math::students_t(n - 1), 0.975) * std::sqrt(squares / (n - 1) / n);
}

bool is_backward(Pass pass) {
  return pass == Pass::backward || pass == Pass::backward_data || pass == Pass::backward_filter ||
         pass == Pass::norm_correction;
}

/// What a call costs at least, by row and pass, and how many calls there are of each in a step.
struct StepCosts {
  std::map<ScopeKey, Cost> costs;
  std::map<ScopeKey, int> calls;

  explicit StepCosts(const Program& program) {
    for (const ScopedCost& call : program.step_costs()) {
      const ScopeKey key{call.scope.row, call.scope.pass};
      costs[key] += call.cost, ++calls[key];
    }
  }
};

/// The passes in the order of the network, with what belongs to no row before and after.
std::vector<ScopeKey> ordered(const std::map<ScopeKey, std::vector<double>>& scopes, const Graph& graph) {
  std::map<std::string_view, int> place;
  for (std::size_t r = 0; r < graph.rows().size(); ++r) place[graph.rows()[r].name] = static_cast<int>(r);
  const auto rank = [&](const ScopeKey& key) {
    const int last = static_cast<int>(graph.rows().size());
    return key.first.empty() ? (key.second == Pass::input ? -1 : last) : place[key.first];
  };
  std::vector<ScopeKey> keys;
  for (const auto& [key, shares] : scopes) keys.push_back(key);
  std::stable_sort(keys.begin(), keys.end(), [&](const ScopeKey& a, const ScopeKey& b) { return rank(a) < rank(b); });
  return keys;
}

void add_layers(Profile& profile, const Measurement& measured, const Model& model, const Program& program) {
  const StepCosts step(program);
  std::map<std::string_view, std::string_view> kinds;
  for (const Row& row : model.graph().rows()) kinds[row.name] = row.kind;
  const std::size_t steps = measured.busy_ns.size();
  for (const ScopeKey& key : ordered(measured.shares_ns, model.graph())) {
    const std::vector<double>& shares = measured.shares_ns.at(key);
    // Of its own step's time each, so that a step that was disturbed as a whole says as much as another.
    std::vector<double> parts;
    for (std::size_t i = 0; i < steps; ++i) {
      const double total = measured.busy_ns[i] + measured.within_ns[i] + measured.ends_ns[i];
      parts.push_back(shares[i] / total * profile.untraced_ns);
    }
    LayerLine line{
        .row = std::string(key.first), .kind = key.first.empty() ? "step" : std::string(kinds[key.first]), .pass = key.second};
    const double half = half_interval(parts);
    line.ns = sum(parts) / static_cast<double>(steps);
    // Times are above 0: where the interval is not, or has no width, the steps are too few to have one.
    if (half > 0 && half < line.ns) line.low_ns = line.ns - half, line.high_ns = line.ns + half;
    line.pieces = measured.pieces.at(key);
    line.samples_ns = shares;
    if (const auto found = step.costs.find(key); found != step.costs.end())
      line.cost = found->second, line.calls = step.calls.at(key);
    const Roofs& roofs = profile.roofs;
    if (roofs.bytes_per_second > 0 && roofs.flop_per_second > 0) {
      const double compute = line.cost.flop / roofs.flop_per_second, memory = line.cost.bytes / roofs.bytes_per_second;
      line.compute_bound = compute > memory;
      line.bound_ns = 1e9 * std::max(compute, memory);
    }
    line.counted.resize(profile.counters.size());
    if (const auto found = measured.counted.find(key); found != measured.counted.end())
      for (std::size_t i = 0; i < line.counted.size(); ++i)
        if (const double value = found->second[i]; std::isfinite(value)) line.counted[i] = profile.counters[i].scale * value;
    profile.layers.push_back(std::move(line));
  }
}

void add_ledger(Profile& profile, const Measurement& measured) {
  const auto add = [&](std::string name, double seconds, std::string note = "") {
    if (seconds > 0) profile.ledger.push_back({std::move(name), seconds, std::move(note)});
  };
  const auto layers = [&](auto&& belongs) {
    double ns = 0;
    for (const LayerLine& line : profile.layers) ns += belongs(line.pass) ? line.ns : 0;
    return profile.seconds(ns);
  };
  const auto share = [&](const std::vector<double>& part) {
    double shares = 0;
    for (std::size_t i = 0; i < part.size(); ++i)
      shares += part[i] / (measured.busy_ns[i] + measured.within_ns[i] + measured.ends_ns[i]);
    return part.empty() ? 0 : shares / static_cast<double>(part.size());
  };
  const double training = profile.seconds(profile.untraced_ns);
  if (profile.layers.empty()) {
    add("training, not traced", training);
  } else {
    add("input", layers([](Pass p) { return p == Pass::input; }), "gathering and augmenting a batch");
    add("forward", layers([](Pass p) { return p == Pass::forward; }));
    add("loss", layers([](Pass p) { return p == Pass::loss; }), "and its gradient");
    add("backward", layers(is_backward));
    add("update", layers([](Pass p) { return p == Pass::update || p == Pass::advance; }), "Adam");
    add("unattributed", training * share(measured.unattributed_ns), "work that bears no scope");
    add("gaps in steps", training * share(measured.within_ns), "the device waits between two pieces of work");
    add("gaps round steps", training * share(measured.ends_ns), "before a step's first piece and after its last");
  }
  const EpochLedger& epoch = measured.epoch;
  const double other = epoch.total - epoch.training - epoch.statistics - epoch.validation - epoch.saving;
  add("statistics", epoch.statistics * profile.epoch.statistics, "of batch-norms, for validation");
  add("validation", epoch.validation * profile.epoch.validation);
  add("saving", epoch.saving, "checkpoint, best weights");
  profile.ledger.push_back({"residual", std::max(other, 0.0), "in none of these"});
  for (const LedgerLine& line : profile.ledger) profile.epoch_seconds += line.seconds;
}

void add_kernels(Profile& profile, const Measurement& measured) {
  const double steps = static_cast<double>(measured.busy_ns.size());
  const double scale = profile.untraced_ns / profile.traced_ns;
  for (const auto& [name, spent] : measured.kernels) {
    KernelLine line{name, spent.share_ns / steps * scale, spent.pieces / steps, spent.launch, {}};
    for (const auto& [row, pass] : spent.scopes)
      line.scopes.push_back(row.empty() ? std::string(microtome::name(pass))
                                        : fmt::format("{} {}", row, microtome::name(pass)));
    profile.kernels.push_back(std::move(line));
  }
  std::sort(profile.kernels.begin(), profile.kernels.end(),
            [](const KernelLine& a, const KernelLine& b) { return a.ns > b.ns; });
}

}  // namespace

Profile make_profile(const Measurement& measured, const Model& model, const Program& program, const Sampling& sampling,
                     const Epoch& epoch, const std::vector<Counter>& counters, Json run) {
  const Device device = model.backend().device();
  Profile p{.run = std::move(run),
            .device = {{"name", device.name},
                       {"description", device.description},
                       {"versions", device.versions},
                       {"memory_bytes", device.memory_bytes}},
            .sampling = sampling,
            .epoch = epoch,
            .roofs = measured.roofs,
            .untraced_ns = median(measured.untraced_ns),
            .traced_ns = median(measured.traced_ns),
            .untraced_samples_ns = measured.untraced_ns,
            .dropped = measured.dropped,
            .unfinished = measured.unfinished,
            .note = measured.note,
            .counters = measured.counted.empty() ? std::vector<Counter>() : counters,
            .plans = program.kernels(),
            .memory = program.memory()};
  for (const Row& row : model.graph().rows()) p.rows.push_back(row.name);
  std::vector<double> named;
  for (std::size_t i = 0; i < measured.busy_ns.size(); ++i) named.push_back(measured.busy_ns[i] - measured.unattributed_ns[i]);
  const double total = sum(measured.busy_ns) + sum(measured.within_ns) + sum(measured.ends_ns);
  p.layers_ns = median(named);
  p.attributed = total > 0 ? sum(named) / total : 0;
  p.overlap = total > 0 ? sum(measured.overlap_ns) / total : 0;
  add_layers(p, measured, model, program);
  add_ledger(p, measured);
  add_kernels(p, measured);
  p.advice = advise(p);
  return p;
}

std::string where(const LayerLine& line) {
  return line.row.empty() ? std::string(name(line.pass)) : fmt::format("{} {}", line.row, name(line.pass));
}

std::vector<LayerLine> by_saving(const Profile& profile) {
  std::vector<LayerLine> lines = profile.layers;
  std::stable_sort(lines.begin(), lines.end(), [](const LayerLine& a, const LayerLine& b) {
    return a.saving_ns() != b.saving_ns() ? a.saving_ns() > b.saving_ns() : a.ns > b.ns;
  });
  return lines;
}

std::vector<LayerLine> by_time(const Profile& profile) {
  std::vector<LayerLine> lines = profile.layers;
  std::stable_sort(lines.begin(), lines.end(), [](const LayerLine& a, const LayerLine& b) { return a.ns > b.ns; });
  return lines;
}

std::vector<KindLine> by_kind(const Profile& profile) {
  std::map<std::string, KindLine> kinds;
  std::map<std::string, std::set<std::string>> rows;
  for (const LayerLine& l : profile.layers) {
    const std::string kind = l.row.empty() ? fmt::format("({})", name(l.pass)) : l.kind;
    KindLine& line = kinds[kind];
    line.kind = kind;
    (is_backward(l.pass) ? line.backward_ns : line.forward_ns) += l.ns;
    line.flop += l.cost.flop, line.bytes += l.cost.bytes, line.bound_ns += l.bound_ns;
    if (!l.row.empty()) rows[kind].insert(l.row);
  }
  std::vector<KindLine> lines;
  for (auto& [kind, line] : kinds) line.rows = static_cast<int>(rows[kind].size()), lines.push_back(line);
  std::sort(lines.begin(), lines.end(), [](const KindLine& a, const KindLine& b) { return a.ns() > b.ns(); });
  return lines;
}

std::vector<std::size_t> memory_over_step(const ProgramMemory& memory) {
  std::vector<std::size_t> use(memory.ops.empty() ? 0 : 2 * memory.ops.size() + 1);
  for (const ProgramMemory::Life& life : memory.lives)
    for (int m = std::max(life.first, 0); m <= life.last && m < static_cast<int>(use.size()); ++m)
      use[static_cast<std::size_t>(m)] += life.bytes;
  return use;
}

}  // namespace microtome
