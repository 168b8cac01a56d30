#include "tools/statistics/auc_inference.h"

#include "engine/check.h"
#include "engine/metrics.h"
#include "engine/random.h"

#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

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

  /// The means over runs: the mean AUC is theirs.
  Placements(std::span<const std::uint8_t> labels, Runs runs) : Placements(labels, runs.front()) {
    for (const std::vector<double>& run : runs.subspan(1)) {
      const Placements more(labels, run);
      std::ranges::transform(positives, more.positives, positives.begin(), std::plus());
      std::ranges::transform(negatives, more.negatives, negatives.begin(), std::plus());
    }
    for (double& share : positives) share /= static_cast<double>(runs.size());
    for (double& share : negatives) share /= static_cast<double>(runs.size());
  }
};

double mean_auc(std::span<const std::uint8_t> labels, Runs runs) {
  require(!runs.empty(), "a mean AUC of no runs");
  double sum = 0;
  for (const std::vector<double>& scores : runs) sum += auc(labels, scores);  // which looks at the values too
  return sum / static_cast<double>(runs.size());
}

/// One run's images by score, from the highest: an AUC of images that count several times or not at all in one pass.
class WeightedAuc {
 public:
  /// `clusters`: of each image, by number.
  WeightedAuc(std::span<const std::uint8_t> labels, std::span<const double> scores, std::span<const int> clusters) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, std::greater(), [&](std::size_t i) { return scores[i]; });
    for (std::size_t i = 0; i < order.size(); ++i) {
      const bool last = i + 1 == order.size() || scores[order[i]] != scores[order[i + 1]];
      images_.push_back({clusters[order[i]], labels[order[i]] != 0, last});
    }
  }

  /// `times` each cluster counts, so that there are `p` positives and `n` negatives.
  double operator()(std::span<const int> times, std::int64_t p, std::int64_t n) const {
    std::int64_t twice_won = 0, below = n, positives = 0, negatives = 0;
    for (const auto& [cluster, positive, last] : images_) {
      (positive ? positives : negatives) += times[static_cast<std::size_t>(cluster)];
      if (!last) continue;
      below -= negatives;
      twice_won += positives * (2 * below + negatives);
      positives = negatives = 0;
    }
    return static_cast<double>(twice_won) / (2.0 * static_cast<double>(p) * static_cast<double>(n));
  }

 private:
  struct Image {
    int cluster;
    bool positive, last;  // of those with its score
  };
  std::vector<Image> images_;
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
  const std::vector<double> one_a(a.begin(), a.end()), one_b(b.begin(), b.end());
  return delong_test(labels, Runs(&one_a, 1), Runs(&one_b, 1));
}

AucTest delong_test(std::span<const std::uint8_t> labels, Runs a, Runs b) {
  AucTest test{.auc_a = mean_auc(labels, a), .auc_b = mean_auc(labels, b)};
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
  // An exact test exchanges the two scores of an image, or not: of n images it can give no p below 2 / 2^n [Bandos2005]. A
  // smaller one comes of a variance that is too small; as logarithms, since either may be less than a double can hold.
  const double log_of_p_at_most = -test.z * test.z / 2, log_of_exact = (1 - static_cast<double>(labels.size())) * std::log(2);
  if (std::min(of_a.positives.size(), of_a.negatives.size()) < fewest_images)
    test.doubt = "too few images";
  else if (log_of_p_at_most < log_of_exact)
    test.doubt = "too little varies";
  return test;
}

std::pair<double, double> mean_auc_ci95(std::span<const std::uint8_t> labels, Runs runs) {
  const double area = mean_auc(labels, runs);
  const Placements placed(labels, runs);
  require_two(placed.positives), require_two(placed.negatives);
  const auto share = [](const std::vector<double>& x) { return variance(x) / static_cast<double>(x.size()); };
  const double half = quantile(complement(boost::math::normal_distribution<double>(), 0.025)) *
                      std::sqrt(share(placed.positives) + share(placed.negatives));
  return wider({std::max(0.0, area - half), std::min(1.0, area + half)},
               newcombe_ci95(area, std::ssize(placed.positives), std::ssize(placed.negatives)));
}

