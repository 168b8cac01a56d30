// Loss, accuracy, AUC with its interval, ROC and confusion matrix: of weights on a split, or of a CSV of scores.
#include "engine/check.h"
#include "engine/model.h"
#include "engine/views.h"
#include "tools/cli/program.h"
#include "tools/cli/run_folder.h"
#include "tools/options/common.h"
#include "tools/report/scores.h"
#include "tools/statistics/classification.h"

#include "data/file.h"

#include <algorithm>

namespace microtome {
namespace {

struct EvaluateSettings : Settings {
  std::string split = "test", tta = "none", scores, save_scores, roc;
  bool json = false, logits = false;
};

Arguments declare(EvaluateSettings& s) {
  Arguments arguments(
      "evaluate", "Judge a network's weights on a split, or scores from anywhere.",
      "--net NAME --weights FILE --data DIR | --scores FILE [options]",
      {"evaluate --net b6 --weights runs/b6/best.weights.h5 --data ~/pcam", "evaluate --scores scores.csv --json"});
  arguments.ignore_foreign_settings();
  arguments.heading("Network");
  add_network(arguments, s);
  add_weights(arguments, s);
  arguments.heading("Data");
  add_data(arguments, s);
  arguments.add({.name = "split", .help = "which images"}, s.split, {"train", "valid", "test"});
  add_preprocess(arguments, s);
  add_tta(arguments, s.tta);
  arguments.add({.name = "scores",
                 .placeholder = "FILE",
                 .help = "judge this CSV instead: columns label (0 or 1) and score (0 to 1), or y_true and y_pred and other "
                         "usual names; and group, a patient or slide, for an interval that knows of them"},
                s.scores);
  arguments.add_flag({.name = "logits", .help = "the scores of --scores are logits"}, s.logits);
  arguments.heading("Machine");
  arguments.add({.name = "batch-size", .letter = 'b', .help = "images at a time", .unit = "images"}, s.batch_size, {1, 65536});
  add_machine(arguments, s);
  arguments.heading("Output");
  arguments.add(
      {.name = "save-scores", .placeholder = "FILE", .help = "write every image's score as CSV: id,label,score,group"},
      s.save_scores);
  arguments.add({.name = "roc", .placeholder = "FILE", .help = "write the ROC's points as CSV"}, s.roc);
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, s.json);
  add_verbosity(arguments, s);
  return arguments;
}

void write_text(const std::string& file, const std::string& text, std::string_view what) {
  const Bytes part = std::as_bytes(std::span(text.data(), text.size()));
  write_whole(file, {&part, 1}, what);
}

Verdict judge_network(const EvaluateSettings& s) {
  const Network& network = find_network(s.net);
  Terminal terminal(s.verbosity());
  const std::unique_ptr<Backend> backend = open_backend(s, terminal);
  const Dataset data =
      open_data(s, {.train = s.split == "train", .valid = s.split == "valid", .test = s.split == "test"}, terminal);
  const Images& images = s.split == "train" ? data.train : s.split == "valid" ? data.valid : data.test;
  const Extent image(images.shape.h, images.shape.w);
  Model model(frozen(s, network, image), *backend);
  model.set_weights(open_weights(s.weights, network, model.graph(), image, terminal));
  const FitOptions options = fit_options(s, network);
  const auto progress = [&](int done, int of) { terminal.progress("evaluating", done, of, "batches"); };
  Verdict verdict;
  std::vector<float> scores;
  if (s.tta == "d4") {
    scores = evaluate_views(model, images, options, progress);
    verdict = judge(std::vector<double>(scores.begin(), scores.end()), images.labels, images.groups);
  } else {
    const Evaluation evaluation = evaluate(model, images, options, progress);
    scores = evaluation.scores;
    verdict = judge(evaluation, images.labels, images.groups);
  }
  if (!s.save_scores.empty()) write_text(s.save_scores, scores_csv(images, scores), "scores");
  return verdict;
}

int evaluate_program(int argc, char** argv) {
  EvaluateSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  Verdict verdict;
  if (s.scores.empty()) {
    if (s.logits) fail(ExitCode::usage, "--logits says what --scores holds", {.next = "evaluate --scores FILE --logits"});
    arguments.require_all();
    verdict = judge_network(s);
  } else {
    if (s.tta != "none" || !s.save_scores.empty())
      fail(ExitCode::usage, "--tta and --save-scores need a network to score images",
           {.found = fmt::format("--scores {}", s.scores), .next = "leave out --scores, or these"});
    const LabelledScores csv = read_scores(s.scores, s.logits ? Scale::logits : Scale::as_named);
    require_as_many_as_result(s.scores, csv);
    Terminal terminal(s.verbosity());
    for (const std::string& note : csv.notes) terminal.say("note: {}", note);
    try {
      verdict = csv.logits ? judge_logits(csv.scores, csv.labels, csv.groups) : judge(csv.scores, csv.labels, csv.groups);
    } catch (Error& error) {
      throw error.within(s.scores);
    }
  }
  if (!s.roc.empty()) write_text(s.roc, roc_csv(verdict.roc), "ROC");
  if (!s.json) {
    fmt::print("n         {}, {} of class 1\n{}", verdict.n, verdict.positives, to_text(verdict));
    return 0;
  }
  Json json = to_json(verdict);
  if (s.scores.empty()) {
    json["net"] = s.net;
    json["split"] = s.split;
    json["tta"] = s.tta;
    json["confusion"] = to_json(verdict.counts);
    json["roc"] = to_json(verdict.roc);
  }
  fmt::print("{}", to_text(json));
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("evaluate", [&] { return microtome::evaluate_program(argc, argv); });
}
