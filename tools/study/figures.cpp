#include "tools/study/figures.h"

#include "tools/report/html.h"
#include "tools/study/layer_counts.h"
#include "tools/study/published_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace microtome {
namespace {

constexpr std::string_view blue = "#2563a8", pink = "#b83280", ink = "#1d2433";

std::string terminal(std::string_view what, int width, int height) {
  return fmt::format("set terminal svg size {},{} dynamic rounded noenhanced font 'DejaVu Sans,13' name '{}'\n{}", width,
                     height, what, plot_look);
}

/// gnuplot's string in single quotes.
std::string in_quotes(std::string_view text) {
  std::string all = "'";
  for (const char c : text) all += c == '\'' ? std::string("''") : std::string(1, c);
  return all + "'";
}

/// A network at its depth or its size.
struct AucPoint {
  std::string label;
  double x = 0;
  std::optional<double> ours, paper;
};

/// The networks of a side of a comparison.
struct AucBox {
  std::string_view mode;
  bool ours = false;
  std::vector<double> values;
};

struct Rectangle {
  double left, top, right, bottom;

  double overlap(const Rectangle& other) const {
    const double w = std::min(right, other.right) - std::max(left, other.left);
    const double h = std::min(bottom, other.bottom) - std::max(top, other.top);
    return w > 0 && h > 0 ? w * h : 0;
  }
};

/// The plot's inside, in pixels from the drawing's top left.
constexpr Rectangle frame{84, 44, 1010, 400};
constexpr int drawing_width = 1030, drawing_height = 470;
constexpr double letter_width = 8.2, letter_height = 15;

struct Spot {
  double x, y;
};
struct Label {
  std::string text;
  std::vector<Spot> marks;  // it may stand beside any of its own
  Spot at = {};             // its centre
};

/// One after the other, each where it covers least of marks, lines and labels.
void place(std::vector<Label>& labels, const std::vector<Rectangle>& marks) {
  std::vector<Rectangle> taken = marks;
  for (Label& label : labels) {
    const double half = letter_width * static_cast<double>(label.text.size()) / 2;
    double least = std::numeric_limits<double>::infinity();
    Rectangle best{};
    for (const Spot& mark : label.marks) {
      const Spot around[] = {{half + 9, 0},    {-half - 9, 0},  {0, -15},          {0, 15},
                             {half + 7, -12},  {half + 7, 12},  {-half - 7, -12},  {-half - 7, 12},
                             {half + 22, -22}, {half + 22, 22}, {-half - 22, -22}, {-half - 22, 22}};
      for (std::size_t i = 0; i < std::size(around); ++i) {
        const double x = mark.x + around[i].x, y = mark.y + around[i].y;
        const Rectangle box{x - half, y - letter_height / 2, x + half, y + letter_height / 2};
        double cost = 0.5 * static_cast<double>(i);
        for (const Rectangle& other : taken) cost += box.overlap(other);
        if (box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom) cost += 1e4;
        if (cost < least) least = cost, best = box, label.at = {x, y};
      }
    }
    taken.push_back(best);
  }
}

std::string auc_against_script(std::string_view what, std::string_view x_label, bool logarithmic,
                               std::span<const AucPoint> points) {
  double left = std::numeric_limits<double>::infinity(), right = 0, low = 1, high = 0;
  for (const AucPoint& p : points) {
    left = std::min(left, p.x), right = std::max(right, p.x);
    for (const std::optional<double>& auc : {p.ours, p.paper})
      if (auc) low = std::min(low, *auc), high = std::max(high, *auc);
  }
  if (logarithmic) {
    left /= 1.4, right *= 1.4;
  } else {
    left = 0, right *= 1.06;
  }
  low -= 0.1 * (high - low) + 0.01, high = std::min(1.005, high + 0.1 * (high - low) + 0.01);
  const auto pixel = [&](double x, double y) {
    const double share = logarithmic ? std::log(x / left) / std::log(right / left) : (x - left) / (right - left);
    return Spot{frame.left + share * (frame.right - frame.left),
                frame.bottom - (y - low) / (high - low) * (frame.bottom - frame.top)};
  };

  std::string ours, theirs, lines;
  std::vector<Label> labels;
  std::vector<Rectangle> marks;
  for (const AucPoint& p : points) {
    Label label{p.label, {}};
    for (const auto& [auc, series] : {std::pair(p.ours, &ours), std::pair(p.paper, &theirs)}) {
      if (!auc) continue;
      const Spot spot = pixel(p.x, *auc);
      *series += fmt::format("{:.9g} {:.9g}\n", p.x, *auc);
      label.marks.push_back(spot);
      marks.push_back({spot.x - 6, spot.y - 6, spot.x + 6, spot.y + 6});
    }
    if (label.marks.size() == 2) {
      lines += fmt::format("{0:.9g} {1:.9g}\n{0:.9g} {2:.9g}\n\n", p.x, *p.ours, *p.paper);
      const auto [top, bottom] = std::minmax(label.marks[0].y, label.marks[1].y);
      marks.push_back({label.marks[0].x - 1.5, top, label.marks[0].x + 1.5, bottom});
    }
    labels.push_back(std::move(label));
  }
  place(labels, marks);

  std::string script = terminal(what, drawing_width, drawing_height);
  script += fmt::format(
      "set lmargin at screen {:.6f}\nset rmargin at screen {:.6f}\nset tmargin at screen {:.6f}\nset bmargin at screen {:.6f}\n"
      "set xlabel {} textcolor rgb '#475467'\nset ylabel 'AUC, test' textcolor rgb '#475467'\nset key above right horizontal\n"
      "set xrange [{:.9g}:{:.9g}]\nset yrange [{:.6g}:{:.6g}]\n{}",
      frame.left / drawing_width, frame.right / drawing_width, 1 - frame.top / drawing_height,
      1 - frame.bottom / drawing_height, in_quotes(x_label), left, right, low, high,
      logarithmic ? "set logscale x\nset xtics (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)\n" : "");
  for (const Label& label : labels)
    script += fmt::format("set label {} at screen {:.6f}, screen {:.6f} center front font ',12' textcolor rgb '{}'\n",
                          in_quotes(label.text), label.at.x / drawing_width, 1 - label.at.y / drawing_height, ink);
  std::vector<std::string> plots;
  const auto data = [&](const char* name, const std::string& values) {
    if (!values.empty()) script += fmt::format("${} << END\n{}END\n", name, values);
    return !values.empty();
  };
  if (data("lines", lines)) plots.push_back("$lines with lines linewidth 1.2 linecolor rgb '#c3cad5' notitle");
  if (data("paper", theirs))
    plots.push_back(
        fmt::format("$paper with points pointtype 6 pointsize 0.75 linewidth 1.8 linecolor rgb '{}' title 'paper'", pink));
  if (data("ours", ours))
    plots.push_back(fmt::format("$ours with points pointtype 7 pointsize 0.75 linecolor rgb '{}' title 'here'", blue));
  return script + "plot " + joined(plots, ", ") + '\n';
}

std::string auc_boxes_script(std::string_view what, std::span<const AucBox> boxes) {
  double low = 1, high = 0;
  for (const AucBox& box : boxes)
    for (const double auc : box.values) low = std::min(low, auc), high = std::max(high, auc);
  std::string script = terminal(what, 500, 400);
  script += fmt::format(
      "unset key\nset bmargin 4.6\nset ylabel 'AUC, test' textcolor rgb '#475467'\nset xrange [0.4:{}.6]\nset yrange "
      "[{:.6g}:{:.6g}]\n"
      "set style fill solid 0.18\nset style boxplot nooutliers\nset boxwidth 0.5\nset grid noxtics\nset xtics scale 0 (",
      boxes.size(), low - 0.06 * (high - low), std::min(1.005, high + 0.06 * (high - low)));
  for (std::size_t b = 0; b < boxes.size(); ++b)
    script += fmt::format("{}\"{}\\n{}\\nn = {}\" {}", b > 0 ? ", " : "", boxes[b].mode, boxes[b].ours ? "here" : "paper",
                          boxes[b].values.size(), b + 1);
  script += ")\n";
  std::vector<std::string> plots;
  for (std::size_t b = 0; b < boxes.size(); ++b) {
    if (boxes[b].values.empty()) continue;
    script += fmt::format("$box{} << END\n", b);
    // Spread, so that equal values are seen to be several.
    for (std::size_t i = 0; i < boxes[b].values.size(); ++i)
      script += fmt::format("{:.9g} {:.3f}\n", boxes[b].values[i],
                            static_cast<double>(b + 1) + 0.07 * (static_cast<double>(i % 5) - 2));
    script += "END\n";
    const std::string_view colour = boxes[b].ours ? blue : pink;
    if (boxes[b].values.size() > 2)
      plots.push_back(fmt::format("$box{} using ({}):1 with boxplot linewidth 1.4 linecolor rgb '{}'", b, b + 1, colour));
    plots.push_back(fmt::format("$box{} using 2:1 with points pointtype {} pointsize 0.5 linecolor rgb '{}'", b,
                                boxes[b].ours ? 7 : 6, colour));
  }
  return script + "plot " + joined(plots, ", ") + '\n';
}

std::optional<double> printed_auc(std::string_view data, std::string_view net, std::string_view mode) {
  for (const PaperScore& score : paper_scores(data))
    if (score.net == net && score.mode == mode) return score.auc;
  return std::nullopt;
}

std::optional<double> our_auc(const Study& study, std::string_view data, std::string_view net, std::string_view mode) {
  const Arm* arm = study.main_arm(data, net, mode);
  return arm && !arm->runs.empty() ? std::optional(arm->estimate.auc) : std::nullopt;
}

}  // namespace

