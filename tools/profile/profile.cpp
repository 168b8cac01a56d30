#include "tools/profile/profile.h"

#include "engine/median.h"
#include "tools/cli/terminal.h"

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
  return pass == Pass::backward || pass == Pass::backward_data || pass == Pass::backward_filter || pass == Pass::settle;
}

/// What a call costs at least, by row and pass, and how many calls there are of each in a step.
struct StepCosts {
  std::map<ScopeKey, Cost> costs;
  std::map<ScopeKey, int> calls;

  StepCosts(const Model& model, const Program& program) {
    const Backend& backend = model.backend();
    const DType parameters = backend.parameter_type(), activations = backend.activation_type();
    const bool from_pixels = program.input().shape.h > 1;
    add({"", Pass::input}, cost(Gather{}, from_pixels ? DType::u8 : activations, program.input(), parameters));
    for (const ScopedCost& call : program.costs()) add({call.scope.row, call.scope.pass}, call.cost);
    add({"", Pass::update}, cost(Adam{}, model.graph().parameter_count(true), parameters, activations));
  }

 private:
  void add(const ScopeKey& key, const Cost& of) { costs[key] += of, ++calls[key]; }
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
  const StepCosts step(model, program);
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
    line.low_ns = line.ns - half, line.high_ns = line.ns + half;
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

void add_advice(Profile& profile) {
  const auto seconds_of = [&](std::string_view name) {
    for (const LedgerLine& line : profile.ledger)
      if (line.name == name) return line.seconds;
    return 0.0;
  };
  const auto advise = [&](double seconds, std::string what, std::string evidence, std::string next = "") {
    if (seconds >= 0.01 * profile.epoch_seconds)
      profile.advice.push_back({seconds, std::move(what), std::move(evidence), std::move(next)});
  };
  std::vector<LayerLine> lines = by_saving(profile);
  lines.resize(std::min<std::size_t>(lines.size(), 3));
  for (const LayerLine& line : lines)
    advise(profile.seconds(line.saving_ns()),
           fmt::format("{} is far from its {} roof", where(line), line.compute_bound ? "product" : "copy"),
           fmt::format("{:.2f} ms a step where {:.2f} would do at the measured roof: {:.0f}% of it", line.ns * 1e-6,
                       line.bound_ns * 1e-6, 100 * line.of_bound()),
           line.row.empty() ? "" : fmt::format("--explain {0}, on a GPU --print-ncu {0}", line.row));
  for (const KindLine& kind : by_kind(profile))
    if (kind.bound_ns > 0 && kind.rows > 3)
      advise(profile.seconds(kind.ns() - kind.bound_ns), fmt::format("all {} rows of {}", kind.rows, kind.kind),
             fmt::format("{:.1f} ms a step, {:.0f}% of the roofs", kind.ns() * 1e-6, 100 * kind.bound_ns / kind.ns()));
  double small = 0, small_count = 0, spilled = 0, spilling = 0;
  for (const KernelLine& kernel : profile.kernels) {
    if (kernel.ns < 10'000 * kernel.pieces) small += kernel.ns, small_count += kernel.pieces;
    if (kernel.launch.local_bytes > 0) spilled += kernel.ns, ++spilling;
  }
  advise(profile.seconds(small), fmt::format("{:.0f} kernels a step take less than 10 us each", small_count),
         "they cost more to start than to run: fuse them");
  advise(profile.seconds(spilled), fmt::format("{:.0f} kernels spill registers or index arrays", spilling),
         "local memory in KERNELS");
  advise(seconds_of("gaps in steps"), "the device waits within steps", "gaps between pieces of work",
         "--graph step, if it was off");
  advise(seconds_of("gaps round steps"), "the device waits between steps", "gaps before the first piece and after the last");
  if (seconds_of("statistics") > 0.05 * profile.epoch_seconds)
    advise(seconds_of("statistics"), "batch-norms' population statistics", "up to 128 forward passes after each epoch",
           "--statistics moving, where an epoch has steps enough");
  advise(seconds_of("saving"), "saving holds up training", "the ledger's row", "--checkpoint-every, a faster disk");
  std::sort(profile.advice.begin(), profile.advice.end(),
            [](const Advice& a, const Advice& b) { return a.seconds > b.seconds; });
}

// ---------------------------------------------------------------------------------------------------------------- text

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f}", 100 * part / whole) : "";
}

/// Blank, not zero, where nothing is known.
std::string known(double value, int digits) {
  return value > 0 ? fmt::format("{:.{}f}", value, digits) : "";
}

