#include "tools/profile/page.h"

#include "tools/cli/terminal.h"
#include "tools/report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace microtome {
namespace {

/// Of the four kinds of pass, here and in every drawing.
struct Tone {
  std::string_view name, colour;
};
constexpr Tone tones[] = {
    {"forward", "#2563a8"}, {"gradient of data", "#b83280"}, {"gradient of filters", "#e08e45"}, {"other", "#5b8a72"}};

int tone(Pass pass) {
  switch (pass) {
    case Pass::forward: return 0;
    case Pass::backward_data: return 1;
    case Pass::backward_filter: return 2;
    default: return 3;
  }
}

std::string terminal_line(std::string_view name, int width, int height) {
  return fmt::format("set terminal svg size {},{} dynamic rounded noenhanced font 'DejaVu Sans,13' name '{}'\n{}", width,
                     height, name, plot_look);
}

std::string title(const Profile& p) {
  return fmt::format("{} on {}: where an epoch goes", p.run["net"].get<std::string>(), p.run["data_name"].get<std::string>());
}

constexpr std::string_view ledger_colours[] = {"#94a3b8", "#2563a8", "#7c9cc4", "#b83280", "#e08e45", "#5b8a72",
                                               "#c9b458", "#8b6fb0", "#4f9da6", "#a8623f", "#d08bb0", "#667085"};

/// One bar of the whole epoch, and beside each colour its seconds.
std::string ledger_section(const Profile& p) {
  std::string script = terminal_line("ledger", 1030, 74) +
                       "unset border\nunset tics\nunset grid\nunset key\nset margins 0, 0, 0, 0\nset xrange [0:1]\nset yrange "
                       "[0:1]\nset style fill solid noborder\n";
  std::string table = "<table class=\"ledger\"><tr><th></th><th>seconds</th><th>%</th><th>us an image</th><th></th></tr>\n";
  double at = 0;
  int number = 0;
  for (const LedgerLine& l : p.ledger) {
    const double share = l.seconds / p.epoch_seconds;
    const std::string_view colour = ledger_colours[static_cast<std::size_t>(number) % std::size(ledger_colours)];
    script +=
        fmt::format("set object {} rectangle from {:.6f},0 to {:.6f},1 fillcolor rgb '{}' fillstyle solid noborder behind\n",
                    ++number, at, at + share, colour);
    if (share > 0.07)
      script += fmt::format(
          "set label '{}' at {:.6f},0.62 center textcolor rgb '#ffffff' front\nset label '{:.1f}%' at {:.6f},0.3 center "
          "textcolor rgb '#ffffff' front\n",
          l.name, at + share / 2, 100 * share, at + share / 2);
    table += fmt::format(
        "<tr><td><i style=\"background: {}\"></i>{}</td><td>{:.3f}</td><td>{:.1f}</td><td>{:.1f}</td><td>{}</td></tr>\n",
        colour, escape(l.name), l.seconds, 100 * share, l.seconds / p.epoch.images * 1e6, escape(l.note));
    at += share;
  }
  script += "plot NaN notitle\n";
  table += fmt::format("<tr class=\"total\"><td>total</td><td>{:.3f}</td><td>100.0</td><td>{:.1f}</td><td></td></tr></table>",
                       p.epoch_seconds, p.epoch_seconds / p.epoch.images * 1e6);
  return plot_section("An epoch's ledger", script, table);
}

struct RowTimes {
  std::string row;
  double ns[4] = {};

