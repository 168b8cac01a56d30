#include "tools/report/scores.h"

#include "data/csv.h"
#include "engine/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>

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

Json to_json(const Overlap& overlap, const Images& images) {
  Json json{{"images", overlap.images}};
  if (images.groups.empty()) return json;
  json["groups"] = overlap.groups;
  json["group_images"] = overlap.group_images;
  return json;
}

}  // namespace microtome
