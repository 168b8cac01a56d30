// Loss, accuracy, ROC and AUC of scores, and their confidence interval.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace microtome {

/// One point of a receiver operating characteristic: the share of negatives and of positives with score >= threshold.
struct RocPoint {
  double false_positive_rate = 0, true_positive_rate = 0;
  double threshold = 0;  // infinity for the first point, (0, 0)
};

/// As scikit-learn's roc_curve: one point a distinct score, collinear points dropped, (0, 0) first, (1, 1) last.
/// Both classes must be present, else Error(ExitCode::data).
std::vector<RocPoint> roc_curve(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// Area under the curve: pairs won plus half the ties, over all pairs; exact in integers until the last division.
double auc(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// DeLong's 95% confidence interval of the AUC [DeLong1988], clipped to [0, 1].
std::pair<double, double> auc_ci95(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// Mean binary cross-entropy of probabilities, clipped to [1e-7, 1 - 1e-7] as Keras clips them.
double loss_of_probabilities(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// Counts at score > 0.5, strictly.
struct Confusion {
  std::int64_t true_negatives = 0, false_positives = 0, false_negatives = 0, true_positives = 0;
};
Confusion confusion(std::span<const std::uint8_t> labels, std::span<const double> scores);
double accuracy(const Confusion& counts);

}  // namespace microtome
