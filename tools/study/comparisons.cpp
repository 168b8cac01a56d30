#include "tools/study/comparisons.h"

#include "engine/check.h"
#include "tools/options/training.h"
#include "tools/statistics/auc_inference.h"
#include "tools/study/published_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>

namespace microtome {
namespace {

/// A network's AUCs, 1st: with the one training, 2nd: with the other; where there are both.
using Pairs = std::vector<std::pair<double, double>>;

std::vector<double> firsts(const Pairs& pairs) {
  std::vector<double> all;
  for (const auto& [first, second] : pairs) all.push_back(first);
  return all;
}

std::vector<double> seconds(const Pairs& pairs) {
  std::vector<double> all;
  for (const auto& [first, second] : pairs) all.push_back(second);
  return all;
}

/// AUCs of the twelve networks by mode, the paper's or ours.
struct Side {
  std::map<std::string, double> transfer, full;

  static std::vector<double> values(const std::map<std::string, double>& of) {
    std::vector<double> all;
    for (const auto& [net, auc] : of) all.push_back(auc);
    return all;
  }
  Pairs pairs() const {
    Pairs all;
    for (const auto& [net, auc] : transfer)
      if (const auto other = full.find(net); other != full.end()) all.emplace_back(auc, other->second);
    return all;
  }
};

Side paper_side(std::string_view data) {
  Side side;
  for (const PaperScore& score : paper_scores(data))
    (score.mode == "full" ? side.full : side.transfer)[std::string(score.net)] = score.auc;
  return side;
}

Side our_side(const Study& study, std::string_view data) {
  Side side;
  for (const Arm& arm : study.arms())
    if (arm.data == data && study.is_main(arm) && paper_network(arm.net) && !arm.runs.empty())
      (arm.mode == "full" ? side.full : side.transfer)[arm.net] = arm.estimate.auc;
  return side;
}

std::vector<Column> comparison_columns(std::vector<Column> before) {
  const Column more[] = {{"difference", "mean", "difference"}, {"low", "95% from", "difference"}, {"high", "to", "difference"}};
  before.insert(before.end(), std::begin(more), std::end(more));
  return before;
}

/// A line a pair of arms, with Holm's adjustment over the lines that have a p.
class ArmTests {
 public:
  /// `third`: the heading of a third column, if there is one.
  ArmTests(std::string key, std::string heading, std::string a, std::string b, std::string third = "")
      : with_third_(!third.empty()) {
    table_.key = std::move(key);
    table_.heading = std::move(heading);
    table_.columns = {{"data", "data", ""}, {"network", "network", ""}};
    if (with_third_) table_.columns.push_back({third, third, ""});
    table_.columns.push_back({"seeds", "seeds", ""});
    table_.columns.push_back({"auc_" + a, a, "AUC"});
    table_.columns.push_back({"auc_" + b, b, "AUC"});
    table_.columns = comparison_columns(std::move(table_.columns));
    table_.columns.push_back({"difference_sd", "± sd", "difference"});
    table_.columns.insert(table_.columns.end(), {{"z", "z", ""}, {"p", "p", ""}, {"p_holm", "p, Holm", ""}});
  }

  void add(const Arm& a, const Arm& b, std::string third = "") {
    const std::optional<ArmTest> test = compare(a, b);
    if (!test) return;
    Table::Line line{"", {title_of_data(a.data), label_of(a.net)}};
    if (with_third_) line.values.emplace_back(std::move(third));
    std::optional<double> low, high;
    if (test->ci95) low = test->ci95->first, high = test->ci95->second;
    line.values.insert(line.values.end(),
                       {number(static_cast<double>(test->seeds.size()), 0), number(test->auc_a, 3), number(test->auc_b, 3),
                        number(test->auc_a - test->auc_b, 4), number(low, 4), number(high, 4), number(test->deviation, 4),
                        number(test->z, 2), test->doubt.empty() ? significant(test->p, 3) : Value(test->doubt)});
    if (test->p) p_.push_back(*test->p), tested_.push_back(table_.lines.size());
    table_.lines.push_back(std::move(line));
    pairs_[a.data].emplace_back(test->auc_a, test->auc_b);
  }

  bool empty() const { return table_.lines.empty(); }
  const std::map<std::string, Pairs>& pairs() const { return pairs_; }