Section figure_3(const Study& study, std::string_view data) {
  Table table{.key = fmt::format("figure3_{}", data),
              .heading = fmt::format("Figure 3: AUC against depth and size, {}, full training", title_of_data(data)),
              .columns = {{"network", "network", ""},
                          {"weight_layers", "layers with weights", ""},
                          {"parameters", "parameters", ""},
                          {"auc", "here", "AUC"},
                          {"paper_auc", "paper", "AUC"}},
              .lines = {},
              .notes = {},
              .drawn = true};
  std::vector<AucPoint> by_depth, by_size;
  bool ours = false;
  for (const Network& network : networks()) {
    const AucPoint point{.label = label_of(network.name),
                         .ours = our_auc(study, data, network.name, "full"),
                         .paper = printed_auc(data, network.name, "full")};
    if (!point.ours && !point.paper) continue;
    ours |= point.ours.has_value();
    const Graph graph = network.build(data == "idc" ? 50 : 96);
    const int depth = count_layers(network, graph).weight_layers;
    const double parameters = static_cast<double>(graph.parameter_count());
    table.lines.push_back(
        {"", {point.label, number(depth, 0), number(parameters, 0), number(point.ours, 4), number(point.paper, 2)}});
    by_depth.push_back(point), by_size.push_back(point);
    by_depth.back().x = depth, by_size.back().x = parameters * 1e-6;
  }
  Section section{
      .heading = table.heading,
      .said = {"Depth: layers with weights, of the network as trained, for every network; the paper's figure mixed two rules "
               "and had a slip (Table 1). Parameters: of the network as trained."},
      .figures = {},
      .tables = {table}};
  if (!ours) {
    section.said = {fmt::format("No network has been fully trained on {} yet.", title_of_data(data))};
    section.tables.clear();
    return section;
  }
  section.figures = {
      {"A: against depth", auc_against_script(fmt::format("depth_{}", data), "layers with weights", false, by_depth)},
      {"B: against size", auc_against_script(fmt::format("size_{}", data), "parameters, millions", true, by_size)}};
  return section;
}

