#include "tools/statistics/classification.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace microtome {
namespace {

TEST(ClassificationTest, AnImageWithoutAGroupStandsForItself) {
  EXPECT_EQ(numbered(std::vector<std::string>{"b", "", "a", "b", "", "a"}), (std::vector<int>{0, 1, 2, 0, 3, 2}));
}

TEST(ClassificationTest, ImagesOfOnePatientWidenTheInterval) {
  // Each patient's eight images have one score: eight are worth no more than one.
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
  std::vector<std::string> patients;
  for (int patient = 0; patient < 20; ++patient) {
    for (int image = 0; image < 8; ++image) {
      labels.push_back(static_cast<std::uint8_t>(patient % 2));
      scores.push_back(0.04 * patient + (patient % 2 == 0 ? 0.1 : 0));
      patients.push_back(std::to_string(patient));
    }
  }
  const Metrics alone = metrics_of(scores, labels), grouped = metrics_of(scores, labels, patients);
  EXPECT_FALSE(alone.auc_ci95_clustered);
  EXPECT_FALSE(metrics_of(scores, labels, std::vector<std::string>(labels.size(), "one")).auc_ci95_clustered)
      << "nothing to draw from";
  ASSERT_TRUE(grouped.auc_ci95_clustered);
  EXPECT_EQ(grouped.groups, 20);
  const auto width = [](const std::pair<double, double>& interval) { return interval.second - interval.first; };
  EXPECT_GT(width(*grouped.auc_ci95_clustered), 1.5 * width(alone.auc_ci95));
}

TEST(ClassificationTest, WhatCannotHaveAnIntervalSaysWhy) {
  std::vector<std::uint8_t> labels;
  std::vector<double> scores;
  std::vector<std::string> two, six;
  for (int i = 0; i < 24; ++i) {
    labels.push_back(static_cast<std::uint8_t>(i % 2));
    scores.push_back(i % 2 == 0 ? 0.2 : 0.8);
    two.push_back(i < 12 ? "a" : "b"), six.push_back(std::to_string(i / 4));
  }
  const Metrics few = metrics_of(scores, labels, two), enough = metrics_of(scores, labels, six);
  EXPECT_EQ(clustered_interval_text(few),
            "no interval over patients or slides: too few (2 with class 0, 2 with class 1; it takes 5 with each)");
  EXPECT_NE(to_text(few).find(clustered_interval_text(few)), std::string::npos);
  EXPECT_TRUE(to_json(few)["auc_ci95_clustered"].is_null());
  EXPECT_EQ(to_json(few)["groups"], 2);
  EXPECT_EQ(clustered_interval_text(enough), "95% interval 0.6892 to 1.0000, drawing 6 patients or slides as wholes");
  EXPECT_EQ(to_json(enough)["auc_ci95_clustered"][1], 1.0);
  EXPECT_EQ(clustered_interval_text(metrics_of(scores, labels)), "");

  const Metrics alone = metrics_of(std::vector<double>{.1, .2, .9}, std::vector<std::uint8_t>{0, 0, 1});
  EXPECT_NE(to_text(alone).find("AUC       1.0000   no interval: a single image is of class 1\n"), std::string::npos)
      << to_text(alone);
}

TEST(ClassificationTest, AnEvaluationKeepsTheLossFromLogits) {
  const Evaluation evaluation{.loss = 3.25, .accuracy = 0.5, .scores = {0.75f, 0.25f}};
  const std::vector<std::uint8_t> labels{1, 0};
  const Metrics metrics = metrics_of(evaluation, labels);
  EXPECT_EQ(metrics.loss, 3.25);
  EXPECT_EQ(metrics.auc, 1.0);
  EXPECT_EQ(metrics.positives, 1);
}

TEST(ClassificationTest, TheFirstThresholdIsNullInJson) {
  const nlohmann::ordered_json json = to_json(roc_curve(std::vector<std::uint8_t>{0, 1}, std::vector<double>{0.25, 0.75}));
  EXPECT_TRUE(json.front()[2].is_null());
  EXPECT_EQ(json.back(), (nlohmann::ordered_json{1.0, 1.0, 0.25}));
}

}  // namespace
}  // namespace microtome
