#include "tools/study/report.h"

#include "engine/check.h"
#include "nets/nets.h"
#include "tools/cli/terminal.h"
#include "tools/report/html.h"
#include "tools/study/comparisons.h"
#include "tools/study/figures.h"
#include "tools/study/published_results.h"
#include "tools/study/tables.h"

#include "data/csv.h"
#include "data/file.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

namespace microtome {
namespace {

/// "6 of the paper's twelve networks, and P4M".
std::string networks_text(const Study& study) {
  std::vector<std::string> others;
  for (const Network& network : networks()) {
    const bool run = std::ranges::find(study.arms(), network.name, &Arm::net) != study.arms().end();
    if (run && !paper_network(network.name)) others.push_back(label_of(network.name));
  }
  const auto of_paper = std::ranges::count_if(paper_networks(), [&](const PaperNetwork& n) {
    return std::ranges::find(study.arms(), n.net, &Arm::net) != study.arms().end();
  });
  const std::string further = joined(others, " and ");
  if (of_paper == 0) return further.empty() ? "No network" : fmt::format("{}, which the paper had not", further);
  return fmt::format("{} twelve networks{}",
                     of_paper == std::ssize(paper_networks()) ? "The paper's" : fmt::format("{} of the paper's", of_paper),
                     further.empty() ? "" : ", and " + further);
}

StudyPage study_page(const Study& study) {
  const auto count = [&](CellStatus status) { return std::ranges::count(study.states(), status, &CellState::status); };
  const auto all = std::ssize(study.states()), done = count(CellStatus::done), failed = count(CellStatus::failed);
  std::vector<std::string> data;
  for (const std::string& name : study.data_sets()) data.push_back(title_of_data(name));
  StudyPage page{
      .title = fmt::format("Convolutional networks on {}: the study", data.empty() ? "nothing yet" : joined(data, " and ")),
      .lead = fmt::format("{}, beside what arXiv 2108.13661 printed. For research; not for diagnosis.", networks_text(study)),
      .figures = {{"cells done", fmt::format("{} of {}", done, all)}},
      .facts = facts_of(study),
      .sections = {}};
  if (done < all) {
    std::vector<std::string> rest;
    for (const auto& [status, name] : {std::pair(CellStatus::failed, "failed"), std::pair(CellStatus::stopped, "stopped"),
                                       std::pair(CellStatus::running, "running"), std::pair(CellStatus::waiting, "waiting")})
      if (count(status) > 0) rest.push_back(fmt::format("{} {}", count(status), name));
    page.lead += fmt::format(" A partial study: {} of {} cells are done, {}. Everything below is of those that are done.", done,
                             all, joined(rest, ", "));
  }
  if (const std::size_t learned = learned_notes(study.states()).size(); learned > 0)
    page.lead += fmt::format(
        " The weights of {} of the cells had learned from test images before: their figures are too good, as the notes below "
        "Tables 3 and 4 say.",
        learned);
  if (failed > 0) page.figures.emplace_back("failed", fmt::format("{}", failed));
  if (const auto missing = all - done - failed; missing > 0)
    page.figures.emplace_back("still to come", fmt::format("{}", missing));
  for (const std::string& name : study.data_sets()) {
    const Arm* best = nullptr;
    for (const Arm& arm : study.arms())
      if (arm.data == name && !arm.runs.empty() && (!best || arm.estimate.auc > best->estimate.auc)) best = &arm;
    if (best)
      page.figures.emplace_back(fmt::format("best AUC on {}: {}, {}", title_of_data(name), label_of(best->net), best->mode),
                                fmt::format("{:.3f}", best->estimate.auc));
  }

  page.sections.push_back(table_1(study));
  page.sections.push_back(table_2(study));
  for (const std::string& name : study.data_sets()) page.sections.push_back(table_3_or_4(study, name));
  for (const std::string& name : study.data_sets()) page.sections.push_back(figure_3(study, name));
  page.sections.push_back(figure_4(study));
  page.sections.push_back(full_against_transfer(study));
  page.sections.push_back(past_the_paper(study));
  page.sections.push_back(differences_from_the_paper(study));
  page.sections.push_back(cells_section(study));
  return page;
}

std::string to_html(const Table& table) {
  std::string html = "<table class=\"study\">\n";
  const bool two_heads = std::ranges::any_of(table.columns, [](const Column& c) { return !c.over.empty(); });
  if (two_heads) {
    html += "<tr class=\"over\">";
    for (std::size_t c = 0; c < table.columns.size();) {
      std::size_t end = c + 1;
      while (end < table.columns.size() && !table.columns[c].over.empty() && table.columns[end].over == table.columns[c].over)
        ++end;
      html += fmt::format("<th{} colspan=\"{}\">{}</th>", table.columns[c].over.empty() ? "" : " class=\"group\"", end - c,
                          escape(table.columns[c].over));
      c = end;
    }
    html += "</tr>\n";
  }
  const auto is_text = [&](std::size_t c) {
    return std::ranges::none_of(table.lines, [&](const Table::Line& l) { return std::holds_alternative<Number>(l.values[c]); });
  };
  const auto class_of = [&](std::size_t c) {
    std::string classes = is_text(c) ? " text" : "";
    if (c > 0 && !table.columns[c].over.empty() && table.columns[c].over != table.columns[c - 1].over) classes += " begin";
    if (table.columns[c].key.starts_with("paper_")) classes += " paper";
    return classes.empty() ? classes : fmt::format(" class=\"{}\"", classes.substr(1));
  };
  html += "<tr>";
  for (std::size_t c = 0; c < table.columns.size(); ++c)
    html += fmt::format("<th{}>{}</th>", class_of(c), escape(table.columns[c].heading));
  html += "</tr>\n";
  std::string group;
  for (const Table::Line& line : table.lines) {
    if (line.group != group)
      html += fmt::format("<tr class=\"between\"><td colspan=\"{}\">{}</td></tr>\n", table.columns.size(), escape(line.group));
    group = line.group;
    html += "<tr>";
    for (std::size_t c = 0; c < line.values.size(); ++c) {
      html += fmt::format("<td{}>{}</td>", class_of(c), escape(to_text(line.values[c])));
    }
    html += "</tr>\n";
  }
  html += "</table>\n";
  for (const std::string& note : table.notes) html += fmt::format("<p class=\"soft\">{}</p>\n", escape(note));
  return html;
}

constexpr std::string_view more_style = R"(<style>
table.study { font-size: 14px; width: 100%; }
table.study + p { margin-top: 12px; }
table.study .text { text-align: left; }
table.facts { width: 100%; }
table.study td:last-child { white-space: normal; }
table.study th { vertical-align: bottom; white-space: normal; }
table.study tr.over th { border-bottom: 0; padding-bottom: 0; }
table.study th.group { text-align: center; border-bottom: 1px solid var(--line) !important; color: var(--ink); }
table.study .begin { padding-left: 14px; }
table.study td.paper { color: var(--pink); }
table.study tr.between td { color: var(--ink); font-weight: 650; padding-top: 14px; white-space: normal; }
section h3 { font-size: 16px; margin: 22px 0 8px; }
section > p { margin: 0 0 8px; }
p.soft { color: var(--soft); font-size: 14px; margin: 4px 0 0; }
section .drawings { display: grid; grid-template-columns: repeat(auto-fill, minmax(430px, 1fr)); gap: 8px 24px; }
</style>
)";

std::string to_html(const Section& section) {
  std::string html = fmt::format("<section><h2>{}</h2>\n", escape(section.heading));
  for (const std::string& text : section.said) html += fmt::format("<p>{}</p>\n", escape(text));
  html += !section.figures.empty() && section.figures[0].half ? "<div class=\"drawings\">" : "<div>";
  for (const Figure& figure : section.figures)
    html += fmt::format("<div><h3>{}</h3>{}</div>\n", escape(figure.heading), drawing(figure.script));
  html += "</div>\n";
  for (const Table& table : section.tables) {
    if (table.drawn) continue;
    if (table.heading != section.heading) html += fmt::format("<h3>{}</h3>\n", escape(table.heading));
    html += to_html(table);
  }
  return html + "</section>\n";
}

std::string to_html(const StudyPage& page) {
  std::string html = std::string(more_style) + figures_row(page.figures) + facts_section("What was run", page.facts);
  for (const Section& section : page.sections) html += to_html(section);
  html += "<footer>Pink: as printed in the paper [Bonnet2021]. The same figures: report.md and tables/*.csv.</footer>\n";
  return microtome::page(page.title, page.lead, html);
}

std::string markdown_text(std::string_view text) {
  std::string all;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '*' || c == '_' || c == '`' || c == '\\') all += '\\';
    all += c == '\n' ? ' ' : c;
  }
  return all;
}