  double total() const { return ns[0] + ns[1] + ns[2] + ns[3]; }
};

/// In the network's order.
std::vector<RowTimes> row_times(const Profile& p) {
  std::vector<RowTimes> rows;
  for (const LayerLine& l : p.layers) {
    const std::string row = l.row.empty() ? fmt::format("({})", name(l.pass)) : l.row;
    if (rows.empty() || rows.back().row != row) rows.push_back({row});
    rows.back().ns[tone(l.pass)] += l.ns;
  }
  return rows;
}

std::string tone_legend() {
  std::string html = "<p class=\"legend\">";
  for (const Tone& t : tones) html += fmt::format("<span><i style=\"background: {}\"></i>{}</span>", t.colour, t.name);
  return html + "</p>";
}

std::string rows_script(const Profile& p) {
  std::vector<RowTimes> rows = row_times(p);
  std::stable_sort(rows.begin(), rows.end(), [](const RowTimes& a, const RowTimes& b) { return a.total() > b.total(); });
  rows.resize(std::min<std::size_t>(rows.size(), 24));
  std::string script = terminal_line("rows", 1030, 110 + 23 * static_cast<int>(rows.size())) +
                       "set style fill solid noborder\nset xlabel 'milliseconds of a step' textcolor rgb '#475467'\nset grid "
                       "noytics\nset ytics scale 0\nset border 1\n"
                       "unset key\nset boxwidth 1\n";
  script += fmt::format("set yrange [-0.6:{}]\nset xrange [0:{:.9g}]\nset ytics (", static_cast<double>(rows.size()) - 0.4,
                        1.04 * rows.front().total() * 1e-6);
  const auto place = [&](std::size_t i) { return static_cast<double>(rows.size() - 1 - i); };
  for (std::size_t i = 0; i < rows.size(); ++i) script += fmt::format("{}'{}' {}", i > 0 ? ", " : "", rows[i].row, place(i));
  script += ")\n";
  int number = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    double at = 0;
    for (int t = 0; t < 4; ++t) {
      const double ms = rows[i].ns[t] * 1e-6;
      if (ms > 0)
        script +=
            fmt::format("set object {} rectangle from {:.9g},{} to {:.9g},{} fillcolor rgb '{}' fillstyle solid noborder\n",
                        ++number, at, place(i) - 0.36, at + ms, place(i) + 0.36, tones[t].colour);
      at += ms;
    }
  }
  return script + "plot NaN\n";
}

/// Passes that multiply; the area of a point is its share of the step.
std::string roofline_script(const Profile& p) {
  std::string script = terminal_line("roofline", 560, 440) +
                       "set logscale xy\nset xlabel 'FLOP a byte (analytic)' textcolor rgb '#475467'\nset ylabel 'GFLOP/s' "
                       "textcolor rgb '#475467'\nset key bottom right\n"
                       "set style fill transparent solid 0.55 noborder\nset format x '%g'\nset format y '%g'\n";
  double low = 1e300, high = 0, slow = 1e300;
  for (int t = 0; t < 3; ++t) {
    script += fmt::format("$tone{} << END\nNaN NaN NaN\n", t);
    for (const LayerLine& l : p.layers) {
      if (tone(l.pass) != t || l.cost.flop == 0 || l.cost.bytes == 0 || l.ns <= 0) continue;
      const double intensity = l.cost.flop / l.cost.bytes, rate = l.cost.flop / l.ns;
      low = std::min(low, intensity), high = std::max(high, intensity), slow = std::min(slow, rate);
      script += fmt::format("{:.6g} {:.6g} {:.4g}\n", intensity, rate, 0.4 + 9 * std::sqrt(l.ns / p.untraced_ns));
    }
    script += "END\n";
  }
  if (high == 0) return "";
  const double flop = p.roofs.flop_per_second * 1e-9, bytes = p.roofs.bytes_per_second * 1e-9;
  script += fmt::format("set xrange [{:.4g}:{:.4g}]\nset yrange [{:.4g}:{:.4g}]\n", low / 2, high * 2, slow / 2, 2.5 * flop);
  script += fmt::format(
      "plot (x * {0:.6g} < {1:.6g} ? x * {0:.6g} : {1:.6g}) with lines linewidth 2 linecolor rgb '#1d2433' title 'roofs "
      "measured here'",
      bytes, flop);
  for (int t = 0; t < 3; ++t)
    script += fmt::format(
        ", $tone{0} using 1:2:3 with points pointtype 7 pointsize variable linecolor rgb '{1}' notitle, NaN with points "
        "pointtype 7 linecolor rgb '{1}' title '{2}'",
        t, tones[t].colour, tones[t].name);
  return script + "\n";
}

