#include "tools/report.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <memory>

extern char** environ;

namespace microtome {
namespace {

constexpr std::string_view style = R"(
:root { --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --blue: #2563a8; --pink: #b83280; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f5f8; color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 0 0 12px; }
p.lead { color: var(--soft); margin: 0 0 28px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px; margin: 0 0 20px; overflow-x: auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 16px; margin: 0 0 20px; }
.figures div { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.figures b { display: block; font-size: 27px; font-weight: 650; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: 14px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(430px, 1fr)); gap: 20px; }
.pair section { margin: 0; } .pair { margin: 0 0 20px; }
svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; }
td:first-child, th:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
tr.best td { color: var(--pink); font-weight: 600; }
table.confusion td { text-align: center; border: 3px solid #fff; border-radius: 8px; padding: 14px 22px; min-width: 130px; }
table.confusion td b { display: block; font-size: 21px; }
table.confusion td:first-child, table.confusion th { text-align: center; border-bottom: 0; }
table.facts td { text-align: left; white-space: normal; vertical-align: top; } table.facts td:first-child { color: var(--soft); white-space: nowrap; }
pre { margin: 0; font: 14px/1.55 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: 14px; }
)";

std::string escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

/// gnuplot's own header lines stay out: the page is HTML, and the SVG is inline.
std::string inline_svg(const std::string& svg) {
  const auto begin = svg.find("<svg");
  return begin == std::string::npos ? std::string() : svg.substr(begin);
}

constexpr std::string_view look = R"(set encoding utf8
set border 3 linecolor rgb '#98a2b3'
set tics nomirror out scale 0.6 textcolor rgb '#475467'
set grid linecolor rgb '#e4e7ec' linetype 1 linewidth 1
set key textcolor rgb '#1d2433' samplen 2.2 spacing 1.15
)";

std::string curves_script(const RunReport& report, bool loss) {
  std::string script = fmt::format(
      "set terminal svg size 560,360 dynamic rounded font 'DejaVu Sans,13' name '{}'\n{}set xlabel 'epoch' textcolor rgb "
      "'#475467'\nset xtics {}\nset key {}\n$data << END\n",
      loss ? "loss" : "accuracy", look, std::max<std::size_t>(1, (report.history.size() + 14) / 15),
      loss ? "top right" : "bottom right");
  for (const EpochRecord& r : report.history) {
    script += fmt::format("{} {:.9g} {:.9g}\n", r.epoch, loss ? r.train_loss : r.train_accuracy,
                          loss ? r.valid_loss : r.valid_accuracy);
  }
  script += "END\n";
  script += fmt::format("set xrange [0.7:{}.3]\nset offsets 0, 0, graph 0.06, graph 0.06\n", report.history.size());
  if (report.best_epoch > 0) {
    script +=
        fmt::format("set arrow from {0}, graph 0 to {0}, graph 1 nohead linecolor rgb '#b83280' dashtype 3 linewidth 1.4\n",
                    report.best_epoch);
  }
  script +=
      "plot $data using 1:2 with linespoints linewidth 2.2 pointtype 7 pointsize 0.45 linecolor rgb '#2563a8' title "
      "'training', "
      "$data using 1:3 with linespoints linewidth 2.2 pointtype 7 pointsize 0.45 linecolor rgb '#b83280' title 'validation'\n";
  return script;
}

/// A curve of tens of thousands of points looks the same with those alone that move by a 400th of the axis.
std::string roc_script(const Verdict& test) {
  std::string script = fmt::format(
      "set terminal svg size 460,430 dynamic rounded font 'DejaVu Sans,13' name 'roc'\n{}set size ratio 1\nset xlabel 'false "
      "positive rate' textcolor rgb '#475467'\nset ylabel 'true positive rate' textcolor rgb '#475467'\nset xrange [0:1]\nset "
      "yrange [0:1.002]\nset xtics 0.2\nset ytics 0.2\nset key bottom right\n$data << END\n",
      look);
  double x = -1, y = -1;
  for (std::size_t i = 0; i < test.roc.size(); ++i) {
    const RocPoint& p = test.roc[i];
    if (i + 1 < test.roc.size() && std::abs(p.false_positive_rate - x) < 0.0025 && std::abs(p.true_positive_rate - y) < 0.0025)
      continue;
    x = p.false_positive_rate;
    y = p.true_positive_rate;
    script += fmt::format("{:.5g} {:.5g}\n", x, y);
  }
  script += "END\n";
  script += fmt::format(
      "plot $data using 1:2 with filledcurves y1=0 fillcolor rgb '#eef4fb' notitle, x with lines dashtype 2 linewidth 1.2 "
      "linecolor rgb "
      "'#98a2b3' title 'chance', $data using 1:2 with lines linewidth 2.4 linecolor rgb '#2563a8' title 'AUC {:.4f}'\n",
      test.auc);
  return script;
}

std::string plot(std::string_view heading, const std::string& script) {
  const std::optional<std::string> svg = run_gnuplot(script);
  const std::string body = svg ? inline_svg(*svg) : "<p>No drawing: gnuplot was not found when this page was written.</p>";
  return fmt::format("<section><h2>{}</h2>{}</section>\n", heading, body);
}

std::string confusion_table(const Verdict& test) {
  const auto cell = [&](std::int64_t count, std::int64_t of, bool right) {
    const double share = of > 0 ? static_cast<double>(count) / static_cast<double>(of) : 0;
    // The tint says how large a share of the row's class it is: blue for right, pink for wrong.
    return fmt::format("<td style=\"background: rgba({}, {:.3f})\"><b>{}</b>{:.1f} %</td>",
                       right ? "37, 99, 168" : "184, 50, 128", 0.06 + 0.34 * share, count, 100 * share);
  };
  const Confusion& c = test.counts;
  const std::int64_t negatives = test.n - test.positives;
  return fmt::format(
      "<table class=\"confusion\"><tr><th></th><th>called 0</th><th>called 1</th></tr>"
      "<tr><th>is 0</th>{}{}</tr><tr><th>is 1</th>{}{}</tr></table>",
      cell(c.true_negatives, negatives, true), cell(c.false_positives, negatives, false),
      cell(c.false_negatives, test.positives, false), cell(c.true_positives, test.positives, true));
}

std::string epochs_table(const RunReport& report) {
  std::string html =
      "<section><h2>Epochs</h2><table><tr><th>epoch</th><th>training loss</th><th>training accuracy</th><th>validation "
      "loss</th>"
      "<th>validation accuracy</th><th>seconds</th><th>images/s</th></tr>\n";
  for (const EpochRecord& r : report.history) {
    html += fmt::format(
        "<tr{}><td>{}{}</td><td>{:.4f}</td><td>{:.4f}</td><td>{:.4f}</td><td>{:.4f}</td><td>{:.1f}</td><td>{:.0f}</td></tr>\n",
        r.epoch == report.best_epoch ? " class=\"best\"" : "", r.epoch, r.epoch == report.best_epoch ? " (best)" : "",
        r.train_loss, r.train_accuracy, r.valid_loss, r.valid_accuracy, r.seconds, r.images_per_second);
  }
  return html + "</table></section>\n";
}

}  // namespace