std::string to_markdown(const Table& table) {
  const bool grouped = std::ranges::any_of(table.lines, [](const Table::Line& l) { return !l.group.empty(); });
  std::string text = grouped ? "| |" : "|", rule = grouped ? "|---|" : "|";
  for (const Column& c : table.columns) {
    text += fmt::format(" {}{}{} |", markdown_text(c.over), c.over.empty() ? "" : ", ", markdown_text(c.heading));
    rule += "---|";
  }
  text += fmt::format("\n{}\n", rule);
  for (const Table::Line& line : table.lines) {
    text += grouped ? fmt::format("| {} |", markdown_text(line.group)) : "|";
    for (const Value& value : line.values) text += fmt::format(" {} |", markdown_text(to_text(value)));
    text += "\n";
  }
  for (const std::string& note : table.notes) text += fmt::format("\n{}\n", markdown_text(note));
  return text + "\n";
}

std::string to_markdown(const StudyPage& page) {
  std::string text = fmt::format("# {}\n\n{}\n\n", markdown_text(page.title), markdown_text(page.lead));
  for (const auto& [name, value] : page.figures) text += fmt::format("- {}: {}\n", markdown_text(name), markdown_text(value));
  text += "\n| what was run | |\n|---|---|\n";
  for (const auto& [name, value] : page.facts) text += fmt::format("| {} | {} |\n", markdown_text(name), markdown_text(value));
  for (const Section& section : page.sections) {
    text += fmt::format("\n## {}\n\n", markdown_text(section.heading));
    for (const std::string& said : section.said) text += markdown_text(said) + "\n\n";
    for (const Table& table : section.tables) {
      if (table.heading != section.heading) text += fmt::format("### {}\n\n", markdown_text(table.heading));
      text += to_markdown(table);
    }
  }
  return text;
}