std::string header_text(const Profile& p) {
  const auto said = [](const Json& json, const char* key) { return json.value(key, std::string()); };
  std::string text =
      fmt::format("profile  {} on {}, {}x{}, batch {}, {}, {}, seed {}\n", said(p.run, "net"), said(p.run, "data_name"),
                  p.run["image"][0].get<int>(), p.run["image"][1].get<int>(), p.run["batch_size"].get<int>(),
                  said(p.run, "precision"), said(p.run, "mode"), p.run["seed"].get<std::uint64_t>());
  text += fmt::format("device   {}, {} ({}), commit {}\n", said(p.device, "name"), said(p.device, "description"),
                      said(p.device, "versions"), said(p.run, "commit"));
  text += fmt::format(
      "sampled  {} traced and {} untraced steps by turns, after {} to warm up; an epoch has {:.1f} of them; dropped records "
      "{}\n",
      p.sampling.steps, p.sampling.steps, p.sampling.warm_up, p.epoch.steps, p.dropped);
  text += fmt::format("step     {:.3f} ms untraced, {:.3f} ms traced ({:+.1f}%; tables are scaled to untraced)\n",
                      p.untraced_ns * 1e-6, p.traced_ns * 1e-6, 100 * (p.traced_ns / p.untraced_ns - 1));
  if (!p.layers.empty())
    text +=
        fmt::format("named    {:.2f}% of the step by row and pass; their sum as traced is {:+.1f}% beside the untraced step\n",
                    100 * p.attributed, 100 * (p.layers_ns / p.untraced_ns - 1));
  if (p.roofs.flop_per_second > 0)
    text += fmt::format("roofs    {:.0f} GFLOP/s in a large product, {:.1f} GB/s in a large copy, measured here\n",
                        p.roofs.flop_per_second * 1e-9, p.roofs.bytes_per_second * 1e-9);
  if (!p.note.empty()) text += fmt::format("note     {}\n", p.note);
  return text;
}

std::string ledger_text(const Profile& p) {
  std::string text = fmt::format("\n{:<18}{:>12}{:>8}{:>14}\n", "EPOCH LEDGER", "seconds", "%", "us an image");
  const auto line = [&](std::string_view name, double seconds, std::string_view note) {
    return fmt::format("{:<18}{:>12.3f}{:>8}{:>14.1f}{}{}\n", name, seconds, percent(seconds, p.epoch_seconds),
                       seconds / p.epoch.images * 1e6, note.empty() ? "" : "   ", note);
  };
  for (const LedgerLine& l : p.ledger) text += line(l.name, l.seconds, l.note);
  return text + line("total", p.epoch_seconds, fmt::format("{:.0f} images/s", p.epoch.images / p.epoch_seconds));
}

std::string kinds_text(const Profile& p) {
  std::string text = fmt::format("\n{:<26}{:>6}{:>11}{:>11}{:>11}{:>8}{:>11}{:>9}{:>9}\n", "KINDS OF ROWS", "rows",
                                 "forward ms", "backw. ms", "s an epoch", "%", "GFLOP (A)", "MB (A)", "of roof");
  for (const KindLine& k : by_kind(p))
    text += fmt::format("{:<26}{:>6}{:>11.3f}{:>11}{:>11.3f}{:>8}{:>11}{:>9}{:>9}\n", k.kind,
                        k.rows > 0 ? fmt::format("{}", k.rows) : "", k.forward_ns * 1e-6, known(k.backward_ns * 1e-6, 3),
                        p.seconds(k.ns()), percent(p.seconds(k.ns()), p.epoch_seconds), known(k.flop * 1e-9, 2),
                        known(k.bytes * 1e-6, 1), k.bound_ns > 0 ? fmt::format("{:.0f}%", 100 * k.bound_ns / k.ns()) : "");
  return text;
}

