// Constants are scikit-learn 1.9's (roc_curve, roc_auc_score, log_loss, accuracy_score) on the vectors shown; DeLong's
// intervals are those of the O(P N) definition below, which is what [DeLong1988] writes down.
#include "engine/metrics.h"

#include "engine/check.h"
#include "engine/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

namespace microtome {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double epsilon = std::numeric_limits<double>::epsilon();

struct Scored {
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
};

const Scored half_ties{{0, 1, 0, 1, 1, 0}, {.5, .5, .5, .8, .2, .2}};
const Scored sixteen{{1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0},
                     {.9, .8, .7, .7, .7, .6, .55, .5, .5, .4, .4, .4, .3, .2, 1, 0}};

// A thousand scores of `levels` distinct values; the fewer, the more ties.
Scored thousand(std::int64_t levels) {
  Scored s;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const bool label = (i * i * 31 + i * 17) % 97 < 40;
    s.labels.push_back(label ? 1 : 0);
    s.scores.push_back(static_cast<double>((i * 7919 + (label ? levels / 4 : 0)) % levels) / static_cast<double>(levels - 1));
  }
  return s;
}

template <class Call>
ExitCode code_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::done;
}

TEST(MetricsTest, AucOfSmallCasesWithTies) {
  EXPECT_DOUBLE_EQ(auc(std::vector<std::uint8_t>{0, 0, 1, 1}, std::vector{.1, .4, .35, .8}), 0.75);
  EXPECT_DOUBLE_EQ(auc(half_ties.labels, half_ties.scores), 11.0 / 18);
  EXPECT_DOUBLE_EQ(auc(std::vector<std::uint8_t>{0, 1, 0, 1}, std::vector(4, .3)), 0.5);
  EXPECT_DOUBLE_EQ(auc(std::vector<std::uint8_t>{1, 1, 0, 0, 1, 0, 1, 0}, std::vector<double>{1, 1, 1, .7, .7, .2, .1, 0}),
                   0.65625);
  EXPECT_DOUBLE_EQ(auc(sixteen.labels, sixteen.scores), 0.6640625);
}

TEST(MetricsTest, RocCurveMatchesScikitLearn) {
  struct Expected {
    int negatives, positives;  // of 8 each
    double threshold;
  };
  const Expected expected[] = {{0, 0, infinity}, {0, 1, 1},  {0, 2, .9}, {1, 2, .8}, {2, 4, .7}, {3, 4, .6},
                               {3, 5, .55},      {4, 6, .5}, {6, 7, .4}, {7, 7, .3}, {7, 8, .2}, {8, 8, 0}};
  const std::vector<RocPoint> curve = roc_curve(sixteen.labels, sixteen.scores);
  ASSERT_EQ(curve.size(), std::size(expected));
  for (std::size_t i = 0; i < curve.size(); ++i) {
    EXPECT_EQ(curve[i].false_positive_rate, expected[i].negatives / 8.0) << "point " << i;
    EXPECT_EQ(curve[i].true_positive_rate, expected[i].positives / 8.0) << "point " << i;
    EXPECT_EQ(curve[i].threshold, expected[i].threshold) << "point " << i;
  }
}

TEST(MetricsTest, RocCurveDropsTheInsideOfAStraightRun) {
  // Four negatives above four positives: the curve goes right, then up, and needs but its corners.
  const std::vector<std::uint8_t> labels{0, 0, 0, 0, 1, 1, 1, 1};
  const std::vector<double> scores{8, 7, 6, 5, 4, 3, 2, 1};
  const std::vector<RocPoint> curve = roc_curve(labels, scores);
  std::vector<double> thresholds;
  for (const RocPoint& point : curve) thresholds.push_back(point.threshold);
  EXPECT_EQ(thresholds, (std::vector<double>{infinity, 8, 5, 1}));
}

struct Judged {
  std::int64_t levels;
  double auc, low, high;
  std::size_t points;
  double loss, accuracy;
};

