// The paper's experiment: networks x {full, transfer} x {PCam, IDC} x seeds x preprocessing. Each cell is an ordinary run of
// `train` in a folder of its own; the folders alone say what is done, so that any number of processes can run and be stopped.
#include "data/file.h"
#include "data/weights.h"
#include "engine/check.h"
#include "engine/one_line.h"
#include "tools/cli/child.h"
#include "tools/cli/program.h"
#include "tools/cli/run_folder.h"
#include "tools/cli/signals.h"
#include "tools/options/training.h"
#include "tools/report/scores.h"
#include "tools/study/cell.h"
#include "tools/study/grid.h"
#include "tools/study/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

namespace microtome {
namespace {

namespace fs = std::filesystem;

struct StudySettings : TrainingSettings {
  std::string job = "run", pcam, idc, nets = "all", modes = "full,transfer", seeds = "0", weights_from = "imagenet",
              hyperparameters = "default", tta = "none", shard = "1/1", out;
  int epochs = 15;  // [Bonnet2021]
  bool retry_failed = false, json = false;
};

Arguments declare(StudySettings& s) {
  using Kept = Option::Kept;
  Arguments arguments("study",
                      "Run the paper's experiment, cell by cell, and report it beside the paper's figures.\n"
                      "Exit codes: 0, all cells of the shard are done; 9, others still run some; else the first failed cell's.",
                      "[run] [--pcam DIR] [--idc DIR] --out DIR [options] | status | resume | report",
                      {"study --pcam ~/pcam --idc ~/idc --out studies/paper",
                       "study --pcam ~/pcam --nets b6,rn50,dn121 --seeds 0,1,2 --preprocess paper,native --out studies/three",
                       "study --pcam ~/pcam --idc ~/idc --out studies/paper --shard 3/16      one of a cluster's job array",
                       "study status --out studies/paper", "study resume --out studies/paper --retry-failed"});
  arguments.add_positional({.name = "job",
                            .placeholder = "run|status|resume|report",
                            .help = "run: what is not done yet; status: print a table; resume: run with the options that --out "
                                    "has; report: write it anew"},
                           s.job, {"run", "status", "resume", "report"});
  arguments.heading("Cells");
  arguments.add({.name = "nets",
                 .placeholder = "LIST",
                 .help = "commas between; all: the study's twelve; of: " + network_names(),
                 .kept = Kept::fixed},
                s.nets);
  arguments.add({.name = "modes", .placeholder = "LIST", .help = "of full, transfer", .kept = Kept::fixed}, s.modes);
  arguments.add({.name = "pcam", .placeholder = "DIR", .help = "PCam's six HDF5 files", .kept = Kept::fixed}, s.pcam);
  arguments.add({.name = "idc", .placeholder = "DIR", .help = "IDC's PATIENT/{0,1}/*.png", .kept = Kept::fixed}, s.idc);
  add_split(arguments, s);
  arguments.add({.name = "seeds", .placeholder = "LIST", .help = "whole numbers, commas between", .kept = Kept::fixed},
                s.seeds);
  arguments.add({.name = "preprocess",
                 .placeholder = "LIST",
                 .help = "of paper, native: x / 255, or what the published base was trained on; networks without one have "
                         "the first alone",
                 .kept = Kept::fixed},
                s.preprocess);
  arguments.add({.name = "augment",
                 .placeholder = "LIST",
                 .help = "of none, d4: the training images as they are, or in all eight flips and quarter turns",
                 .kept = Kept::fixed},
                s.augment);
  arguments.heading("Training");
  arguments.add({.name = "weights",
                 .placeholder = "imagenet|none|other|DIR",
                 .help = "where networks with a published base begin. imagenet: there, as in the study; none: from scratch; "
                         "other: full training from scratch, transfer from the same network trained on the other data set; "
                         "DIR: its <net>.weights.h5 or <net>.h5",
                 .kept = Kept::fixed},
                s.weights_from);
  add_weights_folder(arguments, s);
  arguments.add({.name = "hyperparameters",
                 .placeholder = "default|published|DIR",
                 .help = "default: as below; published: the optima that the study found for b2, b6 and inception_v3; DIR: its "
                         "<net>.toml, as tune writes best.toml",
                 .kept = Kept::fixed},
                s.hyperparameters);
  arguments.add({.name = "epochs", .help = "passes over the training images", .kept = Kept::fixed}, s.epochs, {1, 1'000'000});
  add_optimizer(arguments, s);
  add_statistics(arguments, s);
  add_tta(arguments, s.tta, Kept::fixed);
  arguments.heading("Machine");
  add_machine(arguments, s);
  add_graph(arguments, s);
  arguments.heading("Run");
  arguments.add({.name = "out", .letter = 'o', .placeholder = "DIR", .help = "the study's folder", .required = true}, s.out);
  arguments.add({.name = "shard", .placeholder = "I/N", .help = "run the I-th of N shares of the cells"}, s.shard);
  arguments.add_flag({.name = "retry-failed", .help = "run again what failed"}, s.retry_failed);
  arguments.add_flag({.name = "json", .help = "print one document on stdout instead of a table"}, s.json);
  add_verbosity(arguments, s);
  return arguments;
}

struct Shard {
  int index = 1, of = 1;
};

Shard parse_shard(const std::string& text) {
  std::istringstream stream(text);
  Shard shard;
  char slash = 0;
  stream >> shard.index >> slash >> shard.of;
  if (!stream || slash != '/' || !(stream >> std::ws).eof() || shard.index < 1 || shard.index > shard.of)
    fail(ExitCode::usage, "--shard is no share", {.expected = "I/N with I from 1 to N, like 3/16", .found = text});
  return shard;
}

/// What tuning may have changed.
void set_hyperparameters(TrainingSettings& s, const std::string& from) {
  if (from == "published") {  // [Bonnet2021]
    if (s.net == "b2") s.batch_size = 96, s.dense_units = 128, s.learning_rate = 3.476665e-4;
    if (s.net == "b6") s.batch_size = 64, s.dense_units = 256, s.learning_rate = 3.745751582e-3;
    if (s.net == "inception_v3") s.batch_size = 64, s.learning_rate = 3.259536405e-4;
  } else if (from != "default") {
    std::string of = s.net;
    Arguments tuned("study", "", "", {});
    tuned.ignore_foreign_settings();
    tuned.add({.name = "net", .kept = Option::Kept::fixed}, of);
    tuned.add({.name = "dense-units", .kept = Option::Kept::fixed}, s.dense_units, {1, 65536});
    add_optimizer(tuned, s);
    const fs::path file = fs::path(from) / (s.net + ".toml");
    tuned.read_config(file);
    if (find_network(of).name != s.net)
      fail(ExitCode::usage, "the hyperparameters are another network's",
           {.where = file.string(), .expected = fmt::format("net = \"{}\"", s.net), .found = fmt::format("net = \"{}\"", of)});
  }
}

/// The initial weights of a network that has a published base, but for --weights other.
std::string initial_weights(const StudySettings& s, const std::string& net) {
  if (s.weights_from == "none" || s.weights_from == "other") return "";
  if (s.weights_from == "imagenet") return "imagenet";
  for (const char* ending : {".weights.h5", ".h5"})
    if (const fs::path file = fs::path(s.weights_from) / (net + ending); fs::exists(file)) return file.string();
  fail(ExitCode::weights, fmt::format("the initial weights of {} are missing", net),
       {.where = s.weights_from, .expected = fmt::format("{0}.weights.h5 or {0}.h5", net)});
}

fs::path folder_of(const StudySettings& s, const std::string& cell) {
  return fs::path(s.out) / "cells" / cell;
}

/// A parent's best weights without their head.
fs::path base_of(const StudySettings& s, const std::string& parent, const std::string& net) {
  return folder_of(s, parent) / fmt::format("{}-{}-base.weights.h5", parent.substr(0, parent.find('-')), net);
}

TrainingSettings training_of(const StudySettings& s, const PlannedCell& planned) {
  const Cell& cell = planned.cell;
  TrainingSettings t = s;
  t.net = cell.net;
  t.data = cell.data == "pcam" ? s.pcam : s.idc;
  t.mode = cell.mode;
  t.preprocess = cell.preprocess;
  t.augment = cell.augment;
  t.seed = cell.seed;
  if (cell.mode == "transfer" && cell.augment != "none") t.features = "recompute";
  if (!planned.parent.empty())
    t.weights = base_of(s, planned.parent, cell.net).string();
  else if (find_network(cell.net).top)
    t.weights = initial_weights(s, cell.net);
  set_hyperparameters(t, s.hyperparameters);
  return t;
}

/// As `train --config` reads it.
std::string config_of(TrainingSettings t, int epochs) {
  Arguments arguments("train", "", "", {});
  add_network(arguments, t);
  add_start(arguments, t);
  add_data(arguments, t);
  add_preprocess(arguments, t);
  add_steps(arguments, t);
  add_machine(arguments, t);
  add_graph(arguments, t);
  return fmt::format("{}epochs = {}\n", arguments.config(), epochs);
}

Json learned(const CellState& o) {
  return o.result.is_object() ? o.result.value("test_learned", Json()) : Json();
}

Json to_json(const CellState& o) {
  const bool done = o.result.is_object();
  return {{"name", o.cell.name()},
          {"data", o.cell.data},
          {"net", o.cell.net},
          {"mode", o.cell.mode},
          {"preprocess", o.cell.preprocess},
          {"augment", o.cell.augment},
          {"seed", o.cell.seed},
          {"status", name_of(o.status)},
          {"why", o.why},
          {"epochs_done", o.epochs_done},
          {"seconds_per_epoch", done ? o.result.value("seconds_per_epoch", Json()) : Json()},
          {"test", done ? o.result["test"] : Json()},
          {"test_learned", learned(o)},
          {"tta_auc", o.tta.is_object() ? o.tta["auc"] : Json()},
          {"folder", o.folder.string()}};
}

Json to_json(const fs::path& study, std::span<const CellState> states) {
  Json document{{"out", study.string()}};
  for (const CellStatus status :
       {CellStatus::done, CellStatus::running, CellStatus::stopped, CellStatus::failed, CellStatus::waiting})
    document[std::string(name_of(status))] = std::ranges::count(states, status, &CellState::status);
  document["cells"] = Json::array();
  for (const CellState& state : states) document["cells"].push_back(to_json(state));
  return document;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

std::string figure(const Json& from, const char* key, const char* format) {
  return from.is_object() && from.contains(key) && from[key].is_number()
             ? fmt::format(fmt::runtime(format), from[key].get<double>())
             : "–";
}

std::string table(std::span<const CellState> states, int epochs) {
  std::size_t width = 4;
  for (const CellState& o : states) width = std::max(width, o.cell.name().size());
  std::string text = fmt::format("{:<{}}  {:<7}  {:>8}  {:>8}  {:>8}  {:>9}\n", "cell", width, "status", "epochs", "test AUC",
                                 "tta AUC", "s/epoch");
  for (const CellState& o : states) {
    text += fmt::format("{:<{}}  {:<7}  {:>8}  {:>8}  {:>8}  {:>9}", o.cell.name(), width, name_of(o.status),
                        fmt::format("{}/{}", o.epochs_done, epochs),
                        o.result.is_object() ? figure(o.result["test"], "auc", "{:.4f}") : "–", figure(o.tta, "auc", "{:.4f}"),
                        figure(o.result, "seconds_per_epoch", "{:.2f}"));
    const std::string more = o.why.empty() ? learned_text(learned(o)) : first_line(o.why);
    text += more.empty() ? "\n" : fmt::format("  {}\n", more);
  }
  return text;
}

/// The study's folder, for what all its processes write.
std::unique_ptr<RunFolder> hold(const fs::path& study, Terminal& terminal) {
  constexpr int told = 10, patience = 600;  // tenths of a second: a report takes its time
  for (int i = 0;; ++i) {
    try {
      return std::make_unique<RunFolder>(study);
    } catch (const Error& error) {
      if (error.code() != ExitCode::in_use || i == patience) throw;
      if (i == told)
        terminal.say("waiting, for {} s at most, for another process that holds {}", patience / 10, study.string());
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
}

void write_report_of(const fs::path& study, Terminal& terminal) {
  const auto folder = hold(study, terminal);
  write_report(read_study(study), study);
}

class Runner {
 public:
  Runner(const StudySettings& s, const StudyPlan& plan, std::vector<PlannedCell> mine, Terminal& terminal)
      : s_(s), plan_(plan), mine_(std::move(mine)), out_(s.out), terminal_(terminal) {}

  /// False where it was stopped.
  bool run() {
    bool progress = true;
    while (progress) {
      progress = false;
      for (const PlannedCell& planned : mine_) {
        const Turn turn = take(planned);
        if (turn == Turn::stopped) return false;
        progress = progress || turn == Turn::ran;
      }
    }
    report();
    return true;
  }

  /// Whether that the cell failed has been told.
  bool complained_of(const Cell& cell) const { return complained_.contains(cell.name()); }

  /// Why there is no report of what is done; nothing where there is one.
  const std::optional<Error>& report_error() const { return report_error_; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Turn { passed, ran, stopped };

  CellState look(const PlannedCell& planned) const { return read_cell(out_, planned, plan_.views); }

  Turn take(const PlannedCell& planned) {
    if (stop_signal() != 0) return Turn::stopped;
    if (tried_.contains(planned.cell.name())) return Turn::passed;
    const auto is_over = [&](const CellState& o) {
      return o.status == CellStatus::done || (o.status == CellStatus::failed && !s_.retry_failed);
    };
    if (is_over(look(planned)) || !parent_is_done(planned)) return Turn::passed;
    {
      const CellLock lock(out_, planned.cell);
      if (!lock.held() || is_over(look(planned))) return Turn::passed;
      tried_.insert(planned.cell.name());
      epochs_elsewhere_ = 0;
      for (const PlannedCell& other : mine_)
        if (other != planned) epochs_elsewhere_ += epochs_done(folder_of(s_, other.cell.name()));
      if (!run(planned)) return Turn::stopped;
    }
    say(planned);
    constexpr int share = 20;  // of the time goes to reports
    if (Clock::now() - reported_ > share * report_took_) report();
    return Turn::ran;
  }

  bool parent_is_done(const PlannedCell& planned) const {
    return planned.parent.empty() || look(planned_as(planned.parent)).status == CellStatus::done;
  }

  const PlannedCell& planned_as(const std::string& name) const {
    return *std::ranges::find(plan_.cells, name, [](const PlannedCell& p) { return p.cell.name(); });
  }

  /// A head starts afresh under transfer, as on a published base. Several children may want the same file at once.
  void write_base(const Cell& parent) const {
    const fs::path file = base_of(s_, parent.name(), parent.net);
    while (!fs::exists(file)) {
      const CellLock lock(out_, parent);
      if (!lock.held() || fs::exists(file)) continue;
      const TrainingSettings t = training_of(s_, {parent, ""});
      const Network& network = find_network(t.net);
      const Extent image = image_size(t.data);
      const Graph whole = network.build(image, Head::study, t.dense_units), base = network.build(image, Head::none);
      const WeightFile best = open_weights(file.parent_path() / "best.weights.h5");
      const std::vector<float> weights = fit_weights(best, whole).values;
      std::optional<Provenance> provenance = best.provenance;
      if (provenance) provenance->head = "none";
      write_weights(file, base, std::span(weights).first(static_cast<std::size_t>(base.parameter_count())), provenance);
    }
  }

  /// False where it was stopped.
  bool run(const PlannedCell& planned) {
    const std::string name = planned.cell.name();
    const fs::path folder = folder_of(s_, name), config = out_ / "cells" / (name + ".toml");
    std::error_code ignored;
    fs::create_directories(folder, ignored);
    fs::remove(folder / "failed.json", ignored);
    write(config, config_of(training_of(s_, planned), s_.epochs));
    try {
      if (!planned.parent.empty()) write_base(planned_as(planned.parent).cell);
    } catch (const Error& error) {
      write_failure(folder, {.exit_code = static_cast<int>(error.code()),
                             .what = fmt::format("{}\n{}", error.what(), error.report().where)});
      return true;
    }
    if (!look(planned).result.is_object()) {
      Child train("train", {"--config", config.string(), "--out", folder.string(), "--resume", "-q"}, folder / "train.log");
      if (!wait(train, planned)) return false;
      if (const int code = train.wait(); code != 0) return fail_cell(folder, "train", code);
    }
    return !plan_.views || look(planned).tta.is_object() || view(planned, folder, config);
  }

  /// Judges it by the eight views.
  bool view(const PlannedCell& planned, const fs::path& folder, const fs::path& config) {
    const struct Part {
      ~Part() {
        std::error_code ignored;
        fs::remove(file, ignored);
      }
      fs::path file;
    } part{folder / ".tta.json.part"};
    Child evaluate("evaluate",
                   {"--config", config.string(), "--weights", (folder / "best.weights.h5").string(), "--tta", s_.tta,
                    "--save-scores", (folder / "scores_tta.csv").string(), "--json", "-q"},
                   folder / "evaluate.log", part.file);
    if (!wait(evaluate, planned)) return false;
    if (const int code = evaluate.wait(); code != 0) return fail_cell(folder, "evaluate", code);
    const Json metrics = Json::parse(read_text(part.file, ExitCode::data), nullptr, false);
    if (metrics.is_object() && are_of_other_images(metrics)) {
      write_failure(folder, {.exit_code = static_cast<int>(ExitCode::data),
                             .what = "the images are no longer those that it was trained and tested on"});
      return true;
    }
    write(folder / "tta.json", to_text(sealed(metrics)));
    return true;
  }

  /// False where we were told to stop.
  bool wait(Child& child, const PlannedCell& planned) {
    const bool ended = child.wait_unless_stopped([&] { show(planned); });
    if (ended) terminal_.clear_progress();
    return ended;
  }

  bool fail_cell(const fs::path& folder, const std::string& program, int code) {
    if (code == static_cast<int>(ExitCode::in_use)) return true;  // somebody runs it by hand
    const bool killed = code > 128;
    write_failure(folder, {.exit_code = code,
                           .what = killed ? fmt::format("{} was killed by signal {}{}", program, code - 128,
                                                        code == 128 + SIGKILL ? ": out of memory, most likely" : "")
                                          : last_words(folder / (program + ".log"), program)});
    return true;
  }

  void show(const PlannedCell& now) const {
    int done = epochs_elsewhere_;
    try {
      done += epochs_done(folder_of(s_, now.cell.name()));
    } catch (const Error&) {  // a progress bar is no reason to end what it shows
    }
    terminal_.progress(fmt::format("cell {}/{}, {}", number_of(now), mine_.size(), now.cell.name()), done,
                       static_cast<std::int64_t>(mine_.size()) * s_.epochs, "epochs");
  }

  std::ptrdiff_t number_of(const PlannedCell& planned) const { return std::ranges::find(mine_, planned) - mine_.begin() + 1; }

  void say(const PlannedCell& planned) {
    const CellState o = look(planned);
    const auto at = number_of(planned);
    if (o.status != CellStatus::done) {
      const std::string line = fmt::format("cell {}/{}  {}  {}{}", at, mine_.size(), o.cell.name(), name_of(o.status),
                                           o.why.empty() ? "" : ": " + first_line(o.why));
      if (o.status == CellStatus::failed) {
        terminal_.complain("{}", line);
        complained_.insert(o.cell.name());
      } else {
        terminal_.say("{}", line);
      }
      return;
    }
    terminal_.say("cell {}/{}  {}  test AUC {}{}  {} s an epoch", at, mine_.size(), o.cell.name(),
                  figure(o.result["test"], "auc", "{:.4f}"),
                  o.tta.is_object() ? "  by eight views " + figure(o.tta, "auc", "{:.4f}") : "",
                  figure(o.result, "seconds_per_epoch", "{:.2f}"));
    if (const std::string text = learned_text(learned(o)); !text.empty()) terminal_.say("note: {}: {}", o.cell.name(), text);
  }

  /// What cannot be drawn does not stop the study: the last try counts.
  void report() {
    const Clock::time_point begun = Clock::now();
    try {
      write_report_of(out_, terminal_);
      report_error_.reset();
    } catch (const Error& error) {
      if (!report_error_) terminal_.say("note: no report: {} ({})", error.what(), error.report().found);
      report_error_ = error;
    }
    reported_ = Clock::now();
    report_took_ = reported_ - begun;
  }

  static void write(const fs::path& file, const std::string& text) {
    const Bytes part = std::as_bytes(std::span(text.data(), text.size()));
    write_whole(file, {&part, 1}, "cell's file");
  }

  const StudySettings& s_;
  const StudyPlan& plan_;
  std::vector<PlannedCell> mine_;  // of this shard
  fs::path out_;
  Terminal& terminal_;
  std::set<std::string> tried_, complained_;
  int epochs_elsewhere_ = 0;  // done in the shard's other cells
  std::optional<Error> report_error_;
  Clock::time_point reported_;
  Clock::duration report_took_{};
};

/// The options --pcam and --idc are called as the formats are.
Extent size_of(const fs::path& folder, const char* option) {
  const Format& found = recognise(folder);
  if (found.name != option) {
    fail(ExitCode::data, fmt::format("--{} names another data set", option),
         {.where = folder.string(),
          .expected = std::string(find_format(option).layout),
          .found = std::string(found.layout),
          .next = found.name == "pcam" || found.name == "idc" ? fmt::format("give it to --{}", found.name) : ""});
  }
  return image_size(folder);
}

StudyOptions options_of(const StudySettings& s) {
  StudyOptions options{.pcam = {},
                       .idc = {},
                       .nets = s.nets,
                       .modes = s.modes,
                       .preprocess = s.preprocess,
                       .augment = s.augment,
                       .seeds = s.seeds,
                       .weights = s.weights_from};
  if (!s.pcam.empty()) options.pcam = size_of(s.pcam, "pcam");
  if (!s.idc.empty()) options.idc = size_of(s.idc, "idc");
  return options;
}

/// What is missing is told before anything runs.
void require_files(const StudySettings& s, const StudyPlan& plan) {
  std::set<std::string> seen;
  for (const PlannedCell& planned : plan.cells) {
    if (!planned.parent.empty() || !seen.insert(planned.cell.net).second) continue;
    const TrainingSettings t = training_of(s, planned);
    require_consistent(t, find_network(t.net));
  }
}

/// What was given for all networks and is another for some.
void say_overridden(const StudySettings& s, const Arguments& arguments, const StudyPlan& plan, Terminal& terminal) {
  std::set<std::string> seen;
  for (const PlannedCell& planned : plan.cells) {
    if (!seen.insert(planned.cell.net).second) continue;
    const TrainingSettings t = training_of(s, planned);
    const auto say = [&](const char* option, auto given, auto taken) {
      if (arguments.typed(option) && given != taken)
        terminal.complain("note: {}: {} {} of --hyperparameters, not --{} {}", t.net, option, taken, option, given);
    };
    say("lr", s.learning_rate, t.learning_rate);
    say("batch-size", s.batch_size, t.batch_size);
    say("dense-units", s.dense_units, t.dense_units);
  }
}

/// Several processes may work in one folder, on one study.
void begin(const StudySettings& s, const Arguments& arguments, const StudyPlan& plan, Terminal& terminal) {
  const auto folder = hold(s.out, terminal);
  const bool has_plan = folder->has("cells.json"), has_config = folder->has("config.toml");
  if (has_config && !has_plan)
    fail(ExitCode::usage, "the output folder holds a run, or a search", {.where = s.out, .next = "another --out"});
  if (has_config) arguments.require_same(*folder / "config.toml", "a study");
  if (has_config && read_plan(s.out) != plan)
    fail(ExitCode::usage, "the output folder holds a study of other cells",
         {.where = (*folder / "cells.json").string(),
          .expected = "the cells that these options and data make",
          .next = "another --out: two studies do not share a folder"});
  std::error_code error;
  fs::create_directories(*folder / "cells", error);
  if (!has_config) write_plan(s.out, plan);
  folder->write("config.toml", fmt::format("# Go on: study resume --out {}\n{}", one_line(s.out), arguments.config()));
}

/// Cells of two data sets are no study. What is there to compare with was trained before.
void require_same_data(const StudySettings& s, const std::vector<PlannedCell>& mine, Terminal& terminal) {
  const std::vector<CellState> states = read_study(s.out);
  for (const char* data : {"pcam", "idc"}) {
    const auto trained = std::ranges::find_if(states, [&](const CellState& o) {
      return o.cell.data == data && o.status == CellStatus::done && !split_digests(o.result).is_null();
    });
    const bool any_left = std::ranges::any_of(states, [&](const CellState& o) {
      const bool over = o.status == CellStatus::done || (o.status == CellStatus::failed && !s.retry_failed);
      return o.cell.data == data && !over && std::ranges::find(mine, o.cell, &PlannedCell::cell) != mine.end();
    });
    if (trained == states.end() || !any_left) continue;
    const TrainingSettings t = training_of(s, {trained->cell, ""});
    if (has_images_of(t, split_digests(trained->result), terminal)) continue;
    fail(ExitCode::data, "the images are not those that the study's cells were trained on",
         {.where = t.data,
          .expected = fmt::format("the images of {}", trained->folder.string()),
          .found = "others, or in other splits",
          .next = fmt::format("put the former back at {}, or begin another study in another --out", t.data)});
  }
}

int exit_code(const std::vector<CellState>& states) {
  for (const CellState& o : states) {
    const int code = o.exit_code;
    if (o.status != CellStatus::failed || code == 0) continue;
    if (code == 128 + SIGKILL) return static_cast<int>(ExitCode::memory);
    return code > 0 && code <= static_cast<int>(ExitCode::in_use) ? code : static_cast<int>(ExitCode::bug);
  }
  const auto left = [](const CellState& o) { return o.status != CellStatus::done; };
  return static_cast<int>(std::ranges::any_of(states, left) ? ExitCode::in_use : ExitCode::done);
}

void print(const StudySettings& s, const std::vector<CellState>& states, int epochs) {
  fmt::print("{}", s.json ? to_text(to_json(s.out, states)) : table(states, epochs));
}

int study(int argc, char** argv) {
  StudySettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();
  s.out = fs::absolute(s.out).lexically_normal();
  Terminal terminal(s.verbosity());
  if (s.job == "status") {
    print(s, read_study(s.out), read_plan(s.out).epochs);
    return 0;
  }
  if (s.job == "report") {
    read_plan(s.out);
    write_report_of(s.out, terminal);
    if (s.json)
      print(s, read_study(s.out), 0);
    else
      fmt::print("report    {}\n", (fs::path(s.out) / "report.html").string());
    return 0;
  }
  if (s.job == "resume") {
    read_plan(s.out);
    arguments.read_config(fs::path(s.out) / "config.toml");
  }
  const Shard shard = parse_shard(s.shard);
  for (std::string* folder : {&s.pcam, &s.idc})
    if (!folder->empty()) *folder = fs::absolute(*folder).lexically_normal();
  if (s.weights_from != "imagenet" && s.weights_from != "none" && s.weights_from != "other")
    s.weights_from = fs::absolute(s.weights_from).lexically_normal();
  if (s.hyperparameters != "default" && s.hyperparameters != "published")
    s.hyperparameters = fs::absolute(s.hyperparameters).lexically_normal();

  const StudyOptions options = options_of(s);
  const Grid grid = make_grid(options);
  const StudyPlan plan{.epochs = s.epochs, .views = s.tta != "none", .cells = grid.cells};
  require_files(s, plan);
  const std::vector<int> dealt = deal(options, plan.cells, shard.of);
  std::vector<PlannedCell> mine;
  for (std::size_t i = 0; i < plan.cells.size(); ++i)
    if (dealt[i] == shard.index) mine.push_back(plan.cells[i]);

  for (const std::string& note : grid.notes) terminal.say("note: {}", note);
  say_overridden(s, arguments, plan, terminal);
  listen_to_signals();
  begin_saving();
  begin(s, arguments, plan, terminal);
  require_same_data(s, mine, terminal);
  terminal.say("{} cells{}, each of {} epochs", mine.size(),
               shard.of > 1 ? fmt::format(" of {}, shard {}", plan.cells.size(), s.shard) : "", s.epochs);
  Runner runner(s, plan, mine, terminal);
  const bool finished = runner.run();
  std::vector<CellState> states;
  for (CellState& o : read_study(s.out))
    if (std::ranges::find(mine, o.cell, &PlannedCell::cell) != mine.end()) states.push_back(std::move(o));
  if (!finished) {
    terminal.say("stopped after saving; go on with: study resume --out {}", s.out);
    return 128 + stop_signal();
  }
  for (const CellState& o : states)
    if (o.status == CellStatus::failed && !runner.complained_of(o.cell))
      terminal.complain("{}  failed: {}", o.cell.name(), first_line(o.why));
  print(s, states, s.epochs);
  if (!s.json && !runner.report_error()) fmt::print("report    {}\n", (fs::path(s.out) / "report.html").string());
  const int code = exit_code(states);
  if (code == static_cast<int>(ExitCode::done) && runner.report_error()) throw *runner.report_error();
  if (runner.report_error())
    terminal.complain("no report: {} ({})", runner.report_error()->what(), runner.report_error()->report().where);
  if (code == static_cast<int>(ExitCode::in_use))
    terminal.say("note: {} cells are in the hands of other processes, or wait for what these run",
                 std::ranges::count_if(states, [](const CellState& o) { return o.status != CellStatus::done; }));
  return code;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("study", [&] { return microtome::study(argc, argv); });
}