  Table table() && {
    const std::vector<double> adjusted = holm(p_);
    for (Table::Line& line : table_.lines) line.values.emplace_back();
    for (std::size_t i = 0; i < tested_.size(); ++i) table_.lines[tested_[i]].values.back() = significant(adjusted[i], 3);
    table_.notes.push_back(
        "Paired DeLong on the same test images, of the mean AUCs where there are several seeds [DeLong1988]. It takes images "
        "as "
        "independent and the networks as they are: images of one patient or slide make it too sure, and what other seeds would "
        "give is not in it (± sd is of the difference between seeds). Holm's adjustment [Holm1979] is over this table.");
    if (tested_.size() < table_.lines.size())
      table_.notes.push_back(fmt::format(
          "Lines without a p: the cells lack scores.csv, or their test images differ. Too few images: less than {} of a class. "
          "Too little varies: exchanging the two scores of single images could not tell so much [Bandos2005].",
          fewest_images));
    return std::move(table_);
  }

 private:
  bool with_third_;
  Table table_;
  std::vector<double> p_;
  std::vector<std::size_t> tested_;
  std::map<std::string, Pairs> pairs_;
};

/// "On PCam, over 10 networks: 0.0123 (95% from 0.0012 to 0.0234), t = …", or why not.
std::string paired_sentence(std::string_view what, std::string_view data, const Pairs& pairs) {
  std::string text = fmt::format("{} on {}, paired t-test over {} training{}: ", what, title_of_data(data), pairs.size(),
                                 pairs.size() == 1 ? "" : "s");
  try {
    const TTest t = paired_test(firsts(pairs), seconds(pairs));
    return text + fmt::format("mean difference {:.4f} (95% from {:.4f} to {:.4f}), t = {:.5g}, df = {:.5g}, p = {:.4g}.",
                              t.difference, t.ci95.first, t.ci95.second, t.t, t.df, t.p);
  } catch (const Error& error) {
    return text + fmt::format("not possible, {}.", error.what());
  }
}

/// Of two trainings that differ in one word.
ArmTests arm_tests(const Study& study, std::string key, std::string heading, std::string Arm::*word, const std::string& a,
                   const std::string& b, const std::function<bool(const Arm&)>& of_interest) {
  ArmTests tests(std::move(key), std::move(heading), a, b, "training");
  for (const Arm& arm : study.arms()) {
    if (arm.*word != a || !of_interest(arm)) continue;
    Arm like{arm.data, arm.net, arm.mode, arm.preprocess, arm.augment, {}, {}, {}};
    like.*word = b;
    const Arm* other = study.arm(like);
    if (!other) continue;
    std::string training = arm.mode;
    if (word != &Arm::preprocess) training += ", " + arm.preprocess;
    if (word != &Arm::augment && arm.augment != "none") training += ", " + arm.augment;
    tests.add(arm, *other, training);
  }
  return tests;
}

/// Plain against eight-view scores of the same weights.
void add_averaging(const Study& study, Section& section) {
  Table cells{
      .key = "averaging_cells",
      .heading = "Averaging over eight views, by seed",
      .columns = comparison_columns({{"data", "data", ""},
                                     {"network", "network", ""},
                                     {"training", "training", ""},
                                     {"seed", "seed", ""},
                                     {"auc_averaged", "eight views", "AUC"},
                                     {"auc_plain", "one", "AUC"}}),
      .lines = {},
      .notes = {fmt::format("Intervals: paired DeLong on the same test images, where both files of scores are there and "
                            "hold {} or more of each class.",
                            fewest_images)}};
  cells.columns[6].heading = "of the two";
  Table means{.key = "averaging",
              .heading = "Averaging over eight views, over seeds",
              .columns = comparison_columns({{"data", "data", ""},
                                             {"network", "network", ""},
                                             {"training", "training", ""},
                                             {"seeds", "seeds", ""},
                                             {"auc_averaged", "eight views", "AUC"},
                                             {"auc_plain", "one", "AUC"}}),
              .lines = {},
              .notes = {"Intervals: Student's, of the differences between seeds, for which it takes two."}};
  std::map<std::string, Pairs> by_data;
  for (const Arm& arm : study.arms()) {
    const std::string training =
        fmt::format("{}, {}{}", arm.mode, arm.preprocess, arm.augment == "none" ? "" : ", " + arm.augment);
    Pairs pairs;
    for (const StudyRun& run : arm.runs) {
      if (!run.tta_auc) continue;
      pairs.emplace_back(*run.tta_auc, run.auc);
      std::optional<double> low, high;
      if (run.scores && run.tta_scores && run.scores->images == run.tta_scores->images) {
        try {
          const AucTest test = delong_test(run.scores->labels, run.tta_scores->scores, run.scores->scores);
          if (test.doubt.empty()) low = test.ci95.first, high = test.ci95.second;
        } catch (const Error&) {  // one image of a class
        }
      }
      cells.lines.push_back(
          {"",
           {title_of_data(arm.data), label_of(arm.net), training, fmt::format("{}", run.state->cell.seed),
            number(*run.tta_auc, 4), number(run.auc, 4), number(*run.tta_auc - run.auc, 4), number(low, 4), number(high, 4)}});
    }
    if (pairs.empty()) continue;
    double with = 0, without = 0;
    for (const auto& [averaged, plain] : pairs)
      with += averaged / static_cast<double>(pairs.size()), without += plain / static_cast<double>(pairs.size());
    by_data[arm.data].emplace_back(with, without);
    std::optional<double> low, high;
    try {
      const TTest test = paired_test(firsts(pairs), seconds(pairs));
      low = test.ci95.first, high = test.ci95.second;
    } catch (const Error&) {  // a single seed
    }
    means.lines.push_back({"",
                           {title_of_data(arm.data), label_of(arm.net), training, number(static_cast<double>(pairs.size()), 0),
                            number(with, 4), number(without, 4), number(with - without, 4), number(low, 4), number(high, 4)}});
  }
  if (cells.lines.empty()) {
    section.said.push_back("Averaging over eight views: no cell that is done was judged so.");
    return;
  }
  for (const auto& [data, pairs] : by_data) section.said.push_back(paired_sentence("Eight views less one", data, pairs));
  section.tables.push_back(std::move(means));
  section.tables.push_back(std::move(cells));
}

/// A network that the paper had not beside each that it had, all fully trained.
void add_other_networks(const Study& study, Section& section) {
  ArmTests tests("other_networks", "Networks that the paper had not, less those that it had", "first", "second", "less");
  const auto is_full = [&](const Arm& arm) { return arm.mode == "full" && study.is_main(arm) && !arm.runs.empty(); };
  bool any = false;
  for (const Arm& arm : study.arms()) {
    if (!is_full(arm) || paper_network(arm.net)) continue;
    any = true;
    for (const Arm& other : study.arms())
      if (is_full(other) && other.data == arm.data && paper_network(other.net)) tests.add(arm, other, label_of(other.net));
  }
  if (!any)
    section.said.push_back("Rotation equivariance: P4M, to which the paper points for an AUC of 0.97, has not been trained.");
  if (!tests.empty()) section.tables.push_back(std::move(tests).table());
}

}  // namespace

Section full_against_transfer(const Study& study) {
  Section section{
      .heading = "Is full training better than transfer learning?",
      .said =
          {"The paper asked this with Welch's test of the AUCs of its networks [Welch1947]. It takes them as two independent "
           "samples; but most networks stand in both, so that the paired test over networks with both modes is the one "
           "that fits. Both take networks as a random draw, which they are not."},
      .figures = {},
      .tables = {}};
  Table tests{.key = "full_against_transfer",
              .heading = "Transfer less full, over networks",
              .columns = comparison_columns({{"data", "data", ""},
                                             {"whose", "AUCs", ""},
                                             {"test", "test", ""},
                                             {"n_transfer", "transfer", "networks"},
                                             {"n_full", "full", "networks"},
                                             {"mean_transfer", "transfer", "mean AUC"},
                                             {"mean_full", "full", "mean AUC"}}),
              .lines = {},
              .notes = {}};
  tests.columns.insert(tests.columns.end(), {{"t", "t", ""}, {"df", "df", ""}, {"p", "p", ""}});
  for (const std::string& data : study.data_sets()) {
    for (const bool ours : {false, true}) {
      const Side side = ours ? our_side(study, data) : paper_side(data);
      const Pairs pairs = side.pairs();
      const std::vector<double> transfer = Side::values(side.transfer), full = Side::values(side.full);
      const auto add = [&](const char* name, std::span<const double> a, std::span<const double> b, auto test) {
        try {
          const TTest t = test(a, b);
          double mean_a = 0, mean_b = 0;
          for (const double auc : a) mean_a += auc / static_cast<double>(a.size());
          for (const double auc : b) mean_b += auc / static_cast<double>(b.size());
          tests.lines.push_back({"",
                                 {title_of_data(data), ours ? "here" : "paper", name, number(static_cast<double>(a.size()), 0),
                                  number(static_cast<double>(b.size()), 0), number(mean_a, 4), number(mean_b, 4),
                                  number(t.difference, 4), number(t.ci95.first, 4), number(t.ci95.second, 4),
                                  significant(t.t, 5), significant(t.df, 5), significant(t.p, 4)}});
        } catch (const Error& error) {
          section.said.push_back(
              fmt::format("{} test on {}, of our own AUCs: not possible with {} of transfer and {} of full training, {}.", name,
                          title_of_data(data), a.size(), b.size(), error.what()));
        }
      };
      add("Welch's", transfer, full, welch_test);
      add("Paired", firsts(pairs), seconds(pairs), paired_test);
    }
  }
  if (study.data_sets().empty()) return section;
  section.tables.push_back(std::move(tests));

  ArmTests delong("delong", "Full less transfer, network by network", "full", "transfer");
  for (const Arm& arm : study.arms()) {
    if (arm.mode != "full" || !study.is_main(arm)) continue;
    if (const Arm* other = study.main_arm(arm.data, arm.net, "transfer")) delong.add(arm, *other);
  }
  if (delong.empty())
    section.said.push_back("Network by network: none has been trained in both modes from the same seed yet.");
  else
    section.tables.push_back(std::move(delong).table());
  return section;
}

Section past_the_paper(const Study& study) {
  Section section{.heading = "Past the paper", .said = {}, .figures = {}, .tables = {}};
  const auto add = [&](ArmTests tests, const char* what, const char* absence) {
    if (tests.empty()) {
      section.said.emplace_back(absence);
      return;
    }
    for (const auto& [data, pairs] : tests.pairs()) section.said.push_back(paired_sentence(what, data, pairs));
    section.tables.push_back(std::move(tests).table());
  };
  add(arm_tests(study, "preprocess", "Pixels as the base knows them, transfer learning", &Arm::preprocess, "native", "paper",
                [](const Arm& arm) { return arm.mode == "transfer"; }),
      "Native less paper preprocessing",
      "Preprocessing: no transfer has been run both as in the paper (x / 255) and as its base was trained.");
  add(arm_tests(study, "augment", "Training on the eight symmetries", &Arm::augment, "d4", "none",
                [](const Arm&) { return true; }),
      "d4 less no augmentation", "Augmentation: no training has been run both without and with d4.");
  add_averaging(study, section);
  add_other_networks(study, section);
  return section;
}

Section differences_from_the_paper(const Study& study) {
  const auto any = [&](auto holds) {
    return std::ranges::any_of(study.states(), [&](const CellState& o) { return o.status == CellStatus::done && holds(o); });
  };
  const auto says = [](const CellState& o, const char* key) {
    return o.result.is_object() && o.result.contains(key) ? o.result[key] : Json();
  };
  Section section{.heading = "What differs from the paper, and why", .said = {}, .figures = {}, .tables = {}};
  const auto say = [&](std::string text) { section.said.push_back(std::move(text)); };

  const auto published = [&](const CellState& o) { return says(o, "weights") == "imagenet"; };
  const auto random = [&](const CellState& o) { return o.result.contains("weights") && says(o, "weights").is_null(); };
  if (any([&](const CellState& o) { return o.cell.mode == "full" && has_published_base(o.cell.net) && random(o); }))
    say("Full training starts from random weights here. The paper's published code starts it from ImageNet's and lets all of "
        "them "
        "move, so that its rows are of fine-tuning.");
  if (any([&](const CellState& o) { return o.cell.mode == "transfer" && o.result.contains("weights") && !published(o); }))
    say("The frozen bases of transfer learning are not ImageNet's: they were trained elsewhere (see initial weights above), so "
        "that the "
        "rows are of transfer from that, and say nothing of ImageNet.");
  if (any([&](const CellState& o) {
        const Json images = says(o, "train_images"), batch = says(o, "batch_size");
        const bool normalises = o.cell.mode == "full" && says(o, "parameters") != says(o, "trainable_parameters");
        const bool trails = random(o) && images.is_number_integer() && batch.is_number_integer() &&
                            averages_trail(images.get<std::int64_t>(), batch.get<int>());
        return normalises && (o.statistics == "population" || (o.statistics == "auto" && trails));
      }))
    say("Batch-norm: where an epoch has less than 1,000 steps and weights were random at first, validation and test take the "
        "population's statistics [Ioffe2015] in the place of Keras' moving averages, which would trail the weights by some "
        "hundred steps.");
  if (any([](const CellState& o) { return o.cell.preprocess == "native" && has_published_base(o.cell.net); }))
    say("Native preprocessing feeds each network the pixels that its published base was trained on. The paper fed x / 255 to "
        "all.");
  if (any([](const CellState& o) { return o.cell.mode == "transfer" && o.cell.preprocess == "paper"; }))
    say("Preprocessing as in the paper is x / 255 for every network. Its bases were trained on other pixels: for "
        "EfficientNetV2, which "
        "divides by 255 itself, the contrast is 255 times too small; VGG19 and ResNet50 know pixels from 0 to 255. The "
        "networks that "
        "do worst under transfer in the paper are among these, which is why native preprocessing is compared.");
  if (any([](const CellState& o) { return o.cell.data == "pcam"; })) {
    if (any([&](const CellState& o) {
          return o.cell.data == "pcam" && says(o, "train_images").is_number() && says(o, "train_images") != paper_epoch_images;
        }))
      say("PCam is a sample here, not the 262,144 training images of the paper: AUCs are lower and their intervals wider for "
          "that alone.");
  }
  if (any([](const CellState& o) { return o.cell.data == "idc"; })) {
    if (any([&](const CellState& o) { return o.cell.data == "idc" && o.split_by == "patch"; }))
      say("IDC is split by patch: neighbours from one slide lie on both sides, as they most likely did in the paper, which "
          "does not say.");
    if (any([&](const CellState& o) { return o.cell.data == "idc" && o.split_by == "patient"; }))
      say("IDC is split by patient: no patient is on both sides. The paper does not say how it split; dealing single patches "
          "puts "
          "neighbours into training and test and makes figures look better.");
    if (any([&](const CellState& o) {
          return o.cell.data == "idc" && says(o, "train_images").is_number() && says(o, "train_images") < 100000;
        }))
      say("IDC is a sample here: the whole set has 277,524 patches. The paper counts 220,177 and does not say which.");
  }
  if (any([](const CellState& o) { return o.cell.net.starts_with("efficientnet"); }))
    say("EfficientNetV2 came to Keras after the version that the paper names, so that its rows are of some later one; its "
        "depth of 252 for "
        "B2 is a slip for 352.");
  if (any([&](const CellState& o) { return says(o, "epochs").is_number() && says(o, "epochs") != 15; }))
    say("The paper trained for 15 epochs; other numbers were asked for here.");
  if (any([&](const CellState& o) {
        return (says(o, "batch_size").is_number() && says(o, "batch_size") != 32) ||
               (says(o, "learning_rate").is_number() && says(o, "learning_rate") != 1e-3);
      }))
    say("The rows of the paper's tables are of batches of 32 and Adam at 0.001; some here are of others.");
  if (any([&](const CellState& o) { return says(o, "precision").is_string() && says(o, "precision") != "f32"; }))
    say("The paper trained in single precision; some rows here are of a lower one.");
  say("The paper ran each network once and printed two digits. Runs of one network differ by some hundredths between seeds, as "
      "large as "
      "most of its differences between networks.");
  if (any([](const CellState& o) { return o.cell.mode == "transfer"; }))
    say("The paper says that transfer is always worse. Its own tables hold exceptions: DenseNet201 on PCam, 0.91 against 0.88, "
        "and "
        "DenseNet169 on IDC, whose two rows agree in every figure.");
  return section;
}

}  // namespace microtome