class MetricsJudgedTest : public testing::TestWithParam<Judged> {};

TEST_P(MetricsJudgedTest, MatchesScikitLearn) {
  const Judged& expected = GetParam();
  const auto [labels, scores] = thousand(expected.levels);
  EXPECT_DOUBLE_EQ(auc(labels, scores), expected.auc);
  EXPECT_EQ(roc_curve(labels, scores).size(), expected.points);
  // Sums of a thousand terms: at most that many roundings each.
  const double rounding = 1000 * epsilon;
  const auto [low, high] = auc_ci95(labels, scores);
  const std::int64_t positives = std::ranges::count(labels, 1);
  const auto [other_low, other_high] = newcombe_ci95(expected.auc, positives, 1000 - positives);
  EXPECT_NEAR(low, std::min(expected.low, other_low), rounding);
  EXPECT_NEAR(high, std::max(expected.high, other_high), rounding);
  EXPECT_NEAR(loss_of_probabilities(labels, scores), expected.loss, 16 * rounding);  // a term is at most -log(1e-7) = 16.1
  EXPECT_DOUBLE_EQ(accuracy(confusion(labels, scores)), expected.accuracy);
}

INSTANTIATE_TEST_SUITE_P(
    Levels, MetricsJudgedTest,
    testing::Values(Judged{7, 0.49874599358974364, 0.46325898010499117, 0.5342330070744961, 8, 2.901384393604112, .504},
                    Judged{101, 0.5079326923076923, 0.4720979593610764, 0.5437674252543082, 94, 1.089908230082196, .504},
                    Judged{1'000'003, 0.5207091346153846, 0.4848985386454845, 0.5565197305852847, 630, 0.9629543281630224,
                           .514}));

// Every pair compared: 1, 1/2 or 0; sums in units of 1/2.
struct Pairwise {
  double area, low, high;
};
Pairwise pairwise(const Scored& s) {
  std::vector<double> p, n;
  for (std::size_t i = 0; i < s.labels.size(); ++i) (s.labels[i] != 0 ? p : n).push_back(s.scores[i]);
  std::vector<double> v(p.size()), w(n.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    for (std::size_t j = 0; j < n.size(); ++j) {
      const double won = p[i] > n[j] ? 1 : p[i] == n[j] ? 0.5 : 0;
      v[i] += won / static_cast<double>(n.size());
      w[j] += won / static_cast<double>(p.size());
    }
  }
  const auto mean = [](const std::vector<double>& x) {
    double sum = 0;
    for (const double e : x) sum += e;
    return sum / static_cast<double>(x.size());
  };
  const auto variance_of_mean = [&](const std::vector<double>& x) {
    double sum = 0;
    for (const double e : x) sum += (e - mean(x)) * (e - mean(x));
    return sum / static_cast<double>(x.size() - 1) / static_cast<double>(x.size());
  };
  const double half_width = 1.959963984540054 * std::sqrt(variance_of_mean(v) + variance_of_mean(w));
  const auto [low, high] = newcombe_ci95(mean(v), std::ssize(v), std::ssize(w));
  return {mean(v), std::min(low, std::max(0.0, mean(v) - half_width)), std::max(high, std::min(1.0, mean(v) + half_width))};
}

TEST(MetricsTest, MatchesEveryPairComparedOnRandomVectors) {
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    const auto words = philox(11, 0, trial);
    const std::uint64_t n = 4 + words[0] % 150, levels = 2 + words[1] % 60;
    Scored s{{0, 1, 0, 1}, {.25, .5, .5, .75}};
    for (std::uint64_t i = 4; i < n; ++i) {
      const auto draw = philox(12, trial, i);
      s.labels.push_back(draw[0] % 3 == 0 ? 1 : 0);
      s.scores.push_back(static_cast<double>(draw[1] % levels + (s.labels.back() != 0 ? levels / 3 : 0)) / 100);
    }
    const Pairwise expected = pairwise(s);
    const auto [low, high] = auc_ci95(s.labels, s.scores);
    const double rounding = static_cast<double>(4 * n) * epsilon;  // n terms in each of mean and squares, theirs and ours
    EXPECT_NEAR(auc(s.labels, s.scores), expected.area, rounding) << "trial " << trial;
    EXPECT_NEAR(low, expected.low, rounding) << "trial " << trial;
    EXPECT_NEAR(high, expected.high, rounding) << "trial " << trial;
  }
}

