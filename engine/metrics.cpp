// ROC by one descending sort; AUC = (won + ties / 2) / (P N) from the same sort.
// DeLong's variance: with V(i) the share of negatives that positive i beats, W(j) the share of positives that beat negative j
// (a tie counts one half), Var(AUC) = var(V) / P + var(W) / N, sample variances [DeLong1988, eq. 5; Sun2014].
// Newcombe's: Var(A) = A (1 - A) (1 + s (1 - A) / (2 - A) + s A / (1 + A)) / (P N), s = (P + N) / 2 - 1, at the bound A itself
// [Newcombe2006].
#include "engine/metrics.h"

#include "engine/check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace microtome {
namespace {

using Labels = std::span<const std::uint8_t>;
using Scores = std::span<const double>;

constexpr double normal_quantile_975 = 1.959963984540054;

void check_pairs(Labels labels, Scores scores) {
  require(labels.size() == scores.size(), "metrics: ", labels.size(), " labels for ", scores.size(), " scores");
  if (labels.empty()) fail(ExitCode::data, "there are no scores to judge", {.expected = "at least one label and score"});
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] > 1) {
      fail(ExitCode::data, "a label is neither 0 nor 1",
           {.where = fmt::format("image {}", i), .expected = "0 or 1", .found = fmt::format("{}", labels[i])});
    }
    if (!std::isfinite(scores[i])) {
      fail(ExitCode::not_finite, "a score is not a finite number",
           {.where = fmt::format("image {}", i), .expected = "a finite number", .found = fmt::format("{}", scores[i])});
    }
  }
}

// Positives and negatives that share one score.
struct Group {
  double score = 0;
  std::int64_t positives = 0, negatives = 0;
};

struct Ranking {
  std::vector<Group> groups;  // descending scores
  std::int64_t positives = 0, negatives = 0;
};

Ranking rank(Labels labels, Scores scores) {
  check_pairs(labels, scores);
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });

  Ranking ranking;
  for (const std::size_t i : order) {
    if (ranking.groups.empty() || ranking.groups.back().score != scores[i]) ranking.groups.push_back({scores[i]});
    Group& group = ranking.groups.back();
    ++(labels[i] != 0 ? group.positives : group.negatives);
  }
  for (const Group& group : ranking.groups) {
    ranking.positives += group.positives;
    ranking.negatives += group.negatives;
  }
  if (ranking.positives == 0 || ranking.negatives == 0) {
    fail(ExitCode::data, "the AUC is not defined: only one class is present",
         {.expected = "images of both classes",
          .found = fmt::format("{} positive, {} negative", ranking.positives, ranking.negatives)});
  }
  return ranking;
}

// Sum over the positives of twice the negatives each beats, a tie being half a win; at most 2 P N.
std::int64_t twice_won(const Ranking& ranking) {
  std::int64_t sum = 0, below = ranking.negatives;
  for (const Group& group : ranking.groups) {
    below -= group.negatives;
    sum += group.positives * (2 * below + group.negatives);
  }
  return sum;
}

}  // namespace

std::vector<RocPoint> roc_curve(Labels labels, Scores scores) {
  const Ranking ranking = rank(labels, scores);
  const std::vector<Group>& groups = ranking.groups;
  std::vector<RocPoint> curve{{0, 0, std::numeric_limits<double>::infinity()}};
  std::int64_t positives = 0, negatives = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    positives += groups[i].positives;
    negatives += groups[i].negatives;
    const bool inner = i > 0 && i + 1 < groups.size();
    const bool straight =
        inner && groups[i].positives == groups[i + 1].positives && groups[i].negatives == groups[i + 1].negatives;
    if (straight) continue;
    curve.push_back({static_cast<double>(negatives) / static_cast<double>(ranking.negatives),
                     static_cast<double>(positives) / static_cast<double>(ranking.positives), groups[i].score});
  }
  return curve;
}

double auc(Labels labels, Scores scores) {
  const Ranking ranking = rank(labels, scores);
  return static_cast<double>(twice_won(ranking)) /
         (2.0 * static_cast<double>(ranking.positives) * static_cast<double>(ranking.negatives));
}

