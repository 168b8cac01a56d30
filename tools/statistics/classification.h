// What is said of scores: loss, accuracy, AUC with its interval, ROC and confusion matrix.
#pragma once

#include "engine/fit.h"
#include "engine/metrics.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

struct Verdict {
  std::int64_t n = 0, positives = 0;
  double loss = 0, accuracy = 0, auc = 0;
  std::pair<double, double> auc_ci95;
  int groups = 0;                                               // patients or slides; 0: not known
  std::optional<std::pair<double, double>> auc_ci95_clustered;  // by them, where there are two or more
  Confusion counts;
  std::vector<RocPoint> roc;
};

/// Of an evaluation: loss and accuracy are the network's own, from logits. `groups`: as Images::groups; an image whose group
/// has no name stands for itself.
Verdict judge(const Evaluation& evaluation, std::span<const std::uint8_t> labels, std::span<const std::string> groups = {});
/// Of probabilities alone: the loss clips them as Keras does.
Verdict judge(std::span<const double> scores, std::span<const std::uint8_t> labels, std::span<const std::string> groups = {});

/// n, positives, loss, accuracy, auc, auc_ci95; groups and auc_ci95_clustered where they are known.
nlohmann::ordered_json to_json(const Verdict& verdict);
nlohmann::ordered_json to_json(const Confusion& counts);
nlohmann::ordered_json to_json(std::span<const RocPoint> roc);  // [[fpr, tpr, threshold], …]; the first threshold is null

/// Lines for people.
std::string to_text(const Verdict& verdict);

/// From 0 on in order of first sight, equal where names are; a number of its own for each empty name.
std::vector<int> numbered(std::span<const std::string> groups);

}  // namespace microtome
