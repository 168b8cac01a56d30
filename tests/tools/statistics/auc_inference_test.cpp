#include "tools/statistics/auc_inference.h"

#include "engine/check.h"
#include "engine/metrics.h"
#include "engine/random.h"
#include "tools/cli/json.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <fstream>

namespace microtome {
namespace {

Json golden() {
  std::ifstream file(GOLDEN_FOLDER "/significance.json");
  return Json::parse(file);
}

/// Relative, since a t near 0 or a p near 0 has few digits behind the point.
void expect_near(double ours, const Json& theirs, const char* what, std::size_t at) {
  const double expected = theirs.get<double>();
  EXPECT_NEAR(ours, expected, 1e-12 * std::max(1.0, std::abs(expected))) << what << " of case " << at;
}

void expect_same(const TTest& test, const Json& expected, std::size_t at) {
  expect_near(test.difference, expected["difference"], "difference", at);
  expect_near(test.t, expected["t"], "t", at);
  expect_near(test.df, expected["df"], "df", at);
  expect_near(test.p, expected["p"], "p", at);
  expect_near(test.ci95.first, expected["low"], "low", at);
  expect_near(test.ci95.second, expected["high"], "high", at);
}

TEST(SignificanceTest, WelchsTestOnTheStudysOwnColumnsGivesItsFigures) {
  // [Bonnet2021, Tables 3 and 4]: transfer learning, then full training.
  const std::vector<double> pcam_transfer{.88, .89, .82, .88, .91, .90, .91, .81, .82, .80};
  const std::vector<double> pcam_full{.85, .91, .91, .95, .91, .93, .92, .91, .88, .84, .92, .93};
  const TTest pcam = welch_test(pcam_transfer, pcam_full);
  EXPECT_NEAR(pcam.t, -2.5527, 5e-5);
  EXPECT_NEAR(pcam.df, 16.285, 5e-4);
  EXPECT_NEAR(pcam.p, 0.02108, 5e-6);
  const std::vector<double> idc_transfer{.88, .82, .66, .91, .90, .91, .81, .81, .75};
  const std::vector<double> idc_full{.92, .94, .95, .93, .95, .94, .94, .93, .92, .91, .90};
  const TTest idc = welch_test(idc_transfer, idc_full);
  EXPECT_NEAR(idc.t, -3.5998, 5e-5);
  EXPECT_NEAR(idc.df, 8.4843, 5e-5);
  EXPECT_NEAR(idc.p, 0.006335, 5e-7);
}

TEST(SignificanceTest, TestsOfMeansAgreeWithSciPy) {
  const Json cases = golden()["means"];
  ASSERT_GT(cases.size(), 30u);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto a = cases[i]["a"].get<std::vector<double>>(), b = cases[i]["b"].get<std::vector<double>>();
    expect_same(welch_test(a, b), cases[i]["welch"], i);
    if (cases[i].contains("paired")) expect_same(paired_test(a, b), cases[i]["paired"], i);
  }
}

TEST(SignificanceTest, DeLongsTestAgreesWithItsDefinitionAlsoAmongTies) {
  const Json cases = golden()["aucs"];
  ASSERT_GT(cases.size(), 30u);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto labels = cases[i]["labels"].get<std::vector<std::uint8_t>>();
    const AucTest test =
        delong_test(labels, cases[i]["a"].get<std::vector<double>>(), cases[i]["b"].get<std::vector<double>>());
    const Json& expected = cases[i]["delong"];
    expect_near(test.auc_a, expected["auc_a"], "auc_a", i);
    expect_near(test.auc_b, expected["auc_b"], "auc_b", i);
    expect_near(test.z, expected["z"], "z", i);
    expect_near(test.p, expected["p"], "p", i);
    expect_near(test.ci95.first, expected["low"], "low", i);
    expect_near(test.ci95.second, expected["high"], "high", i);
  }
}

TEST(SignificanceTest, ScoresThatRankAlikeDoNotDiffer) {
  const std::vector<std::uint8_t> labels{0, 1, 0, 1, 1};
  const std::vector<double> a{.1, .4, .5, .8, .9}, twice{.2, .8, 1.0, 1.6, 1.8};
  const AucTest test = delong_test(labels, a, twice);
  EXPECT_EQ(test.z, 0);
  EXPECT_EQ(test.p, 1);
}

