#include "tools/report/scores.h"

#include "data/csv.h"
#include "data/digest.h"
#include "data/file.h"
#include "data/patient.h"
#include "data/tree.h"
#include "engine/check.h"
#include "tools/cli/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <ranges>
#include <string_view>
#include <unordered_map>

namespace microtome {
namespace {

using Names = std::span<const std::string_view>;

constexpr std::string_view scores_header = "id,label,score,group";

/// The first name is the one that this program writes.
constexpr std::array<std::string_view, 9> label_names{"label",  "labels",       "y_true", "true", "truth",
                                                      "target", "ground_truth", "y",      "class"};
constexpr std::array<std::string_view, 4> probability_names{"probability", "prob", "proba", "y_prob"};
constexpr std::array<std::string_view, 3> other_score_names{"score", "scores", "y_score"};
constexpr std::array<std::string_view, 3> prediction_names{"y_pred", "pred", "prediction"};  // calls, often
constexpr std::array<std::string_view, 2> logit_names{"logit", "logits"};
constexpr std::array<std::string_view, 10> id_names{"id",        "image_id",   "image", "file",     "filename",
                                                    "file_name", "image_name", "path",  "filepath", "file_path"};
constexpr std::array<std::string_view, 18> group_names{
    "group",  "patient", "patient_id", "patientid", "slide",      "slide_id", "slideid",  "slide_name", "wsi",
    "wsi_id", "case",    "case_id",    "subject",   "subject_id", "donor",    "donor_id", "specimen",   "specimen_id"};

std::string list(Names names) {
  std::string text;
  for (const std::string_view name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

/// Either a point or a comma before the decimals.
std::optional<double> number(std::string_view text) {
  std::string plain(text.starts_with('+') ? text.substr(1) : text);
  if (const std::size_t comma = plain.find(','); comma != plain.npos && plain.find('.') == plain.npos) plain[comma] = '.';
  double value = 0;
  const char* const last = plain.data() + plain.size();
  const auto [end, error] = std::from_chars(plain.data(), last, value);
  if (error != std::errc() || end != last) return std::nullopt;
  return value;
}

std::optional<std::uint8_t> label_of(std::string_view text) {
  const std::string lower = lower_case(text);
  if (lower == "true") return std::uint8_t{1};
  if (lower == "false") return std::uint8_t{0};
  const std::optional<double> value = number(text);
  if (!value || (*value != 0 && *value != 1)) return std::nullopt;
  return static_cast<std::uint8_t>(*value);
}

/// Of a line that may be anything, what a message can bear.
std::string shown(std::string_view line) {
  constexpr std::size_t enough = 80;
  std::string text(line.substr(0, enough));
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text + (line.size() > enough ? "…" : "");
}

/// Columns that could each be meant: the first is taken, and the others must agree with it.
using Choice = std::vector<std::size_t>;

/// A line's fields by what their columns are.
struct Columns {
  char separator = ',';
  std::vector<std::string> names;  // as in the file
  Choice labels, scores, ids, groups;
  std::vector<bool> are_logits, are_predictions;  // of `scores`
  bool logits = false;                            // the scores that are taken
};

/// Those of the names, in the names' order.
Choice find_columns(std::span<const std::string> lower, Names names) {
  Choice found;
  for (const std::string_view name : names)
    for (std::size_t at = 0; at < lower.size(); ++at)
      if (lower[at] == name) found.push_back(at);
  return found;
}

std::optional<Columns> columns_of(std::string_view header, char separator, Scale scale, const std::string& where) {
  Columns columns{.separator = separator, .names = csv_fields(header, separator)};
  std::vector<std::string> lower;
  for (const std::string& name : columns.names) {
    lower.push_back(lower_case(name));
    std::ranges::replace_if(
        lower.back(), [](char c) { return c == ' ' || c == '-'; }, '_');
  }
  columns.labels = find_columns(lower, label_names);
  if (columns.labels.empty()) return std::nullopt;
  const Choice logits = find_columns(lower, logit_names), probabilities = find_columns(lower, probability_names);
  const auto add = [&](const Choice& found, bool are_logits, bool are_predictions = false) {
    columns.scores.insert(columns.scores.end(), found.begin(), found.end());
    columns.are_logits.resize(columns.scores.size(), are_logits);
    columns.are_predictions.resize(columns.scores.size(), are_predictions);
  };
  const bool asked = scale == Scale::logits;
  if (asked) add(logits, true);
  if (columns.scores.empty()) {
    const Choice others = find_columns(lower, other_score_names), predictions = find_columns(lower, prediction_names);
    if (asked && others.empty() && predictions.empty() && !probabilities.empty())
      fail(ExitCode::data, "--logits asks for logits, and the scores are named as probabilities",
           {.where = where,
            .expected = "a column of logits: " + list(logit_names),
            .found = columns.names[probabilities[0]],
            .next = "leave out --logits, or rename the column"});
    add(others, asked);
    if (!asked) add(probabilities, false);
    add(predictions, asked, true);
    if (!asked) add(logits, true);
  }
  if (columns.scores.empty()) return std::nullopt;
  columns.logits = columns.are_logits[0];
  columns.ids = find_columns(lower, id_names);
  columns.groups = find_columns(lower, group_names);
  return columns;
}

/// The line that names the columns, and where it is. Before it, spreadsheets may say what separates: "sep=;".
struct Header {
  std::string_view line;
  int number = 1;
  std::string separators = ",;\t|";
};

/// Why a first line that names no columns does not, where that can be told, and what helps.
std::pair<std::string, std::string> why_nameless(std::string_view line, const std::filesystem::path& file) {
  if (const std::string kind = kind_of_file(file); !kind.empty()) return {kind, "name the CSV file of the scores"};
  if (line.starts_with('{') || line.starts_with('[')) return {"JSON", "name the CSV file of the scores"};
  if (line.starts_with('#')) return {"a comment", "take out the lines above the columns' names"};
  if (line.find('\r') != line.npos) return {"lines that end in CR alone, as on old Macs", "save them with LF or CR LF"};
  if (line.find_first_not_of("0123456789.,;|\t+-eE \r") == line.npos) return {"", "put a line label,score above the others"};
  return {"", "name the columns so; between them a comma, a semicolon, a tab or a |"};
}

Columns read_header(const Header& header, Scale scale, const std::filesystem::path& file) {
  const std::string_view line = header.line;
  const std::string where = fmt::format("{}, line {}", file.string(), header.number);
  if (line.starts_with("\xff\xfe") || line.starts_with("\xfe\xff")) {
    fail(ExitCode::data, "the scores are not in UTF-8",
         {.where = file.string(), .found = "UTF-16", .next = "save them as \"CSV UTF-8\""});
  }
  for (const char separator : header.separators) {
    const std::optional<Columns> columns = columns_of(line, separator, scale, where);
    if (!columns) continue;
    for (const std::size_t at : {columns->labels[0], columns->scores[0]}) {
      if (std::ranges::count(columns->names, columns->names[at]) > 1) {
        fail(ExitCode::data, "two columns of the scores have one name",
             {.where = where, .expected = fmt::format("one column {}", columns->names[at]), .found = shown(line)});
      }
    }
    return *columns;
  }
  const auto [found, next] = why_nameless(line, file);
  fail(ExitCode::data, "the scores' first line does not name the columns that are needed",
       {.where = where,
        .expected = "a column of each: " + score_columns(),
        .found = found.empty() ? shown(line) : found,
        .next = next});
}

/// What is wrong with a line, by its columns.
[[noreturn]] void refuse_line(const Columns& columns, std::span<const std::string> fields, std::string_view line,
                              const std::string& where) {
  Report report{.where = where, .found = shown(line)};
  if (fields.size() > columns.names.size()) {
    report.expected = fmt::format("{} fields, as many as columns", columns.names.size());
    if (columns.separator == ',')
      report.next = "where commas stand before decimals, another sign must stand between columns: semicolons, say";
    fail(ExitCode::data, "a line of the scores has more fields than there are columns", std::move(report));
  }
  if (fields.size() < columns.names.size()) {
    report.expected = fmt::format("{} fields, as many as columns", columns.names.size());
    report.next = "get the file again; what is not known of an image is an empty field, between separators";
    fail(ExitCode::data, "a line of the scores has fewer fields than there are columns", std::move(report));
  }
  const std::size_t label_at = columns.labels[0], score_at = columns.scores[0];
  const std::optional<double> score = number(fields[score_at]);
  if (!label_of(fields[label_at])) {
    report.expected = fmt::format("0 or 1, or False or True, under {}", columns.names[label_at]);
  } else if (columns.logits) {
    report.expected = fmt::format("a finite number under {}", columns.names[score_at]);
  } else {
    report.expected = fmt::format("a score from 0 to 1 under {}", columns.names[score_at]);
    if (score && std::isfinite(*score)) report.next = "add --logits if these are logits; divide by 100 if they are percent";
  }
  fail(ExitCode::data, "a line of the scores cannot be used", std::move(report));
}

/// Another column that could be meant; one that holds what such a column never holds could not.
struct Rival {
  std::size_t at = 0;
  bool possible = true;
  int line = 0;       // of the first difference
  std::string found;  // there
};

void refuse_rivals(std::span<const Rival> rivals, std::string_view what, const std::string& taken,
                   const std::filesystem::path& file, const Columns& columns) {
  for (const Rival& rival : rivals) {
    if (!rival.possible || rival.line == 0) continue;
    const std::string& name = columns.names[rival.at];
    fail(ExitCode::data, fmt::format("two columns of {} differ, and either could be meant", what),
         {.where = fmt::format("{}, line {}", file.string(), rival.line),
          .expected = fmt::format("one column of {}, or the same in both: {} and {}", what, taken, name),
          .found = rival.found,
          .next = fmt::format("rename {} or {}, or leave it out", taken, name)});
  }
}

/// Of the labels and scores of a file that could be other columns': what differs.
class Rivals {
 public:
  explicit Rivals(const Columns& columns) : columns_(columns) {
    for (const std::size_t at : columns.labels | std::views::drop(1)) labels_.push_back({.at = at});
    for (const std::size_t at : columns.scores | std::views::drop(1)) scores_.push_back({.at = at});
    calls_.assign(columns.scores.size(), true);
  }

  void look(std::span<const std::string> fields, std::uint8_t label, double score, int line) {
    for (Rival& rival : labels_) {
      const std::optional<std::uint8_t> other = label_of(fields[rival.at]);
      note(rival, other.has_value(), other == label, columns_.labels[0], fields, line);
    }
    const auto probability = [&](std::size_t i, double value) {
      return columns_.are_logits[i] ? 1 / (1 + std::exp(-value)) : value;
    };
    calls_[0] = calls_[0] && (score == 0 || score == 1);
    for (std::size_t i = 1; i < columns_.scores.size(); ++i) {
      Rival& rival = scores_[i - 1];
      const double other = number(fields[rival.at]).value_or(NAN);
      calls_[i] = calls_[i] && (other == 0 || other == 1);
      const bool possible = columns_.are_logits[i] ? std::isfinite(other) : other >= 0 && other <= 1;
      constexpr double rounding = 1e-4;  // of files with four decimals
      note(rival, possible, std::abs(probability(i, other) - probability(0, score)) <= rounding, columns_.scores[0], fields,
           line);
    }
  }

  /// Predictions that are all 0 or 1 are calls, which stand beside scores without being any.
  void require_agreement(const std::filesystem::path& file) {
    for (std::size_t i = 1; i < columns_.scores.size(); ++i)
      if (columns_.are_predictions[i] && calls_[i] && !calls_[0]) scores_[i - 1].possible = false;
    refuse_rivals(labels_, "labels", columns_.names[columns_.labels[0]], file, columns_);
    refuse_rivals(scores_, "scores", columns_.names[columns_.scores[0]], file, columns_);
  }

 private:
  void note(Rival& rival, bool possible, bool equal, std::size_t taken, std::span<const std::string> fields, int line) const {
    rival.possible = rival.possible && possible;
    if (equal || rival.line > 0) return;
    rival.line = line;
    rival.found =
        shown(fmt::format("{} {}, {} {}", columns_.names[taken], fields[taken], columns_.names[rival.at], fields[rival.at]));
  }

  const Columns& columns_;
  std::vector<Rival> labels_, scores_;
  std::vector<bool> calls_;  // by column of scores: all that there is so far is 0 or 1
};

/// The patients or slides of the images: of the columns that say any the first, which the others must divide alike.
std::vector<std::string> choose_groups(const Columns& columns, std::vector<std::vector<std::string>> by_column,
                                       std::span<const int> lines, const std::filesystem::path& file,
                                       std::vector<std::string>& notes) {
  std::vector<std::size_t> known;
  for (std::size_t i = 0; i < by_column.size(); ++i)
    if (!std::ranges::all_of(by_column[i], &std::string::empty)) known.push_back(i);
  if (known.empty()) return {};
  std::vector<std::string>& groups = by_column[known[0]];
  const std::string& taken = columns.names[columns.groups[known[0]]];
  for (const std::size_t i : known | std::views::drop(1)) {
    Rival rival{.at = columns.groups[i]};
    std::unordered_map<std::string_view, std::string_view> there, back;
    for (std::size_t row = 0; row < groups.size() && rival.line == 0; ++row) {
      const std::string &group = groups[row], &other = by_column[i][row];
      if (there.try_emplace(group, other).first->second == other && back.try_emplace(other, group).first->second == group)
        continue;
      rival.line = lines[row];
      rival.found = shown(fmt::format("{} {}, {} {}: not so before", taken, group, columns.names[rival.at], other));
    }
    refuse_rivals({&rival, 1}, "patients or slides", taken, file, columns);
  }
  if (const std::ptrdiff_t empty = std::ranges::count(groups, ""); empty > 0) {
    const auto first = static_cast<std::size_t>(std::ranges::find(groups, "") - groups.begin());
    notes.push_back(
        fmt::format("{} is not known for {} of {} images, first in line {}: each counts as a patient or slide of its own",
                    taken, empty, groups.size(), lines[first]));
  }
  return std::move(groups);
}

/// Lines are told apart by the first column that names images; the others may say an image twice (the slide's file, say), but
/// not with the same label and score.
void require_each_once(const LabelledScores& read, std::span<const std::vector<std::string>> by_column,
                       std::span<const int> lines, const Columns& columns, const std::filesystem::path& file,
                       std::vector<std::string>& notes) {
  for (std::size_t c = 0; c < by_column.size(); ++c) {
    std::unordered_map<std::string, std::size_t> first;
    std::size_t again = 0, named = 0;
    const std::string& name = columns.names[columns.ids[c]];
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (by_column[c][i].empty()) continue;
      ++named;
      const auto [known, is_new] = first.try_emplace(std::filesystem::path(by_column[c][i]).lexically_normal().string(), i);
      if (is_new) continue;
      const std::size_t before = known->second;
      if (c > 0 && (read.labels[before] != read.labels[i] || read.scores[before] != read.scores[i])) {
        ++again;
        continue;
      }
      fail(ExitCode::data, "an image is there twice among the scores",
           {.where = fmt::format("{}, lines {} and {}", file.string(), lines[before], lines[i]),
            .expected = fmt::format("each {} once", name),
            .found = shown(by_column[c][i]),
            .next = "leave one line an image; a column of patients should be called patient"});
    }
    if (again > 0)
      notes.push_back(fmt::format("{} says {} names in {} lines: lines are taken for images by {}", name, first.size(), named,
                                  columns.names[columns.ids[0]]));
  }
}

/// Names of IDC's form say the class too.
void note_other_classes(const Columns& columns, std::span<const std::vector<std::string>> by_column, LabelledScores& read) {
  for (std::size_t c = 0; c < by_column.size(); ++c) {
    std::int64_t others = 0;
    for (std::size_t i = 0; i < read.labels.size(); ++i) {
      const std::optional<std::uint8_t> named = class_in_name(by_column[c][i]);
      others += named && *named != read.labels[i];
    }
    if (others > 0)
      read.notes.push_back(fmt::format("{} says another class than {} of {} of {} images", columns.names[columns.ids[c]],
                                       columns.names[columns.labels[0]], others, read.labels.size()));
  }
}

/// Indices are written from 0 on, without a gap.
void require_no_gap(const std::vector<std::string>& ids, const std::filesystem::path& file) {
  std::vector<std::size_t> indices;
  for (const std::string& id : ids) {
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), index);
    if (error != std::errc() || end != id.data() + id.size()) return;  // paths: no telling
    indices.push_back(index);
  }
  std::ranges::sort(indices);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] == i) continue;
    fail(ExitCode::data, "images are missing among the scores",
         {.where = file.string(),
          .expected = fmt::format("a line for each id from 0 to {}", indices.back()),
          .found = fmt::format("none for {}; {} lines in all", i, indices.size()),
          .next = "write the scores anew: evaluate --save-scores"});
  }
}

}  // namespace

