// Trains one network on one data set: reads the options, opens what they name, runs the epochs, judges the best one.
#include "data/checkpoint.h"
#include "data/digest.h"
#include "data/file.h"
#include "data/weights.h"
#include "engine/check.h"
#include "engine/model.h"
#include "engine/one_line.h"
#include "tools/cli/program.h"
#include "tools/cli/run_folder.h"
#include "tools/cli/signals.h"
#include "tools/options/common.h"
#include "tools/options/training.h"
#include "tools/options/weights.h"
#include "tools/report/memory.h"
#include "tools/report/run.h"
#include "tools/report/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <new>
#include <optional>
#include <utility>

namespace microtome {
namespace {

struct TrainSettings : TrainingSettings {
  int epochs = 15;  // [Bonnet2021]
  bool log_steps = false, resume = false, json = false, memory_plan = false;
  double checkpoint_every = 300;
  std::string out;
};

Arguments declare(TrainSettings& s) {
  using Kept = Option::Kept;
  Arguments arguments("train", "Train a network on a folder of labelled images, and test the best epoch.",
                      "--net NAME --data DIR [options] | --resume --out DIR [options]",
                      {"train --net b6 --data ~/pcam", "train --net b2 --data ~/idc --epochs 30 --batch-size 64 --out runs/idc",
                       "train --resume --out runs/idc"});
  arguments.required_unless("resume");
  arguments.heading("Network");
  add_network(arguments, s);
  add_start(arguments, s);

  arguments.heading("Data");
  add_data(arguments, s);
  add_preprocess(arguments, s);

  arguments.heading("Training");
  arguments.add(
      {.name = "epochs", .help = "passes over the training images; 0 evaluates the initial weights", .kept = Kept::free},
      s.epochs, {0, 1'000'000});
  arguments.add({.name = "first-epoch",
                 .help = "epochs that --weights have behind them: the run counts on from there, and draws images as if it had "
                         "run them itself",
                 .kept = Kept::fixed},
                s.first_epoch, {0, 1'000'000});
  add_steps(arguments, s);

  arguments.heading("Machine");
  add_machine(arguments, s);
  add_graph(arguments, s);

  arguments.heading("Run");
  arguments.add(
      {.name = "out", .letter = 'o', .placeholder = "DIR", .help = "the run's folder; without it, runs/<net>-<data>-<time>"},
      s.out);
  arguments.add_flag({.name = "resume", .help = "go on with the run in --out, with its options, bit for bit"}, s.resume);
  arguments.add({.name = "checkpoint-every",
                 .help = "save within epochs too, so often; 0: only after each",
                 .unit = "s",
                 .kept = Kept::free},
                s.checkpoint_every, {.lowest = 0});
  arguments.add_flag({.name = "log-steps", .help = "write the loss of every step to steps.csv", .kept = Kept::fixed},
                     s.log_steps);
  arguments.add_flag({.name = "memory-plan",
                      .help = "train nothing, write nothing: print where the memory of this run would go, row by row, and the "
                              "largest batch that fits now"},
                     s.memory_plan);
  arguments.add_flag({.name = "json", .help = "print result.json, or the memory plan, on stdout"}, s.json);
  add_verbosity(arguments, s);
  return arguments;
}

/// Nothing is lost: a run begins where none has saved anything, unless it is to be resumed.
void require_no_run(const RunFolder& folder) {
  if (folder.has("cells") || folder.has("trials"))
    fail(ExitCode::usage, "the output folder holds a study, or a search",
         {.where = folder.path().string(), .next = "another --out"});
  const std::string path = folder.path().string();
  if (!folder.has("last.checkpoint") && !folder.has("result.json")) {
    // A run that ended before it had saved leaves a log and a configuration of its own.
    if (!folder.has("log.jsonl"))
      folder.require_none_of(run_files, "the output folder holds a file that a run would overwrite");
    return;
  }
  const bool finished = folder.has("result.json");
  fail(ExitCode::usage, finished ? "the output folder holds a finished run" : "the output folder holds a run that was stopped",
       {.where = path,
        .next = fmt::format("{}another --out", finished ? "" : fmt::format("train --resume --out {}, or ", path))});
}

/// Tells data sets apart: FNV-1a over words of pixels, labels and shape of what is trained and validated on.
std::uint64_t digest(const Dataset& data) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&hash](const std::vector<std::uint8_t>& bytes) {
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, 8);
      hash = (hash ^ word) * 0x100000001b3;
      hash ^= hash >> 29;  // FNV alone never carries a word's high bits down
    }
    for (; i < bytes.size(); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
    hash = (hash ^ bytes.size()) * 0x100000001b3;
  };
  for (const Images* images : {&data.train, &data.valid}) {
    mix(images->pixels);
    mix(images->labels);
  }
  return hash;
}

