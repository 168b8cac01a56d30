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

struct LabelledScores {
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;  // 0 to 1, or logits
  bool logits = false;
  std::vector<std::string> ids, groups;  // of each image, or empty where they are not known
  std::vector<std::string> notes;        // what a reader should know
};

/// What the column of scores holds. `as_named`: probabilities, or logits where the only such column has that name.
enum class Scale { as_named, logits };

/// A CSV file with a label (0 or 1, False or True) and a score for each image, under the names that they commonly have
/// (score_columns()), in any order, among others; between commas, semicolons or tabs; with decimal points, or with decimal
/// commas where they separate nothing. Groups (patients, slides) are a column's, or read from file names of IDC's form; where
/// some have none, a note says so. Throws Error(ExitCode::data) naming the line: also where two columns could be
/// meant and differ, for an image that is there twice, and where scores_csv() wrote the file, for one that is not there.
LabelledScores read_scores(const std::filesystem::path& file, Scale scale = Scale::as_named);

/// The names that columns may have: "label, y_true, … and score, probability, …".
std::string score_columns();

/// Where a run's result.json lies beside its scores.csv: throws Error(ExitCode::data) if that is of another number of images;
/// `notes` get it where these are not the scores that the run wrote.
void compare_with_result(const std::filesystem::path& file, LabelledScores& scores);

/// What read_scores() reads back: id,label,score,group.
std::string scores_csv(const Images& images, std::span<const float> scores);

/// How much of `images` the weights have learned from: {"images", "groups", "group_images"}; without groups where these are not
/// known.
Json to_json(const Overlap& overlap, const Images& images);

/// For people, of a run's "test_learned": "The weights had learned from 3 of the test images …"; empty where from none.
std::string learned_text(const Json& test_learned);

/// As the column `id` of a CSV file has it: a path, or the image's index.
std::string id_field(const Images& images, std::size_t index);

}  // namespace microtome
