#include "tools/statistics/classification.h"

#include "tools/statistics/auc_inference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace microtome {
namespace {

double sigmoid(double logit) {
  return 1 / (1 + std::exp(-logit));
}

/// What the order of the scores tells.
Metrics ranking_metrics(std::span<const double> scores, std::span<const std::uint8_t> labels,
                        std::span<const std::string> groups) {
  Metrics metrics;
  metrics.n = static_cast<std::int64_t>(labels.size());
  metrics.positives = std::count(labels.begin(), labels.end(), std::uint8_t{1});
  metrics.auc = auc(labels, scores);
  metrics.auc_ci95 = auc_ci95(labels, scores);
  metrics.roc = roc_curve(labels, scores);
  if (groups.empty()) return metrics;
  const std::vector<int> clusters = numbered(groups);
  metrics.groups = 1 + std::ranges::max(clusters);
  const ClusterCounts counts = count_clusters(labels, clusters);
  metrics.groups_with_class = counts.with_class;
  if (counts.enough()) metrics.auc_ci95_clustered = clustered_auc_ci95(labels, scores, clusters, 0);
  return metrics;
}

}  // namespace

Metrics metrics_of(std::span<const double> scores, std::span<const std::uint8_t> labels, std::span<const std::string> groups) {
  const double loss = loss_of_probabilities(labels, scores);
  Metrics metrics = ranking_metrics(scores, labels, groups);
  metrics.loss = loss;
  metrics.counts = confusion(labels, scores);
  metrics.accuracy = accuracy(metrics.counts);
  return metrics;
}

Metrics metrics_of_logits(std::span<const double> logits, std::span<const std::uint8_t> labels,
                          std::span<const std::string> groups) {
  Metrics metrics = ranking_metrics(logits, labels, groups);
  std::vector<double> probabilities;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    probabilities.push_back(sigmoid(logits[i]));
    const double against = labels[i] != 0 ? -logits[i] : logits[i];
    metrics.loss += (std::max(against, 0.0) + std::log1p(std::exp(-std::abs(against)))) / static_cast<double>(logits.size());
  }
  metrics.counts = confusion(labels, probabilities);
  metrics.accuracy = accuracy(metrics.counts);
  for (RocPoint& point : metrics.roc)
    if (std::isfinite(point.threshold)) point.threshold = sigmoid(point.threshold);
  return metrics;
}

Metrics metrics_of(const Evaluation& evaluation, std::span<const std::uint8_t> labels, std::span<const std::string> groups) {
  Metrics metrics = metrics_of(std::vector<double>(evaluation.scores.begin(), evaluation.scores.end()), labels, groups);
  metrics.loss = evaluation.loss;
  metrics.accuracy = evaluation.accuracy;
  return metrics;
}

nlohmann::ordered_json to_json(const Metrics& v) {
  nlohmann::ordered_json json{{"n", v.n},       {"positives", v.positives},
                              {"loss", v.loss}, {"accuracy", v.accuracy},
                              {"auc", v.auc},   {"auc_ci95", {v.auc_ci95.first, v.auc_ci95.second}}};
  if (v.groups == 0) return json;
  json["groups"] = v.groups;
  json["auc_ci95_clustered"] = nullptr;
  if (v.auc_ci95_clustered) json["auc_ci95_clustered"] = {v.auc_ci95_clustered->first, v.auc_ci95_clustered->second};
  return json;
}

nlohmann::ordered_json to_json(const Confusion& counts) {
  return {{"true_negatives", counts.true_negatives},
          {"false_positives", counts.false_positives},
          {"false_negatives", counts.false_negatives},
          {"true_positives", counts.true_positives}};
}

nlohmann::ordered_json to_json(std::span<const RocPoint> roc) {
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const RocPoint& p : roc) {
    nlohmann::ordered_json threshold;
    if (std::isfinite(p.threshold)) threshold = p.threshold;
    points.push_back({p.false_positive_rate, p.true_positive_rate, threshold});
  }
  return points;
}

std::string interval_text(const Metrics& v) {
  if (v.positives == 1 || v.positives + 1 == v.n)
    return fmt::format("no interval: a single image is of class {}", v.positives == 1 ? 1 : 0);
  return fmt::format("95% interval {:.4f} to {:.4f}", v.auc_ci95.first, v.auc_ci95.second);
}

std::string clustered_interval_text(const Metrics& v) {
  if (v.groups == 0) return "";
  if (v.auc_ci95_clustered)
    return fmt::format("95% interval {:.4f} to {:.4f}, drawing {} patients or slides as wholes", v.auc_ci95_clustered->first,
                       v.auc_ci95_clustered->second, v.groups);
  return fmt::format("no interval over patients or slides: too few ({} with class 0, {} with class 1; it takes {} with each)",
                     v.groups_with_class[0], v.groups_with_class[1], ClusterCounts::fewest);
}

std::string to_text(const Metrics& v) {
  const std::string over_groups = clustered_interval_text(v);
  const std::string clustered = over_groups.empty() ? "" : fmt::format("{:19}{}\n", "", over_groups);
  return fmt::format(
      "loss      {:.4f}\n"
      "accuracy  {:.4f}\n"
      "AUC       {:.4f}   {}\n"
      "{}\n"
      "           called 0   called 1\n"
      "is 0     {:>10} {:>10}\n"
      "is 1     {:>10} {:>10}\n",
      v.loss, v.accuracy, v.auc, interval_text(v), clustered, v.counts.true_negatives, v.counts.false_positives,
      v.counts.false_negatives, v.counts.true_positives);
}

std::vector<int> numbered(std::span<const std::string> groups) {
  std::unordered_map<std::string_view, int> known;
  std::vector<int> numbers;
  int next = 0;
  for (const std::string& name : groups) {
    const bool met = !name.empty() && !known.try_emplace(name, next).second;
    numbers.push_back(met ? known.at(name) : next++);
  }
  return numbers;
}

}  // namespace microtome