std::string memory_script(const Profile& p) {
  ProgramMemory activations = p.memory;
  std::erase_if(activations.lives, [](const ProgramMemory::Life& l) { return l.gradient; });
  const std::vector<std::size_t> all = memory_over_step(p.memory), kept = memory_over_step(activations);
  std::string script = terminal_line("memory", 560, 440) +
                       "set xlabel 'ops, forward and then backward' textcolor rgb '#475467'\nset ylabel 'MiB' textcolor rgb "
                       "'#475467'\nset key top left\nset style fill solid noborder\n$data << END\n";
  for (std::size_t m = 0; m < all.size(); ++m)
    script +=
        fmt::format("{} {:.5g} {:.5g}\n", m, static_cast<double>(kept[m]) / 1048576, static_cast<double>(all[m]) / 1048576);
  const double arena = static_cast<double>(p.memory.arena) / 1048576;
  return script + fmt::format(
                      "END\nset xrange [0:{}]\nset yrange [0:{:.6g}]\nset arrow from {},0 to {},graph 1 nohead linecolor rgb "
                      "'#98a2b3' dashtype 2\n"
                      "plot $data using 1:3 with filledcurves y1=0 fillcolor rgb '#e3a8c8' title 'gradients', "
                      "$data using 1:2 with filledcurves y1=0 fillcolor rgb '#7fa6d2' title 'activations', "
                      "{:.6g} with lines linewidth 1.6 dashtype 3 linecolor rgb '#1d2433' title 'the arena'\n",
                      all.size() - 1, 1.42 * arena, p.memory.ops.size(), p.memory.ops.size(), arena);
}

std::string cell(const std::string& text) {
  return fmt::format("<td>{}</td>", escape(text));
}

std::string number(double value, int digits) {
  return fmt::format("<td>{}</td>", value > 0 ? fmt::format("{:.{}f}", value, digits) : "");
}

std::string advice_section(const Profile& p) {
  if (p.advice.empty()) return "";
  std::string html =
      "<section><h2>Where the next seconds are</h2><table class=\"advice\"><tr><th></th><th>seconds an epoch, at "
      "most</th><th>evidence</th></tr>\n";
  for (const Advice& a : p.advice)
    html += fmt::format("<tr>{}<td>{:.3f}</td>{}</tr>\n", cell(a.what), a.seconds,
                        cell(a.next.empty() ? a.evidence : a.evidence + "; " + a.next));
  return html + "</table></section>\n";
}

std::string layers_section(const Profile& p) {
  std::vector<LayerLine> lines = by_saving(p);
  lines.resize(std::min<std::size_t>(lines.size(), 20));
  std::string html =
      "<section><h2>Layers by the seconds that an epoch could save</h2><table class=\"wide\"><tr><th>row and pass</th><th>s an "
      "epoch</th><th>ms a step</th><th>GFLOP (A)</th>"
      "<th>MB (A)</th><th>GFLOP/s</th><th>GB/s</th><th>of its roof</th><th>saves, s</th></tr>\n";
  for (const LayerLine& l : lines) {
    html += fmt::format("<tr>{}{}{}", cell(where(l)), number(p.seconds(l.ns), 3), number(l.ns * 1e-6, 3));
    html += number(l.cost.flop * 1e-9, 2) + number(l.cost.bytes * 1e-6, 1) + number(l.cost.flop / l.ns, 1) +
            number(l.cost.bytes / l.ns, 1);
    html += cell(l.bound_ns > 0 ? fmt::format("{:.0f}% of {}", 100 * l.of_bound(), l.compute_bound ? "product" : "copy") : "");
    html += number(p.seconds(l.saving_ns()), 3) + "</tr>\n";
  }
  return html +
         "</table><p class=\"soft\">A: analytic, what the pass cannot but do. All else is measured; what is not known is left "
         "blank.</p></section>\n";
}