/// A line a row, its passes side by side.
std::string rows_text(const Profile& p) {
  struct Line {
    std::string row;
    double forward = 0, data = 0, filter = 0, other = 0;

    double ns() const { return forward + data + filter + other; }
  };
  std::vector<Line> lines;
  std::size_t width = 3;
  for (const LayerLine& l : p.layers) {
    const std::string row = l.row.empty() ? fmt::format("({})", name(l.pass)) : l.row;
    if (lines.empty() || lines.back().row != row) lines.push_back({row});
    Line& line = lines.back();
    (l.pass == Pass::forward           ? line.forward
     : l.pass == Pass::backward_data   ? line.data
     : l.pass == Pass::backward_filter ? line.filter
                                       : line.other) += l.ns;
    width = std::max(width, row.size());
  }
  std::string text =
      fmt::format("\nROWS, milliseconds of a step (M), in the network's order\n{:<{}}{:>10}{:>11}{:>13}{:>10}{:>11}{:>8}\n",
                  "row", width, "forward", "data grad.", "filter grad.", "other", "s an epoch", "%");
  const auto ms = [](double ns) { return known(ns * 1e-6, 3); };
  double named = 0;
  for (const Line& l : lines) {
    text += fmt::format("{:<{}}{:>10}{:>11}{:>13}{:>10}{:>11.3f}{:>8}\n", l.row, width, ms(l.forward), ms(l.data), ms(l.filter),
                        ms(l.other), p.seconds(l.ns()), percent(p.seconds(l.ns()), p.epoch_seconds));
    named += p.seconds(l.ns());
  }
  const double rest = p.epoch_seconds - named;
  return text + fmt::format("{:<{}}{:>10}{:>11}{:>13}{:>10}{:>11.3f}{:>8}\n", "(all else)", width, "", "", "", "", rest,
                            percent(rest, p.epoch_seconds));
}

std::string layer_heading(std::size_t width) {
  return fmt::format("{:<{}}{:>10}{:>8}{:>7}{:>7}{:>11}{:>9}{:>10}{:>8}  {:<8}{:>8}{:>11}\n", "row and pass", width,
                     "s an epoch", "%", "calls", "pieces", "GFLOP (A)", "MB (A)", "GFLOP/s", "GB/s", "bound", "of bound",
                     "saves <= s");
}

std::string layer_text(const Profile& p, const LayerLine& l, std::size_t width) {
  const double seconds = l.ns * 1e-9;
  return fmt::format("{:<{}}{:>10.3f}{:>8}{:>7}{:>7.0f}{:>11}{:>9}{:>10}{:>8}  {:<8}{:>8}{:>11}\n", where(l), width,
                     p.seconds(l.ns), percent(p.seconds(l.ns), p.epoch_seconds), known(l.calls, 0), l.pieces,
                     known(l.cost.flop * 1e-9, 2), known(l.cost.bytes * 1e-6, 1), known(l.cost.flop / seconds * 1e-9, 1),
                     known(l.cost.bytes / seconds * 1e-9, 1), l.bound_ns > 0 ? (l.compute_bound ? "product" : "copy") : "",
                     l.bound_ns > 0 ? fmt::format("{:.0f}%", 100 * l.of_bound()) : "", known(p.seconds(l.saving_ns()), 3));
}

std::string savings_text(const Profile& p, int top) {
  std::vector<LayerLine> lines = by_saving(p);
  lines.resize(std::min<std::size_t>(lines.size(), static_cast<std::size_t>(top)));
  std::size_t width = 12;
  for (const LayerLine& l : lines) width = std::max(width, where(l).size());
  std::string text =
      "\nLAYERS by the seconds that an epoch could save (A: analytic, at least; all else measured)\n" + layer_heading(width);
  for (const LayerLine& l : lines) text += layer_text(p, l, width);
  return text;
}

std::string counters_text(const Profile& p, int top) {
  if (p.counters.empty()) return "";
  std::vector<LayerLine> lines = by_time(p);
  lines.resize(std::min<std::size_t>(lines.size(), static_cast<std::size_t>(top)));
  std::size_t width = 12;
  for (const LayerLine& l : lines) width = std::max(width, where(l).size());
  std::string text =
      fmt::format("\nCOUNTERS of a step, op by op, by time (A: analytic, at least; all else counted)\n{:<{}}{:>10}{:>10}",
                  "row and pass", width, "ms a step", "MB (A)");
  const auto column = [](const Counter& c) { return std::max<std::size_t>(14, heading(c).size() + 2); };
  for (const Counter& c : p.counters) text += fmt::format("{:>{}}", heading(c), column(c));
  for (const LayerLine& l : lines) {
    text += fmt::format("\n{:<{}}{:>10.3f}{:>10}", where(l), width, l.ns * 1e-6, known(l.cost.bytes * 1e-6, 1));
    for (std::size_t i = 0; i < p.counters.size(); ++i)
      text += fmt::format("{:>{}}", l.counted[i] ? fmt::format("{:.1f}", *l.counted[i]) : "", column(p.counters[i]));
  }
  return text + "\n";
}

