#include "tools/statistics/classification.h"

#include "tools/statistics/significance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace microtome {

Verdict judge(std::span<const double> scores, std::span<const std::uint8_t> labels, std::span<const std::string> groups) {
  Verdict verdict;
  verdict.n = static_cast<std::int64_t>(labels.size());
  verdict.positives = std::count(labels.begin(), labels.end(), std::uint8_t{1});
  verdict.counts = confusion(labels, scores);
  verdict.loss = loss_of_probabilities(labels, scores);
  verdict.accuracy = accuracy(verdict.counts);
  verdict.auc = auc(labels, scores);
  verdict.auc_ci95 = auc_ci95(labels, scores);
  verdict.roc = roc_curve(labels, scores);
  if (groups.empty()) return verdict;
  const std::vector<int> clusters = numbered(groups);
  verdict.groups = 1 + std::ranges::max(clusters);
  if (verdict.groups > 1) verdict.auc_ci95_clustered = clustered_auc_ci95(labels, scores, clusters, 0);
  return verdict;
}

Verdict judge(const Evaluation& evaluation, std::span<const std::uint8_t> labels, std::span<const std::string> groups) {
  Verdict verdict = judge(std::vector<double>(evaluation.scores.begin(), evaluation.scores.end()), labels, groups);
  verdict.loss = evaluation.loss;
  verdict.accuracy = evaluation.accuracy;
  return verdict;
}

nlohmann::ordered_json to_json(const Verdict& v) {
  nlohmann::ordered_json json{{"n", v.n},       {"positives", v.positives},
                              {"loss", v.loss}, {"accuracy", v.accuracy},
                              {"auc", v.auc},   {"auc_ci95", {v.auc_ci95.first, v.auc_ci95.second}}};
  if (v.groups > 0) json["groups"] = v.groups;
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

std::string to_text(const Verdict& v) {
  const std::string clustered =
      v.auc_ci95_clustered
          ? fmt::format("                   95% interval {:.4f} to {:.4f}, drawing {} patients or slides as wholes\n",
                        v.auc_ci95_clustered->first, v.auc_ci95_clustered->second, v.groups)
          : "";
  return fmt::format(
      "loss      {:.4f}\n"
      "accuracy  {:.4f}\n"
      "AUC       {:.4f}   95% interval {:.4f} to {:.4f}\n"
      "{}\n"
      "           called 0   called 1\n"
      "is 0     {:>10} {:>10}\n"
      "is 1     {:>10} {:>10}\n",
      v.loss, v.accuracy, v.auc, v.auc_ci95.first, v.auc_ci95.second, clustered, v.counts.true_negatives,
      v.counts.false_positives, v.counts.false_negatives, v.counts.true_positives);
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