TEST(MetricsTest, AreaUnderTheCurveIsTheAuc) {
  const auto [labels, scores] = thousand(101);
  const std::vector<RocPoint> curve = roc_curve(labels, scores);
  double area = 0;
  for (std::size_t i = 1; i < curve.size(); ++i) {
    area += (curve[i].false_positive_rate - curve[i - 1].false_positive_rate) *
            (curve[i].true_positive_rate + curve[i - 1].true_positive_rate) / 2;
  }
  EXPECT_NEAR(area, auc(labels, scores), static_cast<double>(curve.size()) * epsilon);
  EXPECT_EQ(curve.back().false_positive_rate, 1);
  EXPECT_EQ(curve.back().true_positive_rate, 1);
}

TEST(MetricsTest, AucIsExactWhereACountOfPairsNeedsMoreThanFloat) {
  // 2 * 60,001^2 half pairs, one lost: 7.2e9 is beyond 32 bits.
  constexpr int n = 60'001;
  Scored s;
  for (int i = 0; i < n; ++i) s.labels.push_back(0), s.scores.push_back(i == 0 ? 1 : 0);
  for (int i = 0; i < n; ++i) s.labels.push_back(1), s.scores.push_back(i == 0 ? 0.75 : 2);
  EXPECT_EQ(auc(s.labels, s.scores), (static_cast<double>(n) * n - 1) / (static_cast<double>(n) * n));
}

TEST(MetricsTest, IntervalIsClippedAndWideWhereAClassIsAlone) {
  const std::vector<std::uint8_t> labels{0, 0, 1, 1}, alone{0, 0, 0, 1};
  const std::vector<double> scores{.1, .4, .35, .8};
  EXPECT_NEAR(auc_ci95(labels, scores).first, 0.05704808782516102, 16 * epsilon) << "DeLong's is the wider there";
  EXPECT_EQ(auc_ci95(labels, scores).second, 1);
  EXPECT_EQ(auc_ci95(alone, scores), (std::pair<double, double>{0, 1}));
}

TEST(MetricsTest, NewcombesBoundsAreWhereTheEstimateIsTwoOfTheirErrorsAway) {
  // By hand: of 2 and 2 images apart, with q = 1 - A and s = 1, the bound solves
  // q = 1.96^2 A (1 + q / (1 + q) + A / (1 + A)) / 4; at A = 0.3856 both sides are 0.6144.
  EXPECT_NEAR(newcombe_ci95(1, 2, 2).first, 0.3856, 5e-5);
  EXPECT_EQ(newcombe_ci95(1, 2, 2).second, 1);
  const auto squared_errors = [](double a, double p, double n) {
    const double s = (p + n) / 2 - 1;
    return a * (1 - a) * (1 + s * (1 - a) / (2 - a) + s * a / (1 + a)) / (p * n);
  };
  for (const auto& [area, p, n] : {std::tuple(0.9, 12, 30), {0.5, 7, 7}, {1.0, 500, 40}, {0.0, 6, 6}}) {
    const auto [low, high] = newcombe_ci95(area, p, n);
    for (const double bound : {low, high}) {
      if (bound == area) continue;
      EXPECT_NEAR((area - bound) * (area - bound) / squared_errors(bound, p, n), 1.959963984540054 * 1.959963984540054, 1e-9)
          << area << ", " << p << " and " << n;
    }
    EXPECT_LE(low, area);
    EXPECT_GE(high, area);
  }
  const auto up = newcombe_ci95(0.8, 9, 14), down = newcombe_ci95(1 - 0.8, 9, 14);
  EXPECT_NEAR(up.first, 1 - down.second, 1e-15) << "classes exchanged";
}