ClusterCounts count_clusters(std::span<const std::uint8_t> labels, std::span<const int> clusters) {
  require(clusters.size() == labels.size(), "labels and clusters of different length");
  std::array<std::set<int>, 2> holding;
  for (std::size_t i = 0; i < clusters.size(); ++i) holding[labels[i] != 0].insert(clusters[i]);
  return {{static_cast<int>(holding[0].size()), static_cast<int>(holding[1].size())}};
}

std::pair<double, double> clustered_auc_ci95(std::span<const std::uint8_t> labels, std::span<const double> scores,
                                             std::span<const int> clusters, std::uint64_t seed, int draws) {
  const std::vector<double> one(scores.begin(), scores.end());
  return clustered_auc_ci95(labels, Runs(&one, 1), clusters, seed, draws);
}

std::pair<double, double> clustered_auc_ci95(std::span<const std::uint8_t> labels, Runs runs, std::span<const int> clusters,
                                             std::uint64_t seed, int draws) {
  const ClusterCounts counts = count_clusters(labels, clusters);
  const double area = mean_auc(labels, runs);  // which looks at the values, and for both classes
  if (!counts.enough()) {
    fail(ExitCode::data, "too few patients or slides for an interval over them",
         {.expected = fmt::format("{} or more with images of each class", ClusterCounts::fewest),
          .found = fmt::format("{} with class 0, {} with class 1", counts.with_class[0], counts.with_class[1])});
  }
  struct Cluster {
    std::size_t number;
    std::int64_t positives = 0, negatives = 0;
  };
  std::map<int, Cluster> by_name;
  for (std::size_t i = 0; i < clusters.size(); ++i) {
    Cluster& cluster = by_name.try_emplace(clusters[i], Cluster{by_name.size()}).first->second;
    ++(labels[i] != 0 ? cluster.positives : cluster.negatives);
  }
  std::vector<int> number_of;
  for (const int cluster : clusters) number_of.push_back(static_cast<int>(by_name.at(cluster).number));
  std::vector<Cluster> members;
  for (const auto& [name, cluster] : by_name) members.push_back(cluster);
  std::vector<WeightedAuc> curves;
  for (const std::vector<double>& run : runs) curves.emplace_back(labels, run, number_of);

  std::vector<double> areas;
  for (std::uint64_t word = 0; static_cast<int>(areas.size()) < draws;) {
    std::vector<int> times(members.size());
    std::int64_t positives = 0, negatives = 0;
    for (std::size_t k = 0; k < members.size(); ++k) {
      const Cluster& drawn = members[random_word(seed, stream::resampling, word++) % members.size()];
      ++times[drawn.number];
      positives += drawn.positives, negatives += drawn.negatives;
    }
    if (positives == 0 || negatives == 0) continue;
    double sum = 0;
    for (const WeightedAuc& curve : curves) sum += curve(times, positives, negatives);
    areas.push_back(sum / static_cast<double>(curves.size()));
  }
  std::sort(areas.begin(), areas.end());
  if (areas.front() == areas.back()) return newcombe_ci95(area, counts.with_class[1], counts.with_class[0]);
  const double fewer = std::ranges::min(counts.with_class);
  const double t = quantile(complement(boost::math::students_t_distribution<double>(fewer - 1), 0.025));
  const double tail = cdf(boost::math::normal_distribution<double>(), -t * std::sqrt(fewer / (fewer - 1)));
  const auto at = [&](double share) {
    return areas[static_cast<std::size_t>(share * static_cast<double>(areas.size() - 1) + 0.5)];
  };
  const std::int64_t positives = std::ranges::count(labels, std::uint8_t{1});
  return wider({at(tail), at(1 - tail)}, newcombe_ci95(area, positives, std::ssize(labels) - positives));
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, std::less(), [&](std::size_t i) { return p[i]; });
  std::vector<double> adjusted(p.size());
  double highest = 0;
  for (std::size_t k = 0; k < order.size(); ++k) {
    highest = std::max(highest, std::min(1.0, static_cast<double>(order.size() - k) * p[order[k]]));
    adjusted[order[k]] = highest;
  }
  return adjusted;
}

}  // namespace microtome
