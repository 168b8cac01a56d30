// Whether figures differ by more than chance: Student's tests of means, DeLong's of two AUCs, resampling of patients.
// Everywhere Error(ExitCode::data) for too few values, or for values among which nothing varies.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

/// Two-sided.
struct TTest {
  double difference = 0;  // of the means, a's less b's
  double t = 0, df = 0, p = 0;
  std::pair<double, double> ci95;  // of the difference
};

/// Of two samples whose variances may differ [Welch1947]: R's t.test(a, b). At least two values each.
TTest welch_test(std::span<const double> a, std::span<const double> b);

/// Of the differences a[i] - b[i]. At least two.
TTest paired_test(std::span<const double> a, std::span<const double> b);

/// Two scores of the same images: their AUCs are correlated, and the test knows it [DeLong1988].
struct AucTest {
  double auc_a = 0, auc_b = 0;
  double z = 0, p = 0;             // two-sided; of scores that rank alike 0 and 1
  std::pair<double, double> ci95;  // of auc_a - auc_b
  std::string doubt;               // why z, p and ci95 should not be shown: "too few images"; else empty
};
/// Less of a class, and DeLong's variance is that of too few values.
constexpr int fewest_images = 10;
AucTest delong_test(std::span<const std::uint8_t> labels, std::span<const double> a, std::span<const double> b);

/// Several scores of the same images each, as by networks from several seeds: of the mean AUCs. What other seeds would have
/// given is not in it.
using Runs = std::span<const std::vector<double>>;
AucTest delong_test(std::span<const std::uint8_t> labels, Runs a, Runs b);
std::pair<double, double> mean_auc_ci95(std::span<const std::uint8_t> labels, Runs runs);  // as auc_ci95()

/// How many clusters hold images of class 0, and how many of class 1.
struct ClusterCounts {
  std::array<int, 2> with_class{};
  /// Of four, one is drawn four times in 1 of 256 draws, which is more than Student's percentile for four leaves out.
  static constexpr int fewest = 5;
  bool enough() const { return std::ranges::min(with_class) >= fewest; }
};
ClusterCounts count_clusters(std::span<const std::uint8_t> labels, std::span<const int> clusters);

/// 95% interval of the AUC when whole clusters (patients, slides) are drawn with replacement [Efron1993]: images of one patient
/// are no independent witnesses. Draws that hold one class only are drawn again. The percentiles are Student's, for as many
/// clusters as hold the rarer class [Hesterberg2015]; no side is narrower than Newcombe's for the images, since near 0 and 1
/// draws hardly differ; where all agree, as when classes are apart, it is Newcombe's with each cluster one witness.
/// Error(ExitCode::data) where clusters are too few.
std::pair<double, double> clustered_auc_ci95(std::span<const std::uint8_t> labels, std::span<const double> scores,
                                             std::span<const int> clusters, std::uint64_t seed, int draws = 2000);
/// Of the mean AUC, in each draw the same clusters for all.
std::pair<double, double> clustered_auc_ci95(std::span<const std::uint8_t> labels, Runs runs, std::span<const int> clusters,
                                             std::uint64_t seed, int draws = 2000);

/// p-values adjusted so that the chance of any false alarm among them keeps to the level [Holm1979]; in their order.
std::vector<double> holm(std::span<const double> p);

}  // namespace microtome
