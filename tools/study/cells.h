// The study's cells as its report reads them: seeds of the same training together, with the scores of their test images.
#pragma once

#include "tools/study/cell.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

/// scores.csv or scores_tta.csv of a cell.
struct TestScores {
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
  std::vector<int> groups;  // patients or slides by number; empty where they are not known
  int group_count = 0;
  std::uint64_t images = 0;  // a digest of ids and labels: equal where the images are
};

/// A cell that is done and has metrics of its test images.
struct StudyRun {
  const CellState* state = nullptr;
  double loss = 0, accuracy = 0, auc = 0;
  std::optional<std::pair<double, double>> auc_ci95;  // as the run wrote it
  std::optional<double> tta_auc;
  std::optional<TestScores> scores, tta_scores;
};

/// Over the runs of one training.
struct Estimate {
  int runs = 0;
  double loss = 0, accuracy = 0, auc = 0;             // means
  std::optional<double> deviation;                    // of the AUCs between seeds; from two seeds on
  std::optional<std::pair<double, double>> auc_ci95;  // of the mean AUC, for other test images
  int groups = 0;  // drawn as wholes for the interval, or too few for one; 0: images, by DeLong
};

/// What two trainings may differ in but for the seed.
struct Arm {
  std::string data, net, mode, preprocess, augment;
  std::vector<const CellState*> cells;  // by seed, done or not
  std::vector<StudyRun> runs;           // of those that are done

  Estimate estimate;

  bool matches(const Arm& other) const;  // all but seeds
};

/// Mean AUCs of the seeds that both have, on the same test images.
struct ArmTest {
  std::vector<std::uint64_t> seeds;
  double auc_a = 0, auc_b = 0;
  std::optional<double> deviation;                // of the differences between seeds; from two on
  std::optional<double> z, p;                     // paired DeLong; nothing without scores of the same images, or in doubt
  std::optional<std::pair<double, double>> ci95;  // of a's less b's
  std::string doubt;                              // why there are none though the images are the same
};
std::optional<ArmTest> compare(const Arm& a, const Arm& b);  // nothing where they share no seed

/// To the others native preprocessing is the paper's.
bool has_published_base(std::string_view net);

class Study {
 public:
  /// Reads the scores of all cells that are done. What cannot be read is in notes().
  explicit Study(std::span<const CellState> states);

  std::span<const CellState> states() const { return states_; }
  std::span<const Arm> arms() const { return arms_; }  // in the order of the states
  const std::vector<std::string>& notes() const { return notes_; }

  /// Nothing where the study has no such cells.
  const Arm* arm(const Arm& like) const;
  std::vector<std::string> data_sets() const;

  /// How Tables 3 and 4 were run: as the paper where any cell of the data set was, else as its first cell.
  std::pair<std::string, std::string> preprocess_and_augment(std::string_view data) const;
  bool is_main(const Arm& arm) const;
  const Arm* main_arm(std::string_view data, std::string_view net, std::string_view mode) const;

 private:
  std::span<const CellState> states_;
  std::vector<Arm> arms_;
  std::vector<std::string> notes_;
};

}  // namespace microtome
