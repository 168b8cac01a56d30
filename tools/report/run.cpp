#include "tools/report/run.h"

#include "tools/report/html.h"

#include <fmt/format.h>

#include <cmath>

namespace microtome {
namespace {

std::string curves_script(const RunReport& report, bool loss) {
  std::string script = fmt::format(
      "set terminal svg size 560,360 dynamic rounded font 'DejaVu Sans,13' name '{}'\n{}set xlabel 'epoch' textcolor rgb "
      "'#475467'\nset xtics {}\nset key {}\n$data << END\n",
      loss ? "loss" : "accuracy", plot_look, std::max<std::size_t>(1, (report.history.size() + 14) / 15),
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
std::string roc_script(const Metrics& test) {
  std::string script = fmt::format(
      "set terminal svg size 460,430 dynamic rounded font 'DejaVu Sans,13' name 'roc'\n{}set size ratio 1\nset xlabel 'false "
      "positive rate' textcolor rgb '#475467'\nset ylabel 'true positive rate' textcolor rgb '#475467'\nset xrange [0:1]\nset "
      "yrange [0:1.002]\nset xtics 0.2\nset ytics 0.2\nset key bottom right\n$data << END\n",
      plot_look);
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

std::string confusion_table(const Metrics& test) {
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

std::string to_html(const RunReport& report) {
  std::string html = figures_row(report.figures);
  if (!report.learned.empty()) html += fmt::format("<p><b>{}</b></p>\n", escape(report.learned));
  if (!report.history.empty()) {
    html += "<div class=\"pair\">";
    html += plot_section("Loss", curves_script(report, true));
    html += plot_section("Accuracy", curves_script(report, false));
    html += "</div>\n";
  }
  if (report.test) {
    html += "<div class=\"pair\">";
    html += plot_section("Receiver operating characteristic, test", roc_script(*report.test));
    html +=
        fmt::format("<section><h2>Confusion, test</h2>{}<p>Scores above 0.5 are called 1. AUC {:.4f}, {}{}{}.</p></section>",
                    confusion_table(*report.test), report.test->auc, interval_text(*report.test),
                    report.test->groups > 0 ? "; " : "", clustered_interval_text(*report.test));
    html += "</div>\n";
  }
  if (!report.history.empty()) html += epochs_table(report);
  std::vector<std::pair<std::string, std::string>> facts = report.facts;
  for (const std::string& note : report.notes) facts.emplace_back("note", note);
  html += fmt::format("<div class=\"pair\">{}<section><h2>Configuration</h2><pre>{}</pre></section></div>\n",
                      facts_section("Machine and data", facts), escape(report.config));
  html += "<footer>Dotted line: the epoch whose weights were kept, by validation accuracy.</footer>\n";
  return page(report.title, "A run of Microtome. For research; not for diagnosis.", html);
}

}  // namespace microtome
