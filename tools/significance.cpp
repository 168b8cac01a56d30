#include "tools/significance.h"

#include "engine/check.h"
#include "engine/metrics.h"
#include "engine/random.h"

#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace microtome {
namespace {

double mean(std::span<const double> x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

/// Unbiased.
double covariance(std::span<const double> x, std::span<const double> y) {
  const double mean_x = mean(x), mean_y = mean(y);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - mean_x) * (y[i] - mean_y);
  return sum / static_cast<double>(x.size() - 1);
}

double variance(std::span<const double> x) {
  return covariance(x, x);
}

void require_two(std::span<const double> x) {
  if (x.size() < 2)
    fail(ExitCode::data, "too few values for a test", {.expected = "two or more", .found = fmt::format("{}", x.size())});
}

TTest student(double difference, double error, double df) {
  if (!(error > 0)) fail(ExitCode::data, "a test of values among which nothing varies");
  const boost::math::students_t_distribution<double> distribution(df);
  const double t = difference / error, half = quantile(complement(distribution, 0.025)) * error;
  return {.difference = difference,
          .t = t,
          .df = df,
          .p = 2 * cdf(complement(distribution, std::abs(t))),
          .ci95 = {difference - half, difference + half}};
}

/// Of each positive the share of negatives that it beats, of each negative the share of positives that beat it; a tie is half.
struct Placements {
  std::vector<double> positives, negatives;

  Placements(std::span<const std::uint8_t> labels, std::span<const double> scores) {
    std::vector<double> high, low;
    for (std::size_t i = 0; i < labels.size(); ++i) (labels[i] != 0 ? high : low).push_back(scores[i]);
    const auto placed = [](const std::vector<double>& of, std::vector<double> among, bool above) {
      std::sort(among.begin(), among.end());
      std::vector<double> shares;
      for (const double score : of) {
        const auto [first, last] = std::equal_range(among.begin(), among.end(), score);
        const double ties = 0.5 * static_cast<double>(last - first);
        const double won = static_cast<double>(above ? among.end() - last : first - among.begin());
        shares.push_back((won + ties) / static_cast<double>(among.size()));
      }
      return shares;
    };
    positives = placed(high, low, false);
    negatives = placed(low, high, true);
  }
};

}  // namespace

TTest welch_test(std::span<const double> a, std::span<const double> b) {
  require_two(a), require_two(b);
  const double va = variance(a) / static_cast<double>(a.size()), vb = variance(b) / static_cast<double>(b.size());
  const double df =
      (va + vb) * (va + vb) / (va * va / static_cast<double>(a.size() - 1) + vb * vb / static_cast<double>(b.size() - 1));
  return student(mean(a) - mean(b), std::sqrt(va + vb), df);
}

TTest paired_test(std::span<const double> a, std::span<const double> b) {
  require(a.size() == b.size(), "a paired test of ", a.size(), " and ", b.size(), " values");
  require_two(a);
  std::vector<double> differences;
  for (std::size_t i = 0; i < a.size(); ++i) differences.push_back(a[i] - b[i]);
  const double n = static_cast<double>(a.size());
  return student(mean(differences), std::sqrt(variance(differences) / n), n - 1);
}

AucTest delong_test(std::span<const std::uint8_t> labels, std::span<const double> a, std::span<const double> b) {
  AucTest test{.auc_a = auc(labels, a), .auc_b = auc(labels, b)};  // which look at the values too
  const Placements of_a(labels, a), of_b(labels, b);
  require_two(of_a.positives), require_two(of_a.negatives);
  const auto variance_of = [](const std::vector<double>& x, const std::vector<double>& y) {
    return (variance(x) + variance(y) - 2 * covariance(x, y)) / static_cast<double>(x.size());
  };
  const double difference = test.auc_a - test.auc_b;
  const double error =
      std::sqrt(std::max(0.0, variance_of(of_a.positives, of_b.positives) + variance_of(of_a.negatives, of_b.negatives)));
  const bool alike = of_a.positives == of_b.positives && of_a.negatives == of_b.negatives;
  if (!alike && !(error > 0)) fail(ExitCode::data, "a test of values among which nothing varies");
  const boost::math::normal_distribution<double> normal;
  test.z = alike ? 0 : difference / error;
  test.p = 2 * cdf(complement(normal, std::abs(test.z)));
  const double half = quantile(complement(normal, 0.025)) * error;
  test.ci95 = {difference - half, difference + half};
  return test;
}

std::pair<double, double> clustered_auc_ci95(std::span<const std::uint8_t> labels, std::span<const double> scores,
                                             std::span<const int> clusters, std::uint64_t seed, int draws) {
  require(clusters.size() == labels.size() && scores.size() == labels.size(),
          "labels, scores and clusters of different length");
  auc(labels, scores);  // looks at the values, and for both classes
  std::map<int, std::vector<std::size_t>> by_cluster;
  for (std::size_t i = 0; i < clusters.size(); ++i) by_cluster[clusters[i]].push_back(i);
  if (by_cluster.size() < 2)
    fail(ExitCode::data, "an interval over clusters needs several", {.expected = "two or more", .found = "1"});
  std::vector<const std::vector<std::size_t>*> members;
  for (const auto& [cluster, images] : by_cluster) members.push_back(&images);

  std::vector<double> areas;
  for (std::uint64_t word = 0; static_cast<int>(areas.size()) < draws;) {
    std::vector<std::uint8_t> drawn_labels;
    std::vector<double> drawn_scores;
    for (std::size_t k = 0; k < members.size(); ++k) {
      const std::size_t pick = random_word(seed, stream::resampling, word++) % members.size();
      for (const std::size_t i : *members[pick]) drawn_labels.push_back(labels[i]), drawn_scores.push_back(scores[i]);
    }
    const auto positives = std::count(drawn_labels.begin(), drawn_labels.end(), std::uint8_t{1});
    if (positives == 0 || positives == static_cast<std::ptrdiff_t>(drawn_labels.size())) continue;
    areas.push_back(auc(drawn_labels, drawn_scores));
  }
  std::sort(areas.begin(), areas.end());
  const auto at = [&](double share) {
    return areas[static_cast<std::size_t>(share * static_cast<double>(areas.size() - 1) + 0.5)];
  };
  return {at(0.025), at(0.975)};
}

}  // namespace microtome