TEST(SignificanceTest, RunsOfTheSameImagesAreJudgedByTheirMeanAuc) {
  const std::vector<std::uint8_t> labels{0, 0, 0, 1, 1, 1};
  const std::vector<std::vector<double>> a{{.1, .4, .5, .3, .8, .9}, {.1, .2, .9, .3, .4, .5}}, b{{.2, .7, .1, .6, .3, .9}};
  const AucTest test = delong_test(labels, a, b);
  EXPECT_DOUBLE_EQ(test.auc_a, (7 + 6) / 18.0);
  EXPECT_DOUBLE_EQ(test.auc_b, 7 / 9.0);
  // Of a, each positive's share over both runs is (1 + 2, 3 + 2, 3 + 2) / 6, each negative's (6, 5, 2) / 6; of b (2, 2, 3) / 3
  // and (3, 1, 3) / 3. Differences in sixths: (-1, 1, -1) and (0, 3, -4), of variances 4/3 and 37/3.
  EXPECT_NEAR(test.z, (13 / 18.0 - 14 / 18.0) / std::sqrt((4 / 3.0 + 37 / 3.0) / 36 / 3), 1e-12);

  const std::vector<std::vector<double>> twice{a[0], a[0]};
  const auto once = mean_auc_ci95(labels, Runs(a).first(1)), same = mean_auc_ci95(labels, twice);
  EXPECT_DOUBLE_EQ(once.first, same.first) << "a run that agrees in everything adds no witness";
  EXPECT_NEAR(once.first, auc_ci95(labels, a[0]).first, 1e-12);
  EXPECT_EQ(mean_auc_ci95(std::vector<std::uint8_t>{0, 0, 1, 1}, std::vector<std::vector<double>>{{1, 2, 3, 4}, {0, 0, 1, 1}}),
            newcombe_ci95(1, 2, 2))
      << "both runs keep the classes apart";
  const std::vector<int> patients{0, 1, 2, 3, 4, 0, 1, 2, 3, 4};
  const std::vector<std::uint8_t> more{0, 0, 0, 0, 0, 1, 1, 1, 1, 1};
  const std::vector<double> scores{.1, .4, .5, .2, .3, .3, .8, .9, .35, .6};
  EXPECT_EQ(clustered_auc_ci95(more, std::vector<std::vector<double>>{scores, scores}, patients, 1),
            clustered_auc_ci95(more, scores, patients, 1));
}

/// `images` of each class: `apart` gives all of one class higher scores than all of the other, `flat` nearly the same to all.
struct Sided {
  std::vector<std::uint8_t> labels;
  std::vector<double> apart, flat;

  explicit Sided(int images) {
    for (int i = 0; i < 2 * images; ++i) {
      labels.push_back(static_cast<std::uint8_t>(i % 2));
      apart.push_back(i % 2 + 1e-5 * i);
      flat.push_back(i / 2 == images / 2 ? 0.5 + 0.001 * (i % 2) : 0.5);
    }
  }
};

TEST(SignificanceTest, DeLongsTestIsDoubtedWhereImagesAreFewOrHardlyVary) {
  const Sided six(6), twenty(20);
  EXPECT_EQ(delong_test(six.labels, six.apart, six.flat).doubt, "too few images");
  const AucTest hardly = delong_test(twenty.labels, twenty.apart, twenty.flat);
  EXPECT_LT(hardly.p, std::ldexp(1.0, -39)) << "which no exchange of twice twenty pairs of scores can give";
  EXPECT_EQ(hardly.doubt, "too little varies");
  const Sided thousands(2000);
  EXPECT_EQ(delong_test(thousands.labels, thousands.apart, thousands.flat).doubt, "too little varies")
      << "where both p are less than any double";

  std::vector<double> blurred;
  for (std::size_t i = 0; i < twenty.labels.size(); ++i)
    blurred.push_back(twenty.labels[i] + 2 * unit_float(random_word(4, 1, i)));
  const AucTest sound = delong_test(twenty.labels, twenty.apart, blurred);
  EXPECT_EQ(sound.doubt, "") << sound.p;
  EXPECT_LT(sound.p, 0.05);
}

TEST(SignificanceTest, PatientsWhoseClassesAreApartStillHaveAnInterval) {
  // Six patients of four images each, all told apart: as if each patient were one image of each class.
  const std::vector<int> patients{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5};
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
  for (std::size_t i = 0; i < patients.size(); ++i) labels.push_back(i < 12), scores.push_back(i < 12 ? 0.9 : 0.1);
  EXPECT_EQ(count_clusters(labels, patients).with_class, (std::array{6, 6}));
  EXPECT_EQ(clustered_auc_ci95(labels, scores, patients, 1), newcombe_ci95(1, 6, 6));
}

