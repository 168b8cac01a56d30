#include "tools/profile/text.h"

#include "tools/cli/terminal.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

namespace microtome {
namespace {

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f}", 100 * part / whole) : "";
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
      "sampled  steps: {} traced and {} untraced by turns, after {} to warm up; an epoch has {:.1f} of them; dropped records "
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
  std::string text = fmt::format(
      "\nROWS, milliseconds of a step (M), in the network's order\nother: backward passes that are not parted by data and "
      "filter, corrections of batch-norms, input, loss, update\n{:<{}}{:>10}{:>11}{:>13}{:>10}{:>11}{:>8}\n",
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

}  // namespace

std::string known(double value, int digits) {
  return value > 0 ? fmt::format("{:.{}f}", value, digits) : "";
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
      text +=
          fmt::format("{:<{}}{:>10.3f} ms a step, 95% interval {}\n", name(l.pass), width, l.ns * 1e-6,
                      l.high_ns > 0 ? fmt::format("{:.3f} to {:.3f}", l.low_ns * 1e-6, l.high_ns * 1e-6)
                                    : fmt::format("unknown from {} step{}", p.sampling.steps, p.sampling.steps > 1 ? "s" : ""));
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

}  // namespace microtome
