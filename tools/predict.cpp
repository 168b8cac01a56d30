// A score for each image: the network's probability of class 1.
#include "data/file.h"
#include "data/patient.h"
#include "engine/check.h"
#include "engine/model.h"
#include "engine/test_time_views.h"
#include "tools/cli/json.h"
#include "tools/cli/program.h"
#include "tools/options/common.h"
#include "tools/options/outputs.h"
#include "tools/options/weights.h"
#include "tools/report/scores.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace microtome {
namespace {

struct PredictSettings : Settings {
  std::string out, format, tta = "none";
  int size = 0;
};

Arguments declare(PredictSettings& s) {
  Arguments arguments("predict", "Score images: PNG files, folders of them, or an HDF5 file.",
                      "--weights FILE --data PATH [options]",
                      {"predict --weights runs/b6/best.weights.h5 --data slides/ --out scores.csv",
                       "predict --weights runs/b6/best.weights.h5 --data camelyonpatch_level_2_split_test_x.h5"});
  arguments.ignore_foreign_settings();
  arguments.heading("Network");
  add_network(arguments, s, Named::unless_weights_say);
  add_weights(arguments, s);
  arguments.heading("Data");
  arguments.add({.name = "data",
                 .placeholder = "PATH",
                 .help = "a PNG file, a folder of them, or an HDF5 file with the dataset \"x\"",
                 .required = true},
                s.data);
  arguments.add({.name = "size",
                 .help = "pad PNG files with white to this side; 0: all must be of one size",
                 .unit = "pixels",
                 .preset = "what the weights say, else 0"},
                s.size, {0, 4096});
  add_preprocess(arguments, s, Named::unless_weights_say);
  add_tta(arguments, s.tta);
  arguments.heading("Machine");
  add_judged_batch(arguments, s);
  add_machine(arguments, s);
  arguments.heading("Output");
  arguments.add({.name = "out", .letter = 'o', .placeholder = "FILE", .help = "where the scores go; without it, stdout"},
                s.out);
  arguments.add({.name = "format",
                 .help = "a CSV with the columns id and score, or a JSON object a line; without it, by the ending of --out"},
                s.format, {"csv", "jsonl"});
  add_verbosity(arguments, s);
  return arguments;
}

std::string to_csv(const Images& images, std::span<const float> scores) {
  std::string text = "id,score\n";
  for (std::size_t i = 0; i < scores.size(); ++i) {
    text += fmt::format("{},{:.9g}\n", id_field(images, i), scores[i]);
  }
  return text;
}

std::string to_json_lines(const Images& images, std::span<const float> scores) {
  std::string text;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Json id = images.ids.empty() ? Json(i) : Json(images.ids[i]);
    text += fmt::format("{{\"id\":{},\"score\":{:.9g}}}\n", id.dump(-1, ' ', false, Json::error_handler_t::replace), scores[i]);
  }
  return text;
}

/// As the paths say them; of all images, or of none.
void name_patients(Images& images) {
  std::vector<std::string> patients;
  for (const std::string& path : images.ids) patients.push_back(patient_in_path(path));
  if (std::ranges::find(patients, "") == patients.end()) images.groups = std::move(patients);
}

int predict(int argc, char** argv) {
  PredictSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();
  require_apart("--out", s.out, std::array<InputFile, 2>{{{"--weights", s.weights}, {"--data", s.data}}});
  require_replaceable("--out", s.out, OutputKind::text);
  Terminal terminal(s.verbosity());
  s.split_by.clear();  // nothing is split here
  const TrainedWeights weights(s.weights);
  take_over(weights, arguments, s, terminal);
  const Network& network = find_network(s.net);
  const std::unique_ptr<Backend> backend = open_backend(s, terminal);
  LoadOptions loading = load_options(s, terminal);
  if (s.size > 0) loading.image = s.size;
  if (!arguments.given("size") && weights.provenance()) loading.image = weights.provenance()->image;
  std::vector<std::string> notes;
  Images images = load_images(s.data, loading, notes);
  name_patients(images);
  terminal.clear_progress();
  for (const std::string& note : notes) terminal.say("note: {}", note);
  const Extent image(images.shape.h, images.shape.w);
  compare_size(weights, image, terminal);
  Model model(as_validated(weights, s, network, image), *backend);
  model.set_weights(weights.values(network, model.graph(), image, terminal));
  if (weights.provenance()) say_overlap(*weights.provenance(), images, s.data, terminal);
  const FitOptions options = fit_options(s, network);
  const auto progress = [&](int done, int of) { terminal.progress("scoring", done, of, "batches"); };
  const std::vector<float> scores =
      s.tta == "d4" ? evaluate_views(model, images, options, progress) : evaluate(model, images, options, progress).scores;
  const bool json_lines = s.format == "jsonl" || (s.format.empty() && s.out.ends_with(".jsonl"));
  const std::string text = json_lines ? to_json_lines(images, scores) : to_csv(images, scores);
  if (s.out.empty()) {
    fmt::print("{}", text);
    return 0;
  }
  const Bytes part = std::as_bytes(std::span(text.data(), text.size()));
  write_whole(s.out, {&part, 1}, "scores");
  terminal.say("{} {} in {}", with_separators(images.shape.n), images.shape.n == 1 ? "score" : "scores", s.out);
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("predict", [&] { return microtome::predict(argc, argv); });
}