std::string counters_section(const Profile& p) {
  if (p.counters.empty()) return "";
  std::vector<LayerLine> lines = by_time(p);
  lines.resize(std::min<std::size_t>(lines.size(), 30));
  std::string html =
      "<section><h2>Counters of a step</h2><table class=\"wide\"><tr><th>row and pass</th><th>ms a step</th><th>MB (A)</th>";
  for (const Counter& c : p.counters) html += fmt::format("<th title=\"{}\">{}</th>", escape(c.metric), escape(heading(c)));
  for (const LayerLine& l : lines) {
    html += "</tr>\n<tr>" + cell(where(l)) + number(l.ns * 1e-6, 3) + number(l.cost.bytes * 1e-6, 1);
    for (const std::optional<double>& value : l.counted) html += cell(value ? fmt::format("{:.1f}", *value) : "");
  }
  return html + "</tr></table><p class=\"soft\">Counted by the device, in steps that ran op by op.</p></section>\n";
}

std::string kernels_section(const Profile& p) {
  if (p.kernels.empty()) return "";
  std::string html =
      "<section><h2>Kernels</h2><table class=\"wide\"><tr><th>kernel</th><th>s an epoch</th><th>%</th><th>a step</th><th>us "
      "each</th><th>registers</th><th>shared</th><th>local</th><th>for</th></tr>\n";
  for (std::size_t i = 0; i < std::min<std::size_t>(p.kernels.size(), 30); ++i) {
    const KernelLine& k = p.kernels[i];
    html += fmt::format("<tr><td class=\"kernel\" title=\"{}\">{}</td>", escape(k.name), escape(k.name)) +
            number(p.seconds(k.ns), 3) + number(100 * p.seconds(k.ns) / p.epoch_seconds, 1) + number(k.pieces, 1) +
            number(k.ns / k.pieces * 1e-3, 1) + number(k.launch.registers, 0) + number(k.launch.shared_bytes, 0) +
            number(k.launch.local_bytes, 0) +
            cell(k.scopes.empty()      ? "(unattributed)"
                 : k.scopes.size() > 1 ? fmt::format("{} and {} more", k.scopes[0], k.scopes.size() - 1)
                                       : k.scopes[0]) +
            "</tr>\n";
  }
  return html + "</table></section>\n";
}

std::string rows_section(const Profile& p) {
  std::string html = "<section><details><summary>Every row, in the network's order</summary><table><tr><th>row</th>";
  for (const Tone& t : tones) html += fmt::format("<th>{}, ms</th>", t.name);
  html += "<th>s an epoch</th><th>%</th></tr>\n";
  for (const RowTimes& r : row_times(p)) {
    html += "<tr>" + cell(r.row);
    for (const double ns : r.ns) html += number(ns * 1e-6, 3);
    html += number(p.seconds(r.total()), 3) + number(100 * p.seconds(r.total()) / p.epoch_seconds, 1) + "</tr>\n";
  }
  return html + "</table></details></section>\n";
}

std::string kinds_section(const Profile& p) {
  std::string html =
      "<section><h2>Kinds of rows</h2><table><tr><th>kind</th><th>rows</th><th>forward, ms</th><th>backward, ms</th><th>s an "
      "epoch</th><th>%</th><th>of roof</th></tr>\n";
  for (const KindLine& k : by_kind(p))
    html += "<tr>" + cell(k.kind) + number(k.rows, 0) + number(k.forward_ns * 1e-6, 2) + number(k.backward_ns * 1e-6, 2) +
            number(p.seconds(k.ns()), 3) + number(100 * p.seconds(k.ns()) / p.epoch_seconds, 1) +
            cell(k.bound_ns > 0 ? fmt::format("{:.0f}%", 100 * k.bound_ns / k.ns()) : "") + "</tr>\n";
  return html + "</table></section>\n";
}

std::string plans_section(const Profile& p) {
  std::map<std::string, std::vector<std::string>> rows;
  for (const PlannedKernel& k : p.plans) rows[k.implementation].push_back(p.rows[static_cast<std::size_t>(k.row)]);
  std::string html = "<section><h2>Plans</h2><table class=\"facts\">";
  for (const auto& [what, of] : rows)
    html += fmt::format("<tr><td>{}{}</td><td>{}</td></tr>\n", escape(of.front()),
                        of.size() > 1 ? fmt::format(" and {} more", of.size() - 1) : "", escape(what));
  return html + "</table></section>\n";
}