std::string score_columns() {
  return fmt::format("a label ({}) and a score ({}, {}, {}; {})", list(label_names), list(other_score_names),
                     list(probability_names), list(prediction_names), list(logit_names));
}

LabelledScores read_scores(const std::filesystem::path& file, Scale scale) {
  const std::string text = [&] {
    try {
      return read_text(file, ExitCode::data);
    } catch (const Error& error) {
      fail(ExitCode::data, "cannot read the scores", error.report());
    }
  }();
  std::string_view left = text, line;
  const auto without_return = [](std::string_view whole) { return whole.substr(0, whole.size() - whole.ends_with('\r')); };
  if (left.starts_with("\xef\xbb\xbf")) left.remove_prefix(3);  // with which spreadsheets begin a file
  Header header;
  for (; take_line(left, line); ++header.number) {
    line = without_return(line);
    const bool separator = header.number == 1 && line.size() == 5 && lower_case(line).starts_with("sep=");
    if (separator) header.separators = std::string(1, line.back());
    if (!separator && line.find_first_not_of(" \t") != line.npos) break;
  }
  header.line = line;
  const Columns columns = read_header(header, scale, file);
  const bool ours = line == scores_header;

  LabelledScores result{.logits = columns.logits};
  Rivals rivals(columns);
  std::vector<std::vector<std::string>> groups(columns.groups.size()), ids(columns.ids.size());
  std::vector<int> lines;
  for (int row = header.number + 1, rows = 1; take_csv_record(left, line, columns.separator); row += rows) {
    rows = 1 + static_cast<int>(std::ranges::count(line, '\n'));
    line = without_return(line);
    std::vector<std::string> fields = csv_fields(line, columns.separator);
    if (fields.size() == 1 && fields[0].empty()) continue;
    const std::string where = fmt::format("{}, line {}", file.string(), row);
    while (fields.size() > columns.names.size() && fields.back().empty()) fields.pop_back();
    if (left.empty() && !text.ends_with('\n') && fields.size() < columns.names.size()) {
      fail(ExitCode::data, "the scores are cut short",
           {.where = where,
            .expected = fmt::format("{} fields and a line's end", columns.names.size()),
            .found = shown(line),
            .next = "get the file again"});
    }
    if (fields.size() != columns.names.size()) refuse_line(columns, fields, line, where);
    const std::optional<std::uint8_t> label = label_of(fields[columns.labels[0]]);
    const std::optional<double> score = number(fields[columns.scores[0]]);
    const bool in_range = score && (columns.logits ? std::isfinite(*score) : *score >= 0 && *score <= 1);
    if (!label || !in_range) refuse_line(columns, fields, line, where);
    rivals.look(fields, *label, *score, row);
    result.labels.push_back(*label);
    result.scores.push_back(*score);
    for (std::size_t i = 0; i < groups.size(); ++i)
      groups[i].push_back(is_unknown(fields[columns.groups[i]]) ? "" : fields[columns.groups[i]]);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i].push_back(fields[columns.ids[i]]);
    lines.push_back(row);
  }
  if (result.labels.empty())
    fail(ExitCode::data, "the scores are empty", {.where = file.string(), .expected = "a line an image"});
  rivals.require_agreement(file);
  require_each_once(result, ids, lines, columns, file, result.notes);
  if (ours) require_no_gap(ids[0], file);

  result.groups = choose_groups(columns, std::move(groups), lines, file, result.notes);
  note_other_classes(columns, ids, result);
  for (std::size_t c = 0; c < ids.size() && result.groups.empty(); ++c) {
    const std::string& name = columns.names[columns.ids[c]];
    std::vector<std::string> patients;
    for (const std::string& id : ids[c]) patients.push_back(patient_in_path(id));
    const std::ptrdiff_t unknown = std::ranges::count(patients, "");
    if (unknown == 0) {
      result.notes.push_back(
          fmt::format("patients are those that {} says: {} of {}", name, patients.front(), shown(ids[c].front())));
      result.groups = std::move(patients);
    } else if (unknown < std::ssize(patients)) {
      result.notes.push_back(fmt::format("patients are not known: {} says them of {} images and not of {}", name,
                                         std::ssize(patients) - unknown, unknown));
    }
  }
  if (!ids.empty()) result.ids = std::move(ids[0]);
  if (!columns.logits && std::ranges::all_of(result.scores, [](double score) { return score == 0 || score == 1; })) {
    result.notes.push_back(fmt::format("{} holds calls, 0 or 1, and no scores: the AUC is that of a single threshold",
                                       columns.names[columns.scores[0]]));
  }
  return result;
}