std::string csv_value(const Value& value) {
  if (const auto* n = std::get_if<Number>(&value)) return fmt::format("{:.9g}", n->value);
  return csv_field(to_text(value));
}

std::string to_csv(const Table& table) {
  const bool grouped = std::ranges::any_of(table.lines, [](const Table::Line& l) { return !l.group.empty(); });
  std::vector<std::string> fields;
  if (grouped) fields.emplace_back("group");
  for (const Column& c : table.columns) fields.push_back(c.key);
  std::string text = joined(fields, ",") + '\n';
  for (const Table::Line& line : table.lines) {
    fields.clear();
    if (grouped) fields.push_back(csv_field(line.group));
    for (const Value& value : line.values) fields.push_back(csv_value(value));
    text += joined(fields, ",") + '\n';
  }
  return text;
}

void write(const std::filesystem::path& file, const std::string& text) {
  const Bytes part = std::as_bytes(std::span(text.data(), text.size()));
  write_whole(file, {&part, 1}, "report");
}

}  // namespace

void write_report(std::span<const CellState> states, const std::filesystem::path& folder) {
  const Study study(states);
  const StudyPage page = study_page(study);
  std::error_code error;
  std::filesystem::create_directories(folder / "tables", error);
  if (error)
    fail(ExitCode::usage, "cannot make the report's folder", {.where = (folder / "tables").string(), .found = error.message()});
  for (const Section& section : page.sections)
    for (const Table& table : section.tables) write(folder / "tables" / (table.key + ".csv"), to_csv(table));
  write(folder / "report.md", to_markdown(page));
  write(folder / "report.html", to_html(page));
}

}  // namespace microtome
