// What the report says, once: of it the page, the Markdown and the CSV files are made.
#pragma once

#include "tools/study/cells.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace microtome {

struct Number {
  double value = 0;
  int digits = 3;            // behind the point
  bool significant = false;  // in all, as with p-values
};
/// Nothing where there is nothing to say.
using Value = std::variant<std::monostate, std::string, Number>;
Value number(std::optional<double> value, int digits);
Value significant(std::optional<double> value, int digits = 4);
std::string to_text(const Value& value);

struct Column {
  std::string key;      // in the CSV file: "auc_low"
  std::string heading;  // for people, below `over`: "from"
  std::string over;     // shared by neighbours: "AUC"
};

struct Table {
  std::string key;  // tables/<key>.csv
  std::string heading;
  std::vector<Column> columns;
  struct Line {
    std::string group;  // a line between lines where it changes; the first column of the CSV file
    std::vector<Value> values;
  };
  std::vector<Line> lines;
  std::vector<std::string> notes;  // below it
  bool drawn = false;              // a figure shows it: it is not in the page
};

struct Figure {
  std::string heading, script;  // gnuplot's
  bool half = false;            // two stand side by side
};

struct Section {
  std::string heading;
  std::vector<std::string> said;
  std::vector<Figure> figures;
  std::vector<Table> tables;
};

struct StudyPage {
  std::string title, lead;
  std::vector<std::pair<std::string, std::string>> figures, facts;
  std::vector<Section> sections;
};

Section table_1(const Study& study);
Section table_2(const Study& study);
Section table_3_or_4(const Study& study, std::string_view data);
Section cells_section(const Study& study);
std::vector<std::pair<std::string, std::string>> facts_of(const Study& study);

/// Of the cells whose weights had learned from test images, a sentence each.
std::vector<std::string> learned_notes(std::span<const CellState> states);

/// A short name for people, the paper's where it has one: "RN50", "ENB0".
std::string label_of(std::string_view net);
std::string title_of_data(std::string_view data);  // "PCam"

std::string joined(const std::vector<std::string>& parts, std::string_view between);

}  // namespace microtome
