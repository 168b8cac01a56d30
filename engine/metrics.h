// Loss, accuracy, ROC and AUC of scores, and their confidence interval.
// Everywhere: one label (0 or 1) and one finite score an image, at least one image. Error(ExitCode::data) for another label,
// for no images, for a missing class where both are needed; Error(ExitCode::not_finite) naming the first score that is not
// finite.
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

/// As scikit-learn's roc_curve: one point a distinct score, those inside a run of equal steps dropped (collinear: they do not
/// change the area), (0, 0) first, (1, 1) last. Needs both classes.
std::vector<RocPoint> roc_curve(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// Area under the curve: pairs won plus half the ties, over all pairs; exact in integers until the last division.
/// Needs both classes.
double auc(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// 95% confidence interval of the AUC: of DeLong's [DeLong1988], in O(N log N) [Sun2014], and Newcombe's below, the wider on
/// each side; within [0, 1]. DeLong's variance is 0 where the classes are apart, and too small near there; Newcombe's interval
/// supposes scores without outliers. Needs both classes; [0, 1] where one of them has a single member, whose variance nothing
/// can tell.
std::pair<double, double> auc_ci95(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// 95% interval of an AUC of so many positives and negatives [Newcombe2006, method 5]: the areas that lie no more than 1.96 of
/// their own standard errors from `area`, so that it has a width also at 0 and at 1.
std::pair<double, double> newcombe_ci95(double area, std::int64_t positives, std::int64_t negatives);

/// Both intervals as one: from the lower of the two first to the higher of the two second.
std::pair<double, double> wider(const std::pair<double, double>& a, const std::pair<double, double>& b);

/// Mean binary cross-entropy of probabilities, clipped to [1e-7, 1 - 1e-7] as Keras 3 clips them.
/// Error(ExitCode::data) for a score outside [0, 1].
double loss_of_probabilities(std::span<const std::uint8_t> labels, std::span<const double> scores);

/// Counts at score > 0.5, strictly.
struct Confusion {
  std::int64_t true_negatives = 0, false_positives = 0, false_negatives = 0, true_positives = 0;
};
Confusion confusion(std::span<const std::uint8_t> labels, std::span<const double> scores);
double accuracy(const Confusion& counts);  // 0 to 1; at least one count

}  // namespace microtome
