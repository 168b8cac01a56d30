// Loss, accuracy, AUC with its interval, ROC and confusion matrix: of weights on a split, or of a CSV of scores.
#include "engine/check.h"
#include "engine/model.h"
#include "tools/program.h"
#include "tools/run_folder.h"
#include "tools/scores.h"
#include "tools/settings.h"

#include "data/file.h"

#include <algorithm>

namespace microtome {
namespace {

struct EvaluateSettings : Settings {
  std::string split = "test", scores, roc;
  bool json = false;
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
  arguments.add(
      {.name = "scores", .placeholder = "FILE", .help = "judge this CSV instead: columns label (0 or 1) and score (0 to 1)"},
      s.scores);
  arguments.heading("Machine");
  arguments.add({.name = "batch-size", .letter = 'b', .help = "images at a time", .unit = "images"}, s.batch_size, {1, 65536});
  add_machine(arguments, s);
  arguments.heading("Output");
  arguments.add({.name = "roc", .placeholder = "FILE", .help = "write the ROC's points as CSV"}, s.roc);
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, s.json);
  add_verbosity(arguments, s);
  return arguments;
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
  const Evaluation evaluation =
      evaluate(model, images, fit_options(s, network), [&](int done, int of) { terminal.progress("evaluating", done, of, "batches"); });
  return judge(evaluation, images.labels);
}

int evaluate_program(int argc, char** argv) {
  EvaluateSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  Verdict verdict;
  if (s.scores.empty()) {
    arguments.require_all();
    verdict = judge_network(s);
  } else {
    const LabelledScores csv = read_scores(s.scores);
    verdict = judge(csv.scores, csv.labels);
  }
  if (!s.roc.empty()) {
    const std::string csv = roc_csv(verdict.roc);
    const Bytes part = std::as_bytes(std::span(csv.data(), csv.size()));
    write_whole(s.roc, {&part, 1}, "ROC");
  }
  if (!s.json) {
    fmt::print("n         {}, {} of class 1\n{}", verdict.n, verdict.positives, to_text(verdict));
    return 0;
  }
  Json json = to_json(verdict);
  if (s.scores.empty()) {
    json["net"] = s.net;
    json["split"] = s.split;
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
