// Scores of images as CSV files: what evaluate and predict save, and what is read again.
#pragma once

#include "data/provenance.h"
#include "engine/dataset.h"
#include "tools/cli/json.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace microtome {

/// A CSV file with the columns `label` (0 or 1) and `score` (0 to 1), in any order, among others; ids and groups (patients,
/// slides) where it has `id` and `group`, else empty. Throws Error(ExitCode::data) naming the line.
struct LabelledScores {
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
  std::vector<std::string> ids, groups;
};
LabelledScores read_scores(const std::filesystem::path& file);

/// What read_scores() reads back: id,label,score,group.
std::string scores_csv(const Images& images, std::span<const float> scores);

/// How much of `images` the weights have learned from: {"images", "groups", "group_images"}; without groups where these are not
/// known.
Json to_json(const Overlap& overlap, const Images& images);

/// As the column `id` of a CSV file has it: a path, or the image's index.
std::string id_field(const Images& images, std::size_t index);

}  // namespace microtome