std::string kernels_text(const Profile& p, int top) {
  if (p.kernels.empty()) return "";
  std::string text = fmt::format("\n{:<64}{:>11}{:>8}{:>9}{:>9}{:>6}{:>9}{:>8}  {:<20}{}\n", "KERNELS", "s an epoch", "%",
                                 "a step", "us each", "regs", "shared", "local", "grid x block", "for");
  double rest = 0;
  int left = 0;
  for (const KernelLine& k : p.kernels) {
    if (top-- <= 0) {
      rest += k.ns, ++left;
      continue;
    }
    const auto& g = k.launch.grid;
    const auto& b = k.launch.block;
    const std::string shape =
        b[0] > 0 ? fmt::format("{}x{}", std::uint64_t{g[0]} * g[1] * g[2], std::uint64_t{b[0]} * b[1] * b[2]) : "";
    text += fmt::format("{:<64}{:>11.3f}{:>8}{:>9.1f}{:>9.1f}{:>6}{:>9}{:>8}  {:<20}{}{}\n",
                        k.name.size() > 62 ? k.name.substr(0, 60) + ".." : k.name, p.seconds(k.ns),
                        percent(p.seconds(k.ns), p.epoch_seconds), k.pieces, k.ns / k.pieces * 1e-3,
                        known(k.launch.registers, 0), known(k.launch.shared_bytes, 0), known(k.launch.local_bytes, 0), shape,
                        k.scopes.empty() ? "(unattributed)" : k.scopes[0],
                        k.scopes.size() > 1 ? fmt::format(" and {} more", k.scopes.size() - 1) : "");
  }
  if (left > 0)
    text += fmt::format("{:<64}{:>11.3f}{:>8}\n", fmt::format("({} more)", left), p.seconds(rest),
                        percent(p.seconds(rest), p.epoch_seconds));
  return text;
}

std::string moment_name(const Profile& p, int moment) {
  const int n = static_cast<int>(p.memory.ops.size());
  if (moment == n || moment > 2 * n) return "the loss";
  const int op = moment < n ? moment : 2 * n - moment;
  return fmt::format("{} {}", p.rows[static_cast<std::size_t>(p.memory.ops[static_cast<std::size_t>(op)])],
                     moment < n ? "forward" : "backward");
}

