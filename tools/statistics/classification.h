// What is said of scores: loss, accuracy, AUC with its interval, ROC and confusion matrix.
#pragma once

#include "engine/fit.h"
#include "engine/metrics.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

struct Metrics {
  std::int64_t n = 0, positives = 0;
  double loss = 0, accuracy = 0, auc = 0;
  std::pair<double, double> auc_ci95;
  int groups = 0;  // patients or slides; 0: not known
  std::array<int, 2> groups_with_class{};
  std::optional<std::pair<double, double>> auc_ci95_clustered;  // by them, where they are enough
  Confusion counts;
  std::vector<RocPoint> roc;
};

/// Of an evaluation: loss and accuracy are the network's own, from logits. `groups`: as Images::groups; an image whose group
/// has no name stands for itself.
Metrics metrics_of(const Evaluation& evaluation, std::span<const std::uint8_t> labels,
                   std::span<const std::string> groups = {});
/// Of probabilities alone: the loss clips them as Keras does.
Metrics metrics_of(std::span<const double> scores, std::span<const std::uint8_t> labels,
                   std::span<const std::string> groups = {});
/// Of logits: theirs is the loss, and images rank by them also where probabilities are 1 to a double; the ROC's thresholds are
/// probabilities.
Metrics metrics_of_logits(std::span<const double> logits, std::span<const std::uint8_t> labels,
                          std::span<const std::string> groups = {});

/// n, positives, loss, accuracy, auc, auc_ci95; groups and auc_ci95_clustered where patients or slides are known, the latter
/// null where they are too few.
nlohmann::ordered_json to_json(const Metrics& metrics);
nlohmann::ordered_json to_json(const Confusion& counts);
nlohmann::ordered_json to_json(std::span<const RocPoint> roc);  // [[fpr, tpr, threshold], …]; the first threshold is null

/// Lines for people.
std::string to_text(const Metrics& metrics);

/// "95% interval 0.9000 to 0.9500", or why there is none.
std::string interval_text(const Metrics& metrics);
/// The same over patients or slides; empty where they are not known.
std::string clustered_interval_text(const Metrics& metrics);

/// From 0 on in order of first sight, equal where names are; a number of its own for each empty name.
std::vector<int> numbered(std::span<const std::string> groups);

}  // namespace microtome