TEST(SignificanceTest, PercentilesOverFewPatientsAreStudents) {
  // Of five patients, t = 2.776 and the share left out is that of the normal distribution below -2.776 sqrt(5 / 4) = -3.104:
  // 0.00095, or one or two of 2,000 draws.
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
  std::vector<int> patients;
  for (int i = 0; i < 200; ++i) {
    labels.push_back(static_cast<std::uint8_t>(i % 2));
    patients.push_back(i / 2 % 5);
    scores.push_back(i % 2 * 0.1 * (1 + patients.back()) + 0.5 * unit_float(random_word(5, 1, i)));
  }
  const auto few = clustered_auc_ci95(labels, scores, patients, 1),
             many = clustered_auc_ci95(labels, scores, patients, 1, 200'000);
  EXPECT_NEAR(few.first, many.first, 0.02);
  EXPECT_NEAR(few.second, many.second, 0.02);
  const double area = auc(labels, scores), lowest = [&] {  // all draws of the patient who is told apart least
    std::vector<std::uint8_t> of;
    std::vector<double> its;
    for (std::size_t i = 0; i < labels.size(); ++i)
      if (patients[i] == 0) of.push_back(labels[i]), its.push_back(scores[i]);
    return auc(of, its);
  }();
  EXPECT_LT(many.first, area);
  EXPECT_GT(many.first, lowest) << "one draw in 3,125, less than are left out";
}

TEST(SignificanceTest, HolmsAdjustmentIsRs) {
  // R: p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.5), "holm")
  const std::vector<double> adjusted = holm(std::vector<double>{0.01, 0.04, 0.03, 0.005, 0.5});
  const double expected[] = {0.04, 0.09, 0.09, 0.025, 0.5};
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(adjusted[i], expected[i], 1e-15) << i;
}

TEST(SignificanceTest, APatientsManyPatchesAreOneWitness) {
  // Ten patients of forty patches; a patient's patches share most of their noise.
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
  std::vector<int> patients;
  for (int p = 0; p < 10; ++p)
    for (int i = 0; i < 40; ++i) {
      const auto noise = [&](std::uint64_t stream, std::uint64_t at) { return unit_float(random_word(3, stream, at)) - 0.5; };
      labels.push_back(static_cast<std::uint8_t>(i % 2));
      scores.push_back(0.2 * (i % 2) + noise(1, p) + 0.3 * noise(2, 40 * p + i));
      patients.push_back(p);
    }
  const auto alone = auc_ci95(labels, scores), clustered = clustered_auc_ci95(labels, scores, patients, 1);
  const double area = auc(labels, scores);
  EXPECT_LT(clustered.first, area);
  EXPECT_GT(clustered.second, area);
  EXPECT_EQ(clustered, clustered_auc_ci95(labels, scores, patients, 1)) << "of one seed";
  EXPECT_NE(clustered, clustered_auc_ci95(labels, scores, patients, 2));
  std::vector<int> each(labels.size());
  for (std::size_t i = 0; i < each.size(); ++i) each[i] = static_cast<int>(i);
  const auto by_image = clustered_auc_ci95(labels, scores, each, 1);
  EXPECT_NEAR(by_image.first, alone.first, 0.015) << "clusters of one image: DeLong's interval, nearly";
  EXPECT_NEAR(by_image.second, alone.second, 0.015);
}

TEST(SignificanceTest, WhatCannotBeTestedIsRefused) {
  const std::vector<double> one{1}, same{2, 2}, two{1, 2};
  EXPECT_THROW(welch_test(one, two), Error);
  EXPECT_THROW(welch_test(same, same), Error);
  EXPECT_THROW(paired_test(two, std::vector<double>{2, 3}), Error);
  const std::vector<std::uint8_t> labels{0, 1, 1};
  EXPECT_THROW(delong_test(labels, std::vector<double>{1, 2, 3}, std::vector<double>{3, 2, 1}), Error) << "one negative";
  const Sided images(20);
  std::vector<int> patients;
  for (int i = 0; i < 40; ++i) patients.push_back(i % 4 == 3 ? i % 3 : i % 8);
  EXPECT_EQ(count_clusters(images.labels, patients).with_class[1], 4);
  try {
    clustered_auc_ci95(images.labels, images.apart, patients, 1);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::data);
    EXPECT_TRUE(error.report().found.ends_with("4 with class 1")) << error.report().found;
  }
}

}  // namespace
}  // namespace microtome
