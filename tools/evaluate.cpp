// Loss, accuracy, AUC with its interval, ROC and confusion matrix: of weights on a split, or of a CSV of scores.
#include "engine/check.h"
#include "engine/model.h"
#include "engine/test_time_views.h"
#include "tools/cli/program.h"
#include "tools/cli/run_folder.h"
#include "tools/options/common.h"
#include "tools/options/outputs.h"
#include "tools/options/weights.h"
#include "tools/report/scores.h"
#include "tools/statistics/classification.h"

#include "data/file.h"

#include <array>
#include <iterator>
#include <utility>

namespace microtome {
namespace {

struct EvaluateSettings : Settings {
  std::string split = "test", tta = "none", scores, save_scores, roc;
  bool json = false, logits = false;
};

Arguments declare(EvaluateSettings& s) {
  Arguments arguments("evaluate", "Judge a network's weights on a split, or scores from anywhere.",
                      "--weights FILE --data DIR | --scores FILE [options]",
                      {"evaluate --weights runs/b6/best.weights.h5 --data ~/pcam", "evaluate --scores scores.csv --json"});
  arguments.ignore_foreign_settings();
  arguments.required_unless("scores");
  arguments.heading("Network");
  add_network(arguments, s, Named::unless_weights_say);
  add_weights(arguments, s);
  arguments.heading("Data");
  add_data(arguments, s, Named::unless_weights_say);
  arguments.add({.name = "split",
                 .help = "which images",
                 .preset = "test, and all of a data set that names no splits and that the weights were not trained on"},
                s.split, {"train", "valid", "test", "all"});
  add_preprocess(arguments, s, Named::unless_weights_say);
  add_tta(arguments, s.tta);
  arguments.add({.name = "scores",
                 .placeholder = "FILE",
                 .help = "judge this CSV instead: columns label (0 or 1) and score (0 to 1), or y_true and y_pred and other "
                         "usual names; and group, a patient or slide, for an interval that knows of them"},
                s.scores);
  arguments.add_flag({.name = "logits", .help = "the scores of --scores are logits"}, s.logits);
  arguments.heading("Machine");
  add_judged_batch(arguments, s);
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

/// Images of all splits as one.
Images joined(Dataset data) {
  Images all = std::move(data.train);
  for (Images* more : {&data.valid, &data.test}) {
    if (more->shape.n == 0) continue;
    if (all.groups.empty() != more->groups.empty()) all.groups.clear(), more->groups.clear();
    const auto append = [](auto& to, auto& from) {
      to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
      from = {};
    };
    append(all.pixels, more->pixels), append(all.labels, more->labels), append(all.groups, more->groups);
    append(all.ids, more->ids);
    all.shape.n += more->shape.n;
  }
  return all;
}

struct Judged {
  Metrics metrics;
  std::string split;
  Json learned;    // of the weights, from these images; null: not known
  Json same_data;  // whether the images are the run's own; null: not known
};

/// The images of a split; of another data set than the run's, where it names no splits and nobody asked for one, all.
Images open_images(const Arguments& arguments, const TrainedWeights& weights, EvaluateSettings& s, Json& same_data,
                   Terminal& terminal) {
  if (s.split == "all") return joined(open_data(s, {.train = true, .valid = true, .test = true, .deal = false}, terminal));
  Dataset data = open_data(s, {.train = s.split == "train", .valid = s.split == "valid", .test = s.split == "test"}, terminal);
  const std::size_t at = s.split == "train" ? 0 : s.split == "valid" ? 1 : 2;
  Images images = std::move(at == 0 ? data.train : at == 1 ? data.valid : data.test);
  if (!weights.provenance() || weights.provenance()->splits[at].digest.empty()) return images;
  const bool same = split_digest(images) == weights.provenance()->splits[at].digest;
  same_data = same;
  if (same) return images;
  const bool asked = arguments.given("split") || arguments.given("split-by") || arguments.given("split-seed");
  if (asked || !data.dealt()) {
    terminal.say("note: these images are not the {} split that the run had", s.split);
    return images;
  }
  terminal.say("note: not the data set of the run, and it names no splits: all of it is judged (--split test: a tenth of it)");
  s.split = "all";
  images = {};
  return joined(open_data(s, {.train = true, .valid = true, .test = true, .deal = false}, terminal));
}

Judged judge_network(EvaluateSettings& s, const Arguments& arguments) {
  Terminal terminal(s.verbosity());
  const TrainedWeights weights(s.weights);
  take_over(weights, arguments, s, terminal);
  const Network& network = find_network(s.net);
  s.net = network.name;
  const std::unique_ptr<Backend> backend = open_backend(s, terminal);
  Judged judged;
  const Images images = open_images(arguments, weights, s, judged.same_data, terminal);
  judged.split = s.split;
  const Extent image(images.shape.h, images.shape.w);
  compare_size(weights, image, terminal);
  Model model(as_validated(weights, s, network, image), *backend);
  model.set_weights(weights.values(network, model.graph(), image, terminal));
  if (weights.provenance())
    judged.learned = to_json(say_overlap(*weights.provenance(), images, fmt::format("split {}", s.split), terminal), images);
  const FitOptions options = fit_options(s, network);
  const auto progress = [&](int done, int of) { terminal.progress("evaluating", done, of, "batches"); };
  std::vector<float> scores;
  if (s.tta == "d4") {
    scores = evaluate_views(model, images, options, progress);
    judged.metrics = metrics_of(std::vector<double>(scores.begin(), scores.end()), images.labels, images.groups);
  } else {
    const Evaluation evaluation = evaluate(model, images, options, progress);
    scores = evaluation.scores;
    judged.metrics = metrics_of(evaluation, images.labels, images.groups);
  }
  if (!s.save_scores.empty()) write_text(s.save_scores, scores_csv(images, scores), "scores");
  return judged;
}

/// Scores are judged as they are: what names a network or images would change nothing.
void refuse_network(const Arguments& arguments, const std::string& scores) {
  for (const char* option :
       {"weights", "net", "dense-units", "data", "split", "split-by", "split-seed", "preprocess", "tta", "save-scores"})
    if (arguments.given(option))
      fail(ExitCode::usage, fmt::format("--{} needs a network and images, and --scores judges a file of scores", option),
           {.found = fmt::format("--scores {}", scores), .next = fmt::format("leave out --scores, or --{}", option)});
}

int evaluate_program(int argc, char** argv) {
  EvaluateSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  const std::array<InputFile, 3> inputs{{{"--weights", s.weights}, {"--data", s.data}, {"--scores", s.scores}}};
  require_apart("--roc", s.roc, inputs);
  require_apart("--save-scores", s.save_scores, inputs);
  require_apart("--roc", s.roc, std::array<InputFile, 1>{{{"--save-scores", s.save_scores}}});
  require_replaceable("--roc", s.roc, OutputKind::text);
  require_replaceable("--save-scores", s.save_scores, OutputKind::text);
  Judged judged;
  Metrics& metrics = judged.metrics;
  if (s.scores.empty()) {
    if (s.logits) fail(ExitCode::usage, "--logits says what --scores holds", {.next = "evaluate --scores FILE --logits"});
    arguments.require_all();
    judged = judge_network(s, arguments);
  } else {
    refuse_network(arguments, s.scores);
    LabelledScores csv = read_scores(s.scores, s.logits ? Scale::logits : Scale::as_named);
    compare_with_result(s.scores, csv);
    Terminal terminal(s.verbosity());
    for (const std::string& note : csv.notes) terminal.say("note: {}", note);
    try {
      metrics =
          csv.logits ? metrics_of_logits(csv.scores, csv.labels, csv.groups) : metrics_of(csv.scores, csv.labels, csv.groups);
    } catch (Error& error) {
      throw error.within(s.scores);
    }
  }
  if (!s.roc.empty()) write_text(s.roc, roc_csv(metrics.roc), "ROC");
  if (!s.json) {
    fmt::print("n         {}, {} of class 1\n{}", metrics.n, metrics.positives, to_text(metrics));
    return 0;
  }
  Json json = to_json(metrics);
  if (s.scores.empty()) {
    json["net"] = s.net;
    json["split"] = judged.split;
    json["preprocess"] = s.preprocess;
    json["same_data"] = judged.same_data;
    json["learned"] = judged.learned;
    json["tta"] = s.tta;
    json["confusion"] = to_json(metrics.counts);
    json["roc"] = to_json(metrics.roc);
  }
  fmt::print("{}", to_text(json));
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("evaluate", [&] { return microtome::evaluate_program(argc, argv); });
}
