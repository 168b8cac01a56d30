#include "tools/statistics/classification.h"

#include "data/csv.h"
#include "engine/check.h"
#include "tools/statistics/significance.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <optional>
#include <unordered_map>

namespace microtome {
namespace {

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Of a line that may be anything, what a message can bear.
std::string shown(std::string_view line) {
  constexpr std::size_t enough = 80;
  std::string text(line.substr(0, enough));
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text + (line.size() > enough ? "…" : "");
}

}  // namespace

Verdict judge(std::span<const double> scores, std::span<const std::uint8_t> labels, std::span<const std::string> groups) {
  Verdict verdict;
  verdict.n = static_cast<std::int64_t>(labels.size());
  verdict.positives = std::count(labels.begin(), labels.end(), std::uint8_t{1});
  verdict.counts = confusion(labels, scores);
  verdict.loss = loss_of_probabilities(labels, scores);
  verdict.accuracy = accuracy(verdict.counts);
  verdict.auc = auc(labels, scores);
  verdict.auc_ci95 = auc_ci95(labels, scores);
  verdict.roc = roc_curve(labels, scores);
  if (groups.empty()) return verdict;
  const std::vector<int> clusters = numbered(groups);
  verdict.groups = 1 + std::ranges::max(clusters);
  if (verdict.groups > 1) verdict.auc_ci95_clustered = clustered_auc_ci95(labels, scores, clusters, 0);
  return verdict;
}

Verdict judge(const Evaluation& evaluation, std::span<const std::uint8_t> labels, std::span<const std::string> groups) {
  Verdict verdict = judge(std::vector<double>(evaluation.scores.begin(), evaluation.scores.end()), labels, groups);
  verdict.loss = evaluation.loss;
  verdict.accuracy = evaluation.accuracy;
  return verdict;
}

nlohmann::ordered_json to_json(const Verdict& v) {
  nlohmann::ordered_json json{{"n", v.n},       {"positives", v.positives},
                              {"loss", v.loss}, {"accuracy", v.accuracy},
                              {"auc", v.auc},   {"auc_ci95", {v.auc_ci95.first, v.auc_ci95.second}}};
  if (v.groups > 0) json["groups"] = v.groups;
  if (v.auc_ci95_clustered) json["auc_ci95_clustered"] = {v.auc_ci95_clustered->first, v.auc_ci95_clustered->second};
  return json;
}

nlohmann::ordered_json to_json(const Confusion& counts) {
  return {{"true_negatives", counts.true_negatives},
          {"false_positives", counts.false_positives},
          {"false_negatives", counts.false_negatives},
          {"true_positives", counts.true_positives}};
}

nlohmann::ordered_json to_json(std::span<const RocPoint> roc) {
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const RocPoint& p : roc) {
    nlohmann::ordered_json threshold;
    if (std::isfinite(p.threshold)) threshold = p.threshold;
    points.push_back({p.false_positive_rate, p.true_positive_rate, threshold});
  }
  return points;
}

std::string to_text(const Verdict& v) {
  const std::string clustered =
      v.auc_ci95_clustered
          ? fmt::format("                   95% interval {:.4f} to {:.4f}, drawing {} patients or slides as wholes\n",
                        v.auc_ci95_clustered->first, v.auc_ci95_clustered->second, v.groups)
          : "";
  return fmt::format(
      "loss      {:.4f}\n"
      "accuracy  {:.4f}\n"
      "AUC       {:.4f}   95% interval {:.4f} to {:.4f}\n"
      "{}\n"
      "           called 0   called 1\n"
      "is 0     {:>10} {:>10}\n"
      "is 1     {:>10} {:>10}\n",
      v.loss, v.accuracy, v.auc, v.auc_ci95.first, v.auc_ci95.second, clustered, v.counts.true_negatives,
      v.counts.false_positives, v.counts.false_negatives, v.counts.true_positives);
}

LabelledScores read_scores(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string line;
  if (!stream || std::filesystem::is_directory(file)) {
    fail(ExitCode::data, "cannot read the scores",
         {.where = file.string(), .found = std::filesystem::is_directory(file) ? "a folder" : std::strerror(errno)});
  }
  const auto next_line = [&] {
    const bool read = static_cast<bool>(std::getline(stream, line));
    if (line.ends_with('\r')) line.pop_back();
    return read;
  };
  next_line();
  if (line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);  // with which spreadsheets begin a file
  const std::vector<std::string> header = csv_fields(line);
  const auto column = [&](std::string_view name) -> std::optional<std::size_t> {
    const auto found = std::ranges::find(header, name);
    return found == header.end() ? std::nullopt : std::optional<std::size_t>(found - header.begin());
  };
  const auto label_column = column("label"), score_column = column("score"), id_column = column("id"),
             group_column = column("group");
  if (!label_column || !score_column) {
    fail(ExitCode::data, "the scores lack a column",
         {.where = file.string() + ", line 1", .expected = "columns label,score", .found = shown(line)});
  }

  LabelledScores result;
  for (int row = 2; next_line(); ++row) {
    const std::vector<std::string> fields = csv_fields(line);
    if (fields.size() == 1 && fields[0].empty()) continue;
    const auto field = [&](std::size_t at) { return at < fields.size() ? std::string_view(fields[at]) : std::string_view(); };
    const std::optional<double> label = number(field(*label_column)), score = number(field(*score_column));
    if (!label || !score || (*label != 0 && *label != 1) || !(*score >= 0 && *score <= 1)) {
      fail(ExitCode::data, "a line of the scores cannot be used",
           {.where = fmt::format("{}, line {}", file.string(), row),
            .expected = "a label, 0 or 1, and a score from 0 to 1",
            .found = shown(line)});
    }
    result.labels.push_back(static_cast<std::uint8_t>(*label));
    result.scores.push_back(*score);
    if (id_column) result.ids.emplace_back(field(*id_column));
    if (group_column) result.groups.emplace_back(field(*group_column));
  }
  if (std::ranges::all_of(result.groups, &std::string::empty)) result.groups.clear();
  if (result.labels.empty())
    fail(ExitCode::data, "the scores are empty", {.where = file.string(), .expected = "a line an image"});
  return result;
}

std::string id_field(const Images& images, std::size_t index) {
  return images.ids.empty() ? fmt::format("{}", index) : csv_field(images.ids[index]);
}

std::string scores_csv(const Images& images, std::span<const float> scores) {
  std::string text = "id,label,score,group\n";
  for (std::size_t i = 0; i < scores.size(); ++i) {
    text += fmt::format("{},{},{:.9g},{}\n", id_field(images, i), images.labels[i], scores[i],
                        images.groups.empty() ? "" : csv_field(images.groups[i]));
  }
  return text;
}

std::vector<int> numbered(std::span<const std::string> groups) {
  std::unordered_map<std::string_view, int> known;
  std::vector<int> numbers;
  int next = 0;
  for (const std::string& name : groups) {
    const bool met = !name.empty() && !known.try_emplace(name, next).second;
    numbers.push_back(met ? known.at(name) : next++);
  }
  return numbers;
}

}  // namespace microtome