void compare_with_result(const std::filesystem::path& file, LabelledScores& scores) {
  const std::filesystem::path result = file.parent_path() / "result.json";
  if (file.filename() != "scores.csv") return;
  const Json document = read_json(result).value_or(Json());
  if (!document.is_object() || !document.contains("test") || !document["test"].is_object()) return;
  const Json n = document["test"].value("n", Json()), digest = document.value("scores_digest", Json());
  if (n.is_number_unsigned() && n.get<std::size_t>() != scores.labels.size())
    fail(ExitCode::data, "images are missing among the scores, or they are others'",
         {.where = file.string(),
          .expected = fmt::format("{} images, as in {}", n.get<std::size_t>(), result.string()),
          .found = fmt::format("{}", scores.labels.size()),
          .next = "write the scores anew: evaluate --save-scores"});
  if (digest.is_string() && digest != text_digest(read_text(file, ExitCode::data)))
    scores.notes.push_back(fmt::format("these are not the scores that the run of {} wrote", result.string()));
}

std::string id_field(const Images& images, std::size_t index) {
  return images.ids.empty() ? fmt::format("{}", index) : csv_field(images.ids[index]);
}

std::string scores_csv(const Images& images, std::span<const float> scores) {
  std::string text = fmt::format("{}\n", scores_header);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    text += fmt::format("{},{},{:.9g},{}\n", id_field(images, i), images.labels[i], scores[i],
                        images.groups.empty() ? "" : csv_field(images.groups[i]));
  }
  return text;
}

Json to_json(const Overlap& overlap, const Images& images) {
  Json json{{"images", overlap.images}};
  if (images.groups.empty()) return json;
  json["groups"] = overlap.groups;
  json["group_images"] = overlap.group_images;
  return json;
}

std::string learned_text(const Json& test_learned) {
  const auto count = [&](const char* key) {
    const Json value = test_learned.is_object() ? test_learned.value(key, Json()) : Json();
    return value.is_number_integer() ? value.get<std::int64_t>() : 0;
  };
  std::string of;
  if (const std::int64_t images = count("images"); images > 0) of = fmt::format("from {} of the test images", images);
  if (const std::int64_t groups = count("groups"); groups > 0)
    of += fmt::format("{}from {} of the test split's patients or slides, by name ({} images)", of.empty() ? "" : " and ",
                      groups, count("group_images"));
  return of.empty() ? "" : fmt::format("The weights had learned {}: figures on these are too good.", of);
}

}  // namespace microtome