/// By name, of a text with a line an option.
std::map<std::string, std::string> options_by_name(std::string_view text) {
  std::map<std::string, std::string> lines;
  for (std::string_view line; take_line(text, line);) lines.emplace(line.substr(0, line.find(' ')), line);
  return lines;
}

/// What a resumed run must share with the run that wrote the checkpoint.
void require_same_options(const std::string& then, const std::string& now, const std::filesystem::path& file) {
  std::map<std::string, std::string> expected = options_by_name(then), found = options_by_name(now);
  for (const auto& [name, line] : found) expected.try_emplace(name);
  for (const auto& [name, was] : expected) {
    const std::string& is = found[name];
    if (was == is) continue;
    fail(ExitCode::weights, fmt::format("--{} cannot change when a run is resumed", name),
         {.where = file.string(),
          .expected = was.empty() ? "nothing of it" : was,
          .found = is.empty() ? "nothing of it" : is,
          .next = fmt::format("leave --{} as it was to go on, or start another run in another --out", name)});
  }
}

class TrainObserver : public FitObserver {
 public:
  TrainObserver(const TrainSettings& s, const RunFolder& folder, CheckpointInfo info, std::int64_t images, Terminal& terminal)
      : s_(s), folder_(folder), info_(std::move(info)), images_(images), terminal_(terminal) {}

  void features(int done, int of) override { terminal_.progress("features of the frozen base", done, of); }

  void batch_end(int epoch, int batch, int) override {
    terminal_.progress(fmt::format("epoch {}/{}", epoch, s_.epochs),
                       std::min<std::int64_t>(images_, std::int64_t{batch} * s_.batch_size), images_);
  }

  void steps(const std::vector<BatchMetrics>& batches, std::uint64_t first_step) override {
    if (s_.log_steps) folder_.append_steps(batches, first_step);
  }

  void epoch_end(const EpochRecord& r) override {
    terminal_.say("epoch {}/{}  loss {:.4f}  accuracy {:.4f}  valid loss {:.4f}  valid accuracy {:.4f}  {}  {:.0f} images/s{}",
                  r.epoch, s_.epochs, r.train_loss, r.train_accuracy, r.valid_loss, r.valid_accuracy, duration(r.seconds),
                  r.images_per_second, r.best ? "  best" : "");
    folder_.log("epoch", {{"epoch", r.epoch},
                          {"train_loss", r.train_loss},
                          {"train_accuracy", r.train_accuracy},
                          {"valid_loss", r.valid_loss},
                          {"valid_accuracy", r.valid_accuracy},
                          {"seconds", r.seconds},
                          {"images_per_second", r.images_per_second},
                          {"best", r.best}});
  }

  void best(const Model& model) override { write_weights(folder_ / "best.weights.h5", model, info_.provenance); }

  // The checkpoint goes last: what it says was done has then been written elsewhere too.
  void checkpoint(const Snapshot& snapshot) override {
    folder_.write_metrics(snapshot.history);
    write_checkpoint(folder_ / "last.checkpoint", snapshot, info_);
    last_checkpoint_ = std::chrono::steady_clock::now();
    folder_.log("checkpoint",
                {{"step", snapshot.state.step}, {"epoch", snapshot.state.epoch}, {"batch", snapshot.state.batch}});
    terminal_.say_more("checkpoint after step {}", snapshot.state.step);
  }

  void ledger(const EpochLedger& l) override {
    folder_.log("ledger", {{"epoch", l.epoch},
                           {"training_seconds", l.training},
                           {"statistics_seconds", l.statistics},
                           {"validation_seconds", l.validation},
                           {"saving_seconds", l.saving},
                           {"other_seconds", l.total - l.training - l.statistics - l.validation - l.saving},
                           {"total_seconds", l.total}});
  }

  bool stop_requested() override { return stop_signal() != 0; }

  bool checkpoint_requested() override {
    const std::chrono::duration<double> since = std::chrono::steady_clock::now() - last_checkpoint_;
    return take_checkpoint_signal() || (s_.checkpoint_every > 0 && since.count() >= s_.checkpoint_every);
  }