constexpr std::string_view more_style = R"(<style>
table.ledger { margin-top: 18px; }
table.ledger i, p.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 9px; }
p.legend { color: var(--soft); font-size: 14px; margin: 4px 0 0; }
p.legend span { margin-right: 26px; }
table.ledger td:last-child { text-align: left; color: var(--soft); }
tr.total td { font-weight: 650; }
table.advice td { white-space: normal; vertical-align: top; }
table.advice td:last-child, table.advice th:last-child { text-align: left; color: var(--soft); }
table.wide { font-size: 14px; width: 100%; }
td.kernel { max-width: 330px; overflow: hidden; text-overflow: ellipsis; }
p.soft { color: var(--soft); margin: 12px 0 0; font-size: 14px; }
summary { cursor: pointer; font-size: 19px; font-weight: 650; }
details[open] summary { margin-bottom: 12px; }
</style>
)";

}  // namespace

std::string to_html(const Profile& p) {
  const auto said = [](const Json& json, const char* key) { return json[key].get<std::string>(); };
  std::vector<std::pair<std::string, std::string>> figures{
      {"an epoch", fmt::format("{:.3g} s", p.epoch_seconds)},
      {"images a second", fmt::format("{:.0f}", p.epoch.images / p.epoch_seconds)},
      {"a step",
       p.untraced_ns < 1e10 ? fmt::format("{:.4g} ms", p.untraced_ns * 1e-6) : fmt::format("{:.4g} s", p.untraced_ns * 1e-9)},
      {"tracing adds", fmt::format("{:+.1f}%", 100 * (p.traced_ns / p.untraced_ns - 1))}};
  if (!p.layers.empty()) figures.emplace_back("of a step named by row and pass", fmt::format("{:.2f}%", 100 * p.attributed));
  const std::pair<std::string, std::string> facts[] = {
      {"device", fmt::format("{}, {}", said(p.device, "name"), said(p.device, "description"))},
      {"libraries", said(p.device, "versions")},
      {"commit", said(p.run, "commit")},
      {"images", fmt::format("{}x{}, batch {}, {:.0f} an epoch", p.run["image"][0].get<int>(), p.run["image"][1].get<int>(),
                             p.run["batch_size"].get<int>(), p.epoch.images)},
      {"precision, mode", fmt::format("{}, {}", said(p.run, "precision"), said(p.run, "mode"))},
      {"sampled", fmt::format("{} traced and {} untraced steps by turns, after {} to warm up", p.sampling.steps,
                              p.sampling.steps, p.sampling.warm_up)},
      {"roofs, measured",
       fmt::format("{:.0f} GFLOP/s, {:.1f} GB/s", p.roofs.flop_per_second * 1e-9, p.roofs.bytes_per_second * 1e-9)},
      {"dropped records", fmt::format("{}", p.dropped)},
      {"note", p.note.empty() ? "none" : p.note}};

  std::string html = std::string(more_style) + figures_row(figures) + ledger_section(p);
  if (!p.layers.empty()) html += advice_section(p) + plot_section("Rows by time", rows_script(p), tone_legend());
  html += "<div class=\"pair\">";
  const std::string roofline = roofline_script(p);
  if (!roofline.empty()) html += plot_section("Roofline", roofline);
  html += plot_section("Memory over a step", memory_script(p)) + "</div>\n";
  if (!p.layers.empty()) html += layers_section(p) + counters_section(p) + kernels_section(p);
  if (!p.layers.empty()) html += kinds_section(p) + rows_section(p);
  html += plans_section(p) + facts_section("Machine and method", facts);
  html +=
      "<footer>Roofline: passes that multiply; the area of a point is its share of a step. Memory: the dashed line is the "
      "loss.</footer>\n";
  return page(title(p), "A profile by Microtome, worked out to an epoch from a few steps.", html);
}

}  // namespace microtome