std::string memory_text(const Profile& p, int top) {
  const std::vector<std::size_t> use = memory_over_step(p.memory);
  if (use.empty()) return "";
  const auto peak = std::max_element(use.begin(), use.end());
  const int moment = static_cast<int>(peak - use.begin());
  std::string text =
      fmt::format("\nMEMORY of a step: an arena of {}; at most {} of activations and gradients live at once, at {}\n",
                  size_text(p.memory.arena), size_text(*peak), moment_name(p, moment));
  std::vector<ProgramMemory::Life> alive;
  for (const ProgramMemory::Life& l : p.memory.lives)
    if (l.first <= moment && moment <= l.last) alive.push_back(l);
  std::sort(alive.begin(), alive.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  alive.resize(std::min<std::size_t>(alive.size(), static_cast<std::size_t>(top)));
  for (const ProgramMemory::Life& l : alive)
    text += fmt::format("  {:<40}{:>12}  {}\n", p.rows[static_cast<std::size_t>(l.row)], size_text(l.bytes),
                        l.gradient ? "gradient" : "activation");
  return text;
}

std::string plans_text(const Profile& p) {
  std::map<std::string, std::vector<std::string>> rows;
  for (const PlannedKernel& k : p.plans) rows[k.implementation].push_back(p.rows[static_cast<std::size_t>(k.row)]);
  std::string text = "\nPLANS: for how many ops what runs\n";
  for (const auto& [what, of] : rows)
    text += fmt::format("{:>5}  {:<34}  {}\n", of.size(), of.size() > 1 ? of.front() + " and others" : of.front(), what);
  return text;
}

std::string advice_text(const Profile& p) {
  std::string text = fmt::format("\n{:<72}{:>12}\n", "WHERE THE NEXT SECONDS ARE", "s an epoch");
  int number = 0;
  for (const Advice& a : p.advice)
    text += fmt::format("{:>2} {:<69}{:>12.3f}\n     {}{}{}\n", ++number, a.what, a.seconds, a.evidence,
                        a.next.empty() ? "" : "; ", a.next);
  return number > 0 ? text : text + "  nothing of 1% of an epoch or more\n";
}

Json json_of(const LayerLine& l, const Profile& p) {
  const auto number = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
  Json counted = Json::object();
  for (std::size_t i = 0; i < l.counted.size(); ++i)
    counted[p.counters[i].name] = l.counted[i] ? Json(*l.counted[i] / p.counters[i].scale) : Json(nullptr);
  return {{"row", l.row},
          {"kind", l.kind},
          {"pass", name(l.pass)},
          {"ns_per_step", l.ns},
          {"ns_per_step_ci95", {l.low_ns, l.high_ns}},
          {"seconds_per_epoch", p.seconds(l.ns)},
          {"share_of_epoch", p.seconds(l.ns) / p.epoch_seconds},
          {"calls_per_step", number(l.calls)},
          {"pieces_per_step", l.pieces},
          {"analytic_flop", number(l.cost.flop)},
          {"analytic_bytes", number(l.cost.bytes)},
          {"bound", l.bound_ns > 0 ? Json(l.compute_bound ? "product" : "copy") : Json(nullptr)},
          {"bound_ns_per_step", number(l.bound_ns)},
          {"save_seconds_per_epoch", l.bound_ns > 0 ? Json(p.seconds(l.saving_ns())) : Json(nullptr)},
          {"counters", counted},
          {"traced_samples_ns", l.samples_ns}};
}

std::string csv_cell(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) result.append(c == '"' ? "\"\"" : std::string(1, c));
  return result + '"';
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
  add_advice(p);
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

std::string to_text(const Profile& p, int top) {
  std::string text = header_text(p) + ledger_text(p);
  if (!p.layers.empty())
    text += kinds_text(p) + rows_text(p) + savings_text(p, top) + counters_text(p, top) + kernels_text(p, top);
  return text + memory_text(p, std::min(top, 8)) + plans_text(p) + advice_text(p);
}

std::string explain(const Profile& p, std::string_view row) {
  std::string text;
  std::size_t width = 12;
  for (const LayerLine& l : p.layers)
    if (l.row == row) width = std::max(width, where(l).size()), text = fmt::format("{} ({})\n\n", l.row, l.kind);
  if (text.empty()) text = fmt::format("{}: nothing runs for it\n", row);
  text += layer_heading(width);
  for (const LayerLine& l : p.layers)
    if (l.row == row) text += layer_text(p, l, width);
  text += "\n";
  for (const LayerLine& l : p.layers)
    if (l.row == row)
      text += fmt::format("{:<{}}{:>10.3f} ms a step, 95% interval {:.3f} to {:.3f}\n", name(l.pass), width, l.ns * 1e-6,
                          l.low_ns * 1e-6, l.high_ns * 1e-6);
  for (const LayerLine& l : p.layers)
    for (std::size_t i = 0; l.row == row && i < l.counted.size(); ++i)
      if (l.counted[i])
        text += fmt::format("{:<{}}{:>10.3f} {}, {}\n", name(l.pass), width, *l.counted[i], p.counters[i].unit,
                            p.counters[i].metric);
  for (const PlannedKernel& k : p.plans)
    if (p.rows[static_cast<std::size_t>(k.row)] == row) text += fmt::format("\nplan     {}\n", k.implementation);
  for (const ProgramMemory::Life& l : p.memory.lives)
    if (p.rows[static_cast<std::size_t>(l.row)] == row)
      text += fmt::format("memory   {} of {}, from {} to {}\n", size_text(l.bytes), l.gradient ? "gradients" : "activations",
                          moment_name(p, std::max(l.first, 0)), moment_name(p, l.last));
  for (const KernelLine& k : p.kernels)
    for (const std::string& scope : k.scopes)
      if (scope.substr(0, scope.rfind(' ')) == row)
        text += fmt::format("kernel   {}: {} registers, {} bytes shared, for {}\n", k.name, k.launch.registers,
                            k.launch.shared_bytes, scope);
  return text;
}

Json to_json(const Profile& p) {
  Json json{{"schema", profile_schema}, {"run", p.run}, {"device", p.device}};
  json["method"] = {{"steps", p.sampling.steps},    {"warm_up", p.sampling.warm_up},      {"burst", p.sampling.burst},
                    {"scaled_to", "untraced"},      {"epoch_steps", p.epoch.steps},       {"epoch_images", p.epoch.images},
                    {"dropped_records", p.dropped}, {"unfinished_records", p.unfinished}, {"note", p.note}};
  json["roofs"] = {{"flop_per_second", p.roofs.flop_per_second}, {"bytes_per_second", p.roofs.bytes_per_second}};
  json["distortion"] = {{"untraced_ns_per_step", p.untraced_ns},
                        {"traced_ns_per_step", p.traced_ns},
                        {"share", p.traced_ns / p.untraced_ns - 1},
                        {"named_ns_per_step", p.layers_ns},
                        {"named_share", p.attributed},
                        {"overlap_share", p.overlap},
                        {"untraced_samples_ns", p.untraced_samples_ns}};
  json["epoch_seconds"] = p.epoch_seconds;
  json["ledger"] = Json::array();
  for (const LedgerLine& l : p.ledger)
    json["ledger"].push_back({{"name", l.name},
                              {"seconds", l.seconds},
                              {"share", l.seconds / p.epoch_seconds},
                              {"us_per_image", l.seconds / p.epoch.images * 1e6}});
  json["counters"] = Json::array();
  for (const Counter& c : p.counters) json["counters"].push_back({{"name", c.name}, {"metric", c.metric}});
  json["layers"] = Json::array();
  for (const LayerLine& l : p.layers) json["layers"].push_back(json_of(l, p));
  json["kernels"] = Json::array();
  for (const KernelLine& k : p.kernels)
    json["kernels"].push_back({{"name", k.name},
                               {"ns_per_step", k.ns},
                               {"seconds_per_epoch", p.seconds(k.ns)},
                               {"pieces_per_step", k.pieces},
                               {"registers", k.launch.registers},
                               {"shared_bytes", k.launch.shared_bytes},
                               {"local_bytes", k.launch.local_bytes},
                               {"grid", k.launch.grid},
                               {"block", k.launch.block},
                               {"scopes", k.scopes}});
  json["plans"] = Json::array();
  for (const PlannedKernel& k : p.plans)
    json["plans"].push_back({{"row", p.rows[static_cast<std::size_t>(k.row)]}, {"implementation", k.implementation}});
  json["memory"] = Json::array();
  for (const ProgramMemory::Life& l : p.memory.lives)
    json["memory"].push_back({{"row", p.rows[static_cast<std::size_t>(l.row)]},
                              {"what", l.gradient ? "gradient" : "activation"},
                              {"first", l.first},
                              {"last", l.last},
                              {"bytes", l.bytes}});
  json["advice"] = Json::array();
  for (const Advice& a : p.advice)
    json["advice"].push_back({{"seconds_per_epoch", a.seconds}, {"what", a.what}, {"evidence", a.evidence}, {"next", a.next}});
  return json;
}

std::string layers_csv(const Profile& p) {
  std::string csv =
      "row,kind,pass,ns_per_step,low_ns,high_ns,seconds_per_epoch,calls_per_step,pieces_per_step,analytic_flop,analytic_bytes,"
      "bound,save_seconds_per_epoch";
  for (const Counter& c : p.counters) csv += "," + c.metric;
  csv += "\n";
  for (const LayerLine& l : p.layers) {
    csv += fmt::format("{},{},{},{:.9g},{:.9g},{:.9g},{:.9g},{},{:.9g},{},{},{},{}", l.row, l.kind, name(l.pass), l.ns,
                       l.low_ns, l.high_ns, p.seconds(l.ns), known(l.calls, 0), l.pieces, known(l.cost.flop, 0),
                       known(l.cost.bytes, 0), l.bound_ns > 0 ? (l.compute_bound ? "product" : "copy") : "",
                       l.bound_ns > 0 ? fmt::format("{:.9g}", p.seconds(l.saving_ns())) : "");
    for (std::size_t i = 0; i < p.counters.size(); ++i)
      csv += l.counted[i] ? fmt::format(",{:.9g}", *l.counted[i] / p.counters[i].scale) : ",";
    csv += "\n";
  }
  return csv;
}

std::string kernels_csv(const Profile& p) {
  std::string csv = "kernel,ns_per_step,seconds_per_epoch,pieces_per_step,registers,shared_bytes,local_bytes,scopes\n";
  for (const KernelLine& k : p.kernels) {
    std::string scopes;
    for (const std::string& scope : k.scopes) scopes += (scopes.empty() ? "" : "; ") + scope;
    csv += fmt::format("{},{:.9g},{:.9g},{:.9g},{},{},{},{}\n", csv_cell(k.name), k.ns, p.seconds(k.ns), k.pieces,
                       k.launch.registers, k.launch.shared_bytes, k.launch.local_bytes, csv_cell(scopes));
  }
  return csv;
}

}  // namespace microtome