 private:
  const TrainSettings& s_;
  const RunFolder& folder_;
  CheckpointInfo info_;
  std::int64_t images_;
  Terminal& terminal_;
  std::chrono::steady_clock::time_point last_checkpoint_ = std::chrono::steady_clock::now();
};

/// The run in the folder as its checkpoint knows it; what was written after that is taken back. Nothing where there is none.
std::optional<Checkpoint> read_run(const TrainSettings& s, const RunFolder& folder, const CheckpointInfo& info,
                                   Terminal& terminal) {
  if (!folder.has("last.checkpoint")) {
    if (s.resume) terminal.say("no checkpoint in {} yet: starting from the beginning", s.out);
    if (folder.has("steps.csv")) folder.truncate_steps(0);
    return std::nullopt;
  }
  const std::filesystem::path file = folder / "last.checkpoint";
  Checkpoint checkpoint = read_checkpoint(file);
  require_network(checkpoint, file, info.network, info.image, info.parameters);
  require_run(checkpoint, file);
  require_same_options(checkpoint.info.options, info.options, file);
  if (checkpoint.info.commit != info.commit) {
    terminal.say("note: the checkpoint was written by commit {}, this is {}", checkpoint.info.commit, info.commit);
  }
  Snapshot& snapshot = checkpoint.snapshot;
  if (const int behind = s.first_epoch + static_cast<int>(snapshot.history.size()); behind > s.epochs) {
    fail(
        ExitCode::usage, "the run has more epochs behind it than --epochs asks for",
        {.where = file.string(), .expected = fmt::format("--epochs {} or more", behind), .found = fmt::format("{}", s.epochs)});
  }
  const std::uint64_t logged = snapshot.state.step - snapshot.batches.size();
  if (s.log_steps && folder.truncate_steps(logged) < logged)
    terminal.say("note: steps.csv lacks some of the {} steps that are done", logged);
  folder.write_metrics(snapshot.history);
  terminal.say("resuming after step {}, {} of {} epochs done", snapshot.state.step, s.first_epoch + snapshot.history.size(),
               s.epochs);
  folder.log("resume", {{"step", snapshot.state.step}, {"epochs_done", snapshot.history.size()}, {"commit", commit()}});
  return checkpoint;
}

Json json_of(const Metrics& metrics) {
  Json json = to_json(metrics);
  json["confusion"] = to_json(metrics.counts);
  return json;
}

/// Evaluates a split with the weights that the model has.
Evaluation evaluate_split(Model& model, const Images& images, std::string_view name, const FitOptions& options,
                          Terminal& terminal) {
  return evaluate(model, images, options,
                  [&](int done, int of) { terminal.progress(fmt::format("evaluating {}", name), done, of, "batches"); });
}

RunReport make_report(const TrainSettings& s, const Arguments& arguments, const Dataset& data, const Json& result,
                      const FitResult& fitted, const Metrics& test) {
  RunReport report{.title = fmt::format("{} on {}", s.net, data.name),
                   .history = fitted.history,
                   .best_epoch = fitted.best_epoch,
                   .test = test,
                   .config = arguments.config(),
                   .notes = data.notes,
                   .learned = learned_text(result["test_learned"])};
  report.figures = {{"test AUC", fmt::format("{:.4f}", test.auc)},
                    {"test accuracy", fmt::format("{:.4f}", test.accuracy)},
                    {"test loss", fmt::format("{:.4f}", test.loss)}};
  if (fitted.best_epoch > 0) {
    report.figures.emplace_back("best epoch", fmt::format("{} of {}", fitted.best_epoch, fitted.history.size()));
    report.figures.emplace_back("images a second", fmt::format("{:.0f}", result["images_per_second"].get<double>()));
  }
  const auto text = [&result](std::string_view key) { return result[std::string(key)].get<std::string>(); };
  report.facts = {{"device", fmt::format("{}, {}", text("device"), text("device_description"))},
                  {"libraries", text("versions")},
                  {"precision", s.precision},
                  {"batch size", fmt::format("{}", s.batch_size)},
                  {"parameters", with_separators(result["parameters"].get<std::int64_t>())},
                  {"peak memory", size_text(result["peak_memory_bytes"].get<std::size_t>())},
                  {"commit", text("commit")}};
  report.facts.emplace_back("training", describe_images(data.train));
  report.facts.emplace_back("validation", describe_images(data.valid));
  report.facts.emplace_back("test", describe_images(data.test));
  return report;
}

constexpr Splits all_splits{.train = true, .valid = true, .test = true};