std::pair<double, double> auc_ci95(Labels labels, Scores scores) {
  const Ranking ranking = rank(labels, scores);
  if (ranking.positives == 1 || ranking.negatives == 1) return {0, 1};
  const double p = static_cast<double>(ranking.positives), n = static_cast<double>(ranking.negatives);
  const double area = static_cast<double>(twice_won(ranking)) / (2 * p * n);

  double squares_of_positives = 0, squares_of_negatives = 0;
  std::int64_t above = 0, below = ranking.negatives;
  for (const Group& group : ranking.groups) {
    below -= group.negatives;
    const double v = (static_cast<double>(below) + 0.5 * static_cast<double>(group.negatives)) / n;
    const double w = (static_cast<double>(above) + 0.5 * static_cast<double>(group.positives)) / p;
    squares_of_positives += static_cast<double>(group.positives) * (v - area) * (v - area);
    squares_of_negatives += static_cast<double>(group.negatives) * (w - area) * (w - area);
    above += group.positives;
  }
  const double variance = squares_of_positives / (p - 1) / p + squares_of_negatives / (n - 1) / n;
  const double half_width = normal_quantile_975 * std::sqrt(variance);
  return wider({std::max(0.0, area - half_width), std::min(1.0, area + half_width)},
               newcombe_ci95(area, ranking.positives, ranking.negatives));
}

std::pair<double, double> newcombe_ci95(double area, std::int64_t positives, std::int64_t negatives) {
  require(area >= 0 && area <= 1 && positives > 0 && negatives > 0, "an interval of an AUC of ", area, " from ", positives,
          " positives and ", negatives, " negatives");
  const double p = static_cast<double>(positives), n = static_cast<double>(negatives), s = (p + n) / 2 - 1;
  const auto near = [&](double a) {
    const double variance = a * (1 - a) * (1 + s * (1 - a) / (2 - a) + s * a / (1 + a)) / (p * n);
    return (area - a) * (area - a) <= normal_quantile_975 * normal_quantile_975 * variance;
  };
  // From the estimate outwards the distance grows faster than its standard error: one bound a side.
  const auto bound = [&](double end) {
    if (area == end) return end;
    double inside = area, outside = end;
    constexpr int halvings = 60;
    for (int i = 0; i < halvings; ++i) {
      const double middle = (inside + outside) / 2;
      (near(middle) ? inside : outside) = middle;
    }
    return inside;
  };
  return {bound(0), bound(1)};
}

std::pair<double, double> wider(const std::pair<double, double>& a, const std::pair<double, double>& b) {
  return {std::min(a.first, b.first), std::max(a.second, b.second)};
}

double loss_of_probabilities(Labels labels, Scores scores) {
  check_pairs(labels, scores);
  double sum = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (scores[i] < 0 || scores[i] > 1) {
      fail(ExitCode::data, "a score is not a probability",
           {.where = fmt::format("image {}", i), .expected = "0 to 1", .found = fmt::format("{}", scores[i])});
    }
    const double score = std::clamp(scores[i], 1e-7, 1 - 1e-7);
    sum -= labels[i] != 0 ? std::log(score) : std::log1p(-score);
  }
  return sum / static_cast<double>(labels.size());
}

Confusion confusion(Labels labels, Scores scores) {
  check_pairs(labels, scores);
  Confusion counts;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const bool called = scores[i] > 0.5;
    if (labels[i] != 0)
      ++(called ? counts.true_positives : counts.false_negatives);
    else
      ++(called ? counts.false_positives : counts.true_negatives);
  }
  return counts;
}

double accuracy(const Confusion& counts) {
  const std::int64_t right = counts.true_negatives + counts.true_positives;
  const std::int64_t all = right + counts.false_positives + counts.false_negatives;
  require(all > 0, "accuracy: no counts");
  return static_cast<double>(right) / static_cast<double>(all);
}

}  // namespace microtome