Section figure_4(const Study& study) {
  Section section{.heading = "Figure 4: full training against transfer learning", .said = {}, .figures = {}, .tables = {}};
  Table table{.key = "figure4",
              .heading = section.heading,
              .columns = {{"data", "data", ""},
                          {"mode", "mode", ""},
                          {"network", "network", ""},
                          {"auc", "here", "AUC"},
                          {"paper_auc", "paper", "AUC"}},
              .lines = {},
              .notes = {},
              .drawn = true};
  for (const std::string& data : study.data_sets()) {
    std::vector<AucBox> boxes;
    bool any = false;
    for (const std::string_view mode : {"full", "transfer"}) {
      AucBox ours{mode, true, {}}, paper{mode, false, {}};
      for (const PaperNetwork& network : paper_networks()) {
        const std::optional<double> printed = printed_auc(data, network.net, mode);
        const std::optional<double> auc = our_auc(study, data, network.net, mode);
        if (auc) ours.values.push_back(*auc);
        if (printed) paper.values.push_back(*printed);
        if (auc || printed)
          table.lines.push_back({"", {data, std::string(mode), label_of(network.net), number(auc, 4), number(printed, 2)}});
      }
      any |= !ours.values.empty();
      boxes.push_back(std::move(ours)), boxes.push_back(std::move(paper));
    }
    if (any) {
      section.figures.push_back({title_of_data(data), auc_boxes_script(fmt::format("boxes_{}", data), boxes), true});
    } else {
      section.said.push_back(fmt::format("None of the paper's networks has been trained on {} yet.", title_of_data(data)));
    }
  }
  section.said.push_back("A point is a network, the mean over its seeds; the box holds the middle half of them.");
  if (!section.figures.empty()) section.tables.push_back(std::move(table));
  return section;
}

}  // namespace microtome