int print_memory_plan(const TrainSettings& s, const Network& network) {
  Terminal terminal(s.verbosity());
  const std::unique_ptr<Backend> backend = open_backend(s, terminal);
  Job job(s, network, *backend, all_splits, terminal);
  job.options.epochs = s.epochs;
  require_trainable(job.data, job.options);
  const MemoryPlan plan = plan_memory(job.model, job.data, job.options);
  fmt::print("{}", s.json ? to_text(to_json(plan, s.batch_size)) : to_text(plan, s.batch_size, job.data.train.shape.n));
  return 0;
}

int run(TrainSettings& s, const Arguments& arguments, const Network& network, const RunFolder& folder, Terminal& terminal) {
  const std::unique_ptr<Backend> backend = open_backend(s, terminal);
  const Device device = backend->device();
  s.device = device.name;
  const std::string config = fmt::format("# Once more: train --config {0}/config.toml   Go on: train --resume --out {0}\n{1}",
                                         one_line(s.out), arguments.config());
  if (!s.resume) folder.write("config.toml", config);

  Job job(s, network, *backend, all_splits, terminal);
  job.options.epochs = s.epochs;
  const Dataset& data = job.data;
  const Extent image(data.train.shape.h, data.train.shape.w);
  Model& model = job.model;
  const Graph& graph = model.graph();
  const FitOptions& options = job.options;

  CheckpointInfo info{.network = s.net,
                      .image = image,
                      .parameters = graph.parameter_count(),
                      .options = fmt::format("{}data = {:016x}\n", arguments.fixed_config(), digest(data)),
                      .commit = std::string(commit())};
  std::optional<Checkpoint> earlier = read_run(s, folder, info, terminal);
  if (s.resume) folder.write("config.toml", config);  // not before: a resume that is refused changes nothing
  folder.log("start", {{"net", s.net},
                       {"data", s.data},
                       {"device", device.name},
                       {"device_description", device.description},
                       {"versions", device.versions},
                       {"commit", commit()},
                       {"train", data.train.shape.n},
                       {"valid", data.valid.shape.n},
                       {"test", data.test.shape.n},
                       {"notes", data.notes}});
  if (earlier)
    job.initial = earlier->info.provenance;  // it knows what the initial weights had learned from
  else
    job.initialize(s, network, terminal);
  info.provenance = job.provenance(s);
  info.provenance->commit = commit();
  say_overlap(*info.provenance, data.valid, "the validation split", terminal);
  const Overlap tested_before = say_overlap(*info.provenance, data.test, "the test split", terminal);

  FitResult fitted;
  if (s.epochs > 0) {
    TrainObserver observer(s, folder, info, data.train.shape.n, terminal);
    begin_saving();
    std::optional<Snapshot> snapshot;
    if (earlier) snapshot = std::move(earlier->snapshot);
    fitted = fit(model, data, options, observer, std::move(snapshot));
    end_saving();
    if (const int signal = stop_signal(); signal != 0) {
      folder.log("stop", {{"signal", signal}});
      terminal.say("stopped after saving; go on with: train --resume --out {}", s.out);
      return 128 + signal;
    }
    model.set_weights(std::exchange(fitted.best_weights, {}));
  }
  write_weights(folder / "best.weights.h5", model, info.provenance);
  const Metrics valid =
      metrics_of(evaluate_split(model, data.valid, "valid", options, terminal), data.valid.labels, data.valid.groups);
  const Evaluation tested = evaluate_split(model, data.test, "test", options, terminal);
  const Metrics test = metrics_of(tested, data.test.labels, data.test.groups);

  double seconds = 0;
  for (const EpochRecord& r : fitted.history) seconds += r.seconds;
  const double epochs = static_cast<double>(fitted.history.size());
  const std::size_t used_on_device =
      device.available_bytes - std::min(device.available_bytes, backend->device().available_bytes);
  Json result{{"net", s.net},
              {"mode", s.mode},
              {"weights", s.weights.empty() ? Json() : Json(s.weights)},
              {"device", device.name},
              {"device_description", device.description},
              {"versions", device.versions},
              {"commit", commit()},
              {"precision", s.precision},
              {"graph", s.graph},
              {"batch_size", s.batch_size},
              {"learning_rate", s.learning_rate},
              {"seed", s.seed},
              {"data", s.data},
              {"image", {data.train.shape.h, data.train.shape.w}},
              {"train_images", data.train.shape.n},
              {"parameters", graph.parameter_count()},
              {"trainable_parameters", graph.parameter_count(true)},
              {"preprocess", s.preprocess},
              {"augment", s.augment},
              {"features", s.mode == "full" ? Json() : Json(options.keep_features ? "kept" : "recomputed")},
              {"features_seconds", fitted.features_seconds},
              {"epochs", s.epochs},
              {"best_epoch", fitted.best_epoch},
              {"images_per_second", seconds > 0 ? epochs * data.train.shape.n / seconds : 0},
              {"seconds_per_epoch", epochs > 0 ? seconds / epochs : 0},
              {"peak_memory_bytes", device.name == "cpu" || device.name == "reference" ? peak_memory_bytes() : used_on_device},
              {"statistics", info.provenance->statistics},
              {"split_digests", split_digests(*info.provenance)},
              {"test_learned", to_json(tested_before, data.test)},
              {"validation", json_of(valid)},
              {"test", json_of(test)}};
  const std::string scores = scores_csv(data.test, tested.scores);
  result["scores_digest"] = text_digest(scores);
  result = sealed(std::move(result));
  folder.write_roc(test.roc);
  folder.write("scores.csv", scores);
  folder.write_metrics(fitted.history);
  folder.write("report.html", to_html(make_report(s, arguments, data, result, fitted, test)));
  folder.log("end", {{"best_epoch", fitted.best_epoch}, {"test", json_of(test)}});
  folder.write("result.json", to_text(result));

  if (s.json) {
    fmt::print("{}", to_text(result));
    return 0;
  }
  if (fitted.best_epoch > 0) fmt::print("best epoch {} of {}; on the test split:\n", fitted.best_epoch, fitted.history.size());
  fmt::print("{}", to_text(test));
  fmt::print("report    {}\n", (folder / "report.html").string());
  return 0;
}