TEST(MetricsTest, ClassesThatAreApartStillHaveAnInterval) {
  const std::vector<std::uint8_t> labels{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1};
  const std::vector<double> apart{.1, .11, .12, .13, .14, .15, .9, .91, .92, .93, .94, .95};
  const auto [low, high] = auc_ci95(labels, apart);
  EXPECT_EQ(high, 1);
  EXPECT_EQ(low, newcombe_ci95(1, 6, 6).first);
  EXPECT_GT(low, std::pow(0.025, 1 / 6.0)) << "six pairs won of six say that much whatever the scores";
  EXPECT_LT(low, 0.75);
  std::vector<double> reversed = apart;
  for (double& score : reversed) score = 1 - score;
  EXPECT_EQ(auc_ci95(labels, reversed).first, 0);
  EXPECT_NEAR(auc_ci95(labels, reversed).second, 1 - low, 1e-12);
}

TEST(MetricsTest, LossClipsAsKerasDoes) {
  const std::vector<std::uint8_t> label{1};
  EXPECT_DOUBLE_EQ(loss_of_probabilities(label, std::vector{0.5}), std::log(2));
  // Keras 3 for y = 1, z = -20 from a probability; 20 from the logit.
  EXPECT_NEAR(loss_of_probabilities(label, std::vector{1 / (1 + std::exp(20.0))}), 16.1181, 5e-5);
  EXPECT_NEAR(loss_of_probabilities(label, std::vector{1.0}), 1e-7, 1e-14);  // -log1p(-x) = x + x^2 / 2
}

TEST(MetricsTest, HalfIsCalledNegative) {
  const Confusion counts = confusion(std::vector<std::uint8_t>{1, 0, 1, 0, 1}, std::vector{.5, .5, .51, .9, .8});
  EXPECT_EQ(counts.true_negatives, 1);
  EXPECT_EQ(counts.false_positives, 1);
  EXPECT_EQ(counts.false_negatives, 1);
  EXPECT_EQ(counts.true_positives, 2);
  EXPECT_DOUBLE_EQ(accuracy(counts), 0.6);
}

TEST(MetricsTest, RefusesWhatHasNoAnswer) {
  const std::vector<std::uint8_t> both{0, 1}, negatives{0, 0}, wrong{0, 2};
  const std::vector<double> good{.2, .7}, nan{.2, std::nan("")}, infinite{infinity, .7}, logits{-3, .7};
  EXPECT_EQ(code_of([&] { auc(negatives, good); }), ExitCode::data);
  EXPECT_EQ(code_of([&] { roc_curve(negatives, good); }), ExitCode::data);
  EXPECT_EQ(code_of([&] { auc_ci95(negatives, good); }), ExitCode::data);
  EXPECT_EQ(code_of([&] { confusion(wrong, good); }), ExitCode::data);
  EXPECT_EQ(code_of([&] { loss_of_probabilities(both, logits); }), ExitCode::data);
  EXPECT_EQ(code_of([&] { confusion({}, {}); }), ExitCode::data);
  EXPECT_EQ(code_of([&] { auc(both, nan); }), ExitCode::not_finite);
  EXPECT_EQ(code_of([&] { auc(both, infinite); }), ExitCode::not_finite);
  EXPECT_EQ(code_of([&] { confusion(both, nan); }), ExitCode::not_finite);
  EXPECT_EQ(code_of([&] { auc(both, std::vector{.1}); }), ExitCode::bug) << "lengths differ";
  EXPECT_EQ(code_of([&] { auc(both, good); }), ExitCode::done);
}

}  // namespace
}  // namespace microtome