std::optional<std::string> run_gnuplot(std::string_view script) {
  using File = std::unique_ptr<std::FILE, decltype(&std::fclose)>;
  const File in(std::tmpfile(), &std::fclose), out(std::tmpfile(), &std::fclose);
  if (!in || !out || std::fwrite(script.data(), 1, script.size(), in.get()) != script.size()) return std::nullopt;
  std::rewind(in.get());

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(in.get()), 0);
  posix_spawn_file_actions_adddup2(&actions, fileno(out.get()), 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);  // 1: O_WRONLY
  char name[] = "gnuplot";
  char* arguments[] = {name, nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error != 0 || waitpid(child, &status, 0) != child || status != 0) return std::nullopt;

  std::rewind(out.get());
  std::string text;
  char block[4096];
  for (std::size_t count; (count = std::fread(block, 1, sizeof block, out.get())) > 0;) text.append(block, count);
  return text;
}

std::string to_html(const RunReport& report) {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, "
      "initial-scale=1\">\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n<p class=\"lead\">A "
      "run of "
      "Microtome. For research; not for diagnosis.</p>\n",
      escape(report.title), style);
  html += "<div class=\"figures\">";
  for (const auto& [name, value] : report.figures)
    html += fmt::format("<div><b>{}</b><span>{}</span></div>", escape(value), escape(name));
  html += "</div>\n";

  if (!report.history.empty()) {
    html += "<div class=\"pair\">";
    html += plot("Loss", curves_script(report, true));
    html += plot("Accuracy", curves_script(report, false));
    html += "</div>\n";
  }
  if (report.test) {
    html += "<div class=\"pair\">";
    html += plot("Receiver operating characteristic, test", roc_script(*report.test));
    html += fmt::format(
        "<section><h2>Confusion, test</h2>{}<p>Scores above 0.5 are called 1. AUC {:.4f}, 95% confidence interval {:.4f} "
        "to {:.4f} (DeLong).</p></section>",
        confusion_table(*report.test), report.test->auc, report.test->auc_ci95.first, report.test->auc_ci95.second);
    html += "</div>\n";
  }
  if (!report.history.empty()) html += epochs_table(report);
  html += "<div class=\"pair\"><section><h2>Machine and data</h2><table class=\"facts\">";
  for (const auto& [name, value] : report.facts)
    html += fmt::format("<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
  for (const std::string& note : report.notes) html += fmt::format("<tr><td>note</td><td>{}</td></tr>", escape(note));
  html +=
      fmt::format("</table></section><section><h2>Configuration</h2><pre>{}</pre></section></div>\n", escape(report.config));
  return html +
         "<footer>Dotted line: the epoch whose weights were kept, by validation "
         "accuracy.</footer>\n</main>\n</body>\n</html>\n";
}

}  // namespace microtome