/// `lacks`: "memory" where that is what exit 5 is of; a full disk would not let it be said.
void log_error(const RunFolder& folder, Terminal& terminal, const std::string& what, ExitCode code, std::string_view lacks) {
  terminal.clear_progress();
  Json facts{{"what", what}, {"exit_code", static_cast<int>(code)}};
  if (!lacks.empty()) facts["lacks"] = lacks;
  try {
    folder.log("error", facts);
  } catch (const Error&) {  // a full disk refuses the log too; the first error is the one to tell
  }
}

int train(int argc, char** argv) {
  TrainSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  if (s.resume && s.out.empty()) fail(ExitCode::usage, "--resume needs --out", {.next = "train --resume --out DIR"});
  if (s.resume && std::filesystem::exists(std::filesystem::path(s.out) / "config.toml")) {
    arguments.read_config(std::filesystem::path(s.out) / "config.toml");
  }
  if (s.resume && s.net.empty())
    fail(ExitCode::usage, "there is no run to go on with", {.where = s.out, .found = "no config.toml"});
  arguments.require_all();
  const Network& network = find_network(s.net);
  s.net = network.name;
  require_consistent(s, network);
  if (s.epochs > 0 && s.first_epoch >= s.epochs)
    fail(ExitCode::usage, "--first-epoch leaves nothing to train",
         {.expected = fmt::format("less than --epochs, {}", s.epochs), .found = fmt::format("{}", s.first_epoch)});
  const std::string_view format = recognise(s.data).name;
  if (s.memory_plan) {
    listen_to_signals();  // a thread, as a run has
    return print_memory_plan(s, network);
  }
  s.data = std::filesystem::absolute(s.data).lexically_normal();
  if (!s.weights.empty() && s.weights != "imagenet") s.weights = std::filesystem::absolute(s.weights).lexically_normal();

  Terminal terminal(s.verbosity());
  listen_to_signals();
  const RunFolder folder =
      s.out.empty() ? RunFolder::make_new(fmt::format("runs/{}-{}-{}", s.net, format, utc("%Y%m%d-%H%M%S"))) : RunFolder(s.out);
  s.out = folder.path();
  if (!s.resume) require_no_run(folder);
  try {
    return run(s, arguments, network, folder, terminal);
  } catch (const OutOfMemory& error) {
    log_error(folder, terminal, error.what(), error.code(), "memory");
    throw;
  } catch (const Error& error) {
    log_error(folder, terminal, error.what(), error.code(), "");
    throw;
  } catch (const std::bad_alloc&) {
    log_error(folder, terminal, "out of memory", ExitCode::memory, "memory");
    throw;
  }
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("train", [&] { return microtome::train(argc, argv); });
}
