// Searches learning rate, batch size and dense units by Hyperband. Each trial is an ordinary run of `train` in a folder of its
// own; what is kept of those that ended (trials.jsonl) says what comes next, so that a search can be stopped at any moment.
#include "data/file.h"
#include "data/loader.h"
#include "engine/check.h"
#include "engine/one_line.h"
#include "tools/cli/child.h"
#include "tools/cli/documents.h"
#include "tools/cli/program.h"
#include "tools/cli/run_folder.h"
#include "tools/cli/signals.h"
#include "tools/options/training.h"
#include "tools/report/html.h"
#include "tools/tune/hyperband.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>

namespace microtome {
namespace {

namespace fs = std::filesystem;

struct TuneSettings : TrainingSettings {
  std::string space = "paper", out;
  HyperbandOptions search;
  bool resume = false, json = false;
};

void add_trained(Arguments& arguments, TrainingSettings& s) {
  arguments.heading("Network");
  add_network(arguments, s);
  add_start(arguments, s);
  arguments.heading("Data");
  add_data(arguments, s);
  add_preprocess(arguments, s);
  arguments.heading("Training");
  add_steps(arguments, s);
  arguments.heading("Machine");
  add_machine(arguments, s);
  add_graph(arguments, s);
}

Arguments declare(TuneSettings& s) {
  using Kept = Option::Kept;
  Arguments arguments("tune", "Search hyperparameters by Hyperband; the best go to best.toml, for train --config.",
                      "--net NAME --data DIR [options]",
                      {"tune --net b6 --data ~/pcam --space paper-dense --iterations 4",
                       "tune --net inception_v3 --weights imagenet --data ~/pcam --iterations 3 --out runs/tuned",
                       "tune --resume --out runs/tuned"});
  arguments.required_unless("resume");
  arguments.heading("Search");
  arguments.add(
      {.name = "space",
       .help = "\"lr=1e-5..1e-2:log, batch-size=32..256:32, dense-units=128|256\"; paper: lr and batch size as in the "
               "study; paper-dense: and dense units. What is not in it is as given below",
       .kept = Kept::fixed},
      s.space);
  arguments.add({.name = "max-epochs", .help = "of the trials that go furthest [Bonnet2021: 10]", .kept = Kept::fixed},
                s.search.max_epochs, {1, 100'000});
  arguments.add({.name = "factor", .help = "of each round's trials one in so many goes on", .kept = Kept::fixed},
                s.search.factor, {2, 100});
  arguments.add({.name = "iterations",
                 .help = "of the whole schedule; more may be asked for when a search is resumed",
                 .kept = Kept::free},
                s.search.iterations, {1, 100'000});
  add_trained(arguments, s);
  arguments.heading("Run");
  arguments.add(
      {.name = "out", .letter = 'o', .placeholder = "DIR", .help = "the search's folder; without it, runs/tune-<net>-<time>"},
      s.out);
  arguments.add_flag({.name = "resume", .help = "go on with the search in --out, inside the trial where it stopped"}, s.resume);
  arguments.add_flag({.name = "json", .help = "print result.json on stdout"}, s.json);
  add_verbosity(arguments, s);
  return arguments;
}

/// As `train --config` reads it. `epochs` 0: without how long and from where.
std::string training_config(const TuneSettings& s, const Trial& trial, std::uint64_t seed, const std::string& weights,
                            int epochs) {
  TrainingSettings of_trial = s;
  for (const auto& [name, value] : trial.values) {
    if (name == "lr") of_trial.learning_rate = value;
    if (name == "batch-size") of_trial.batch_size = static_cast<int>(value);
    if (name == "dense-units") of_trial.dense_units = static_cast<int>(value);
  }
  of_trial.seed = seed;
  of_trial.weights = weights;
  Arguments arguments("train", "", "", {});
  add_trained(arguments, of_trial);
  return epochs == 0 ? arguments.config()
                     : fmt::format("{}epochs = {}\nfirst-epoch = {}\n", arguments.config(), epochs, trial.initial_epoch);
}

/// Of what can be searched, with values that `train` takes.
std::vector<Dimension> searched_space(const std::string& text) {
  std::vector<Dimension> space = parse_space(text);
  for (Dimension& d : space) {
    d.whole = d.name != "lr";
    if (d.whole && d.name != "batch-size" && d.name != "dense-units")
      fail(ExitCode::usage, "--space names what cannot be searched",
           {.expected = "lr, batch-size, dense-units", .found = d.name});
    std::vector<double> values = d.choices;
    if (d.choices.empty()) values = {d.low, d.high};
    if (d.kind == Dimension::Kind::stepped) values.push_back(d.step);
    for (const double value : values)
      if (d.whole ? value < 1 || value > 65536 || value != std::floor(value) : value <= 0)
        fail(ExitCode::usage, fmt::format("--space gives {} a value that it cannot have", d.name),
             {.expected = d.whole ? "whole numbers from 1 to 65536" : "numbers above 0", .found = fmt::format("{}", value)});
  }
  return space;
}

Json to_json(const Trial& trial, std::string_view status, double seconds) {
  return {{"id", trial.id},
          {"iteration", trial.iteration},
          {"bracket", trial.bracket},
          {"round", trial.round},
          {"parent", trial.parent},
          {"initial_epoch", trial.initial_epoch},
          {"epochs", trial.epochs},
          {"values", trial.values},
          {"score", trial.score ? Json(*trial.score) : Json(nullptr)},
          {"status", status},
          {"seconds", seconds}};
}

Trial trial_of(const Json& json) {
  Trial trial{.id = json.at("id"),
              .iteration = json.at("iteration"),
              .bracket = json.at("bracket"),
              .round = json.at("round"),
              .parent = json.at("parent"),
              .initial_epoch = json.at("initial_epoch"),
              .epochs = json.at("epochs"),
              .values = json.at("values").get<Hyperparameters>()};
  if (!json.at("score").is_null()) trial.score = json["score"].get<double>();
  return trial;
}

/// Whether `text` is what to_json() made of the trial of that number.
bool is_trial(const std::string& text, int id, std::span<const Dimension> space) {
  try {
    const Json json = Json::parse(text);
    // Of a number with a fraction, or too large a one, the library would make something.
    constexpr int largest = 1'000'000'000;
    for (const char* key : {"id", "iteration", "bracket", "round", "parent", "initial_epoch", "epochs"})
      if (!json.at(key).is_number_unsigned() || json.at(key) > largest) return false;
    const Trial trial = trial_of(json);
    return trial.id == id && trial.parent >= 0 && trial.parent < id && json.at("status").is_string() &&
           json.at("seconds").is_number() &&
           std::ranges::all_of(space, [&](const Dimension& d) { return trial.values.contains(d.name); });
  } catch (const Json::exception&) {
    return false;
  }
}

fs::path folder_of(const fs::path& search, int id) {
  return search / fmt::format("trials/{:04}", id);
}

/// Nothing where the trial's run has not ended, or its result.json is damaged or another's.
std::optional<double> validation_accuracy(const fs::path& run, const Trial& trial) {
  const std::optional<std::string> text = read_text_if_there(run / "result.json", ExitCode::data);
  if (!text) return std::nullopt;
  const Json result = Json::parse(*text, nullptr, false);
  try {
    for (const auto& [name, key] : {std::pair("lr", "learning_rate"), std::pair("batch-size", "batch_size")})
      if (const auto value = trial.values.find(name); value != trial.values.end() && result.at(key) != value->second)
        return std::nullopt;
    const double accuracy = result.at("validation").at("accuracy");
    return result.at("epochs") == trial.epochs && accuracy >= 0 && accuracy <= 1 ? std::optional(accuracy) : std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

/// A list that its trials contradict would make a search that nobody ran.
void require_as_trained(const fs::path& search, const Trial& trial, const std::string& line) {
  const fs::path run = folder_of(search, trial.id);
  Report report{.where = fmt::format("{}, line {}", (search / "trials.jsonl").string(), trial.id),
                .found = line,
                .next = "delete that line and all after it: these trials are found again in their folders"};
  const std::string config = read_text_if_there(run / "config.toml", ExitCode::data).value_or("");
  for (std::string_view left = config, option; take_line(left, option);)
    for (const auto& [name, value] : trial.values)
      if (option.starts_with(name + " = ") && Json::parse(option.substr(name.size() + 3), nullptr, false) != value) {
        report.expected = fmt::format("{}, as in {}", option, (run / "config.toml").string());
        fail(ExitCode::data, "the list of trials contradicts a trial", std::move(report));
      }
  if (!fs::exists(run / "result.json")) return;
  const std::optional<double> accuracy = validation_accuracy(run, trial);
  if (accuracy == trial.score) return;
  report.expected = accuracy ? fmt::format("score {}, as in {}", *accuracy, (run / "result.json").string())
                             : fmt::format("what {} is the result of", (run / "result.json").string());
  fail(ExitCode::data, "the list of trials contradicts a trial", std::move(report));
}

/// A last line that a kill cut short is taken back: its trial has ended, and says so again.
std::vector<Json> read_trials(const RunFolder& folder, std::span<const Dimension> space) {
  std::vector<Json> lines;
  if (!folder.has("trials.jsonl")) return lines;
  const std::string text = read_text(folder / "trials.jsonl", ExitCode::data);
  std::string whole;
  for (std::string_view left = text, taken; take_line(left, taken);) {
    if (left.empty() && !text.ends_with('\n')) break;
    const std::string line(taken);
    const int id = static_cast<int>(lines.size()) + 1;
    if (!is_trial(line, id, space))
      fail(ExitCode::data, "the list of trials is damaged",
           {.where = fmt::format("{}, line {}", (folder / "trials.jsonl").string(), id),
            .expected = fmt::format("trial {}", id),
            .found = line,
            .next = "delete that line and all after it: these trials are found again in their folders"});
    lines.push_back(Json::parse(line));
    require_as_trained(folder.path(), trial_of(lines.back()), line);
    whole += line + "\n";
  }
  folder.write("trials.jsonl", whole);
  return lines;
}

/// Whether a run ended for want of memory, not of room on a disk: both are exit 5.
bool lacked_memory(const fs::path& log) {
  const std::string text = read_text_if_there(log, ExitCode::data).value_or("");
  std::string_view left = text, line;
  while (take_line(left, line)) {
  }
  const Json last = Json::parse(line, nullptr, false);
  return last.is_object() && last.value("event", Json()) == "error" && last.value("lacks", Json()) == "memory";
}

std::string text_of(const Hyperparameters& values) {
  std::string text;
  for (const auto& [name, value] : values) text += fmt::format("{}{} {:.4g}", text.empty() ? "" : "  ", name, value);
  return text;
}

class Search {
 public:
  Search(const TuneSettings& s, std::vector<Dimension> space, const RunFolder& folder, Terminal& terminal)
      : s_(s), folder_(folder), terminal_(terminal), space_(std::move(space)) {
    for (Json& line : read_trials(folder, space_)) {
      ended_.push_back(trial_of(line));
      lines_.push_back(std::move(line));
    }
    for (const HalvingRound& r : halving_rounds(s.search.max_epochs, s.search.factor)) {
      trials_ += s.search.iterations * r.trials;
      epochs_ += s.search.iterations * r.trials * (r.epochs - r.initial_epoch);
    }
  }

  /// False where it was stopped.
  bool run() {
    if (!ended_.empty()) {
      terminal_.say("resuming: {} of {} trials have ended", ended_.size(), trials_);
      write();  // which the last trial may not have come to
    }
    while (std::optional<Trial> trial = next_trial(s_.search, space_, ended_)) {
      const auto start = std::chrono::steady_clock::now();
      const std::optional<std::string> status = run(*trial);
      if (!status) return false;
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      lines_.push_back(to_json(*trial, *status, seconds));
      folder_.append("trials.jsonl", lines_.back().dump() + "\n");
      ended_.push_back(*trial);
      write();
      terminal_.say("trial {}/{}  bracket {}  round {}  epochs {} to {}  {}  {}{}", trial->id, trials_, trial->bracket,
                    trial->round, trial->initial_epoch, trial->epochs, text_of(trial->values),
                    trial->score ? fmt::format("valid accuracy {:.4f}", *trial->score) : *status,
                    best() && best()->id == trial->id ? "  best" : "");
    }
    if (std::ssize(ended_) < trials_)
      terminal_.say("note: ends after {} of {} trials: --space has no more values, or too many trials failed", ended_.size(),
                    trials_);
    return true;
  }

  const Trial* best() const {
    const Trial* best = nullptr;
    for (const Trial& t : ended_)
      if (t.score && (!best || *t.score > *best->score)) best = &t;
    return best;
  }

  Json result() const {
    return {
        {"net", s_.net}, {"space", s_.space}, {"trials", lines_}, {"best", best() ? lines_[best()->id - 1] : Json(nullptr)}};
  }

 private:
  /// What became of it; nothing where we were told to stop.
  std::optional<std::string> run(Trial& trial) {
    const fs::path out = folder_of(folder_.path(), trial.id);
    std::error_code error;
    fs::create_directories(out, error);
    const std::string name = fmt::format("trials/{:04}.toml", trial.id);
    const std::string weights =
        trial.parent > 0 ? (folder_of(folder_.path(), trial.parent) / "best.weights.h5").string() : s_.weights;
    folder_.write(name, training_config(s_, trial, s_.seed + static_cast<std::uint64_t>(trial.id), weights, trial.epochs));
    trial.score = validation_accuracy(out, trial);
    if (!trial.score) {
      Child train("train", {"--config", (folder_ / name).string(), "--out", out.string(), "--resume", "-q"}, out / "train.log");
      if (!train.wait_unless_stopped([&] { show(trial, out); })) return std::nullopt;
      terminal_.clear_progress();
      if (const int code = train.wait(); code != 0) return failure(trial, code, out);
      trial.score = validation_accuracy(out, trial);
      require(trial.score.has_value(), "tune: trial ", trial.id, " ended without a result");
    }
    return "completed";
  }

  /// Of values that cannot be. What else ends a trial, a full disk or a signal, is not the values' fault: it ends the search,
  /// which begins with that trial when it is resumed.
  std::string failure(const Trial& trial, int code, const fs::path& out) const {
    if (code == static_cast<int>(ExitCode::memory) && lacked_memory(out / "log.jsonl")) return "out of memory";
    if (code == static_cast<int>(ExitCode::not_finite)) return "diverged";
    if (code > 128)
      fail(code == 128 + SIGKILL ? ExitCode::memory : ExitCode::bug,
           fmt::format("trial {} was ended by signal {}", trial.id, code - 128),
           {.where = (out / "train.log").string(),
            .found = code == 128 + SIGKILL ? "what the kernel does where memory is used up, unless it was somebody's kill -9"
                                           : strsignal(code - 128),
            .next = fmt::format("tune --resume --out {}; where it ends here again, more memory, or another search in another "
                                "--out with smaller batches in its --space",
                                s_.out)});
    fail(code > 0 && code <= static_cast<int>(ExitCode::in_use) ? static_cast<ExitCode>(code) : ExitCode::bug,
         fmt::format("trial {} failed with exit code {}", trial.id, code),
         {.where = (out / "train.log").string(),
          .found = last_words(out / "train.log", "train"),
          .next = fmt::format("tune --resume --out {}", s_.out)});
  }

  void show(const Trial& trial, const fs::path& out) const {
    int done = 0;
    for (const Trial& t : ended_) done += t.epochs - t.initial_epoch;
    std::ifstream file(out / "metrics.csv");
    std::string line;
    for (std::getline(file, line); std::getline(file, line);) ++done;
    const std::string so_far = best() ? fmt::format(", best {:.4f}", *best()->score) : "";
    terminal_.progress(fmt::format("trial {}/{}{}", trial.id, trials_, so_far), done, epochs_, "epochs");
  }

  /// What people look at while it goes on; whole after every trial.
  void write() const {
    std::string csv = "trial,iteration,bracket,round,parent,initial_epoch,epochs";
    for (const Dimension& d : space_) csv += "," + d.name;
    csv += ",valid_accuracy,status,seconds\n";
    for (std::size_t i = 0; i < ended_.size(); ++i) {
      const Trial& t = ended_[i];
      csv += fmt::format("{},{},{},{},{},{},{}", t.id, t.iteration, t.bracket, t.round, t.parent, t.initial_epoch, t.epochs);
      for (const Dimension& d : space_) csv += fmt::format(",{:.9g}", t.values.at(d.name));
      csv += fmt::format(",{},{},{:.3f}\n", t.score ? fmt::format("{:.9g}", *t.score) : "",
                         lines_[i]["status"].get<std::string>(), lines_[i]["seconds"].get<double>());
    }
    folder_.write("trials.csv", csv);
    if (best()) folder_.write("best.toml", training_config(s_, *best(), s_.seed, s_.weights, 0));
    folder_.write("report.html", report());
  }

  std::string report() const {
    std::string body;
    if (best()) {
      std::vector<std::pair<std::string, std::string>> figures{
          {"best validation accuracy", fmt::format("{:.4f}", *best()->score)}};
      for (const auto& [name, value] : best()->values) figures.emplace_back(name, fmt::format("{:.4g}", value));
      figures.emplace_back("trials", fmt::format("{} of {}", ended_.size(), trials_));
      body += figures_row(figures);
    }
    body += "<div class=\"pair\">";
    for (const Dimension& d : space_) body += plot_section(d.name, script(d));
    body +=
        "</div>\n<section><h2>Trials, the best first</h2><table><tr><th>trial</th><th>parent</th><th>bracket</th><th>round</th>"
        "<th>epochs</th>";
    for (const Dimension& d : space_) body += fmt::format("<th>{}</th>", escape(d.name));
    body += "<th>valid accuracy</th><th>seconds</th></tr>\n";
    std::vector<std::size_t> order(ended_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return ended_[a].score.value_or(-1) > ended_[b].score.value_or(-1); });
    for (const std::size_t i : order) {
      const Trial& t = ended_[i];
      body += fmt::format("<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} to {}</td>",
                          best() && best()->id == t.id ? " class=\"best\"" : "", t.id,
                          t.parent > 0 ? fmt::format("{}", t.parent) : "–", t.bracket, t.round, t.initial_epoch, t.epochs);
      for (const Dimension& d : space_) body += fmt::format("<td>{:.4g}</td>", t.values.at(d.name));
      body += fmt::format("<td>{}</td><td>{:.0f}</td></tr>\n",
                          t.score ? fmt::format("{:.4f}", *t.score) : escape(lines_[i]["status"].get<std::string>()),
                          lines_[i]["seconds"].get<double>());
    }
    return page(fmt::format("{} tuned", s_.net), "A search of Microtome, by Hyperband [Li2018].",
                body + "</table></section>\n");
  }

  /// Every trial's accuracy over one dimension; the larger the point the more epochs it has behind it.
  std::string script(const Dimension& dimension) const {
    std::string text = fmt::format(
        "set terminal svg size 560,360 dynamic rounded font 'DejaVu Sans,13' name '{0}'\n{1}set xlabel '{0}' textcolor rgb "
        "'#475467'\nset ylabel 'validation accuracy' textcolor rgb '#475467'\nset key off\nset offsets graph 0.05, graph 0.05, "
        "graph 0.06, graph 0.06\n{2}$data << END\n",
        dimension.name, plot_look,
        dimension.kind == Dimension::Kind::logarithmic ? "set logscale x\nset format x '10^{%T}'\n" : "");
    bool any = false;
    for (const Trial& t : ended_) {
      if (!t.score) continue;
      any = true;
      text += fmt::format("{:.9g} {:.9g} {:.3g}\n", t.values.at(dimension.name), *t.score,
                          0.4 + 0.8 * t.epochs / s_.search.max_epochs);
    }
    if (!any) text += fmt::format("{:.9g} 0 0\n", dimension.choices.empty() ? dimension.low : dimension.choices[0]);
    return text + "END\nplot $data using 1:2:3 with points pointtype 7 pointsize variable linecolor rgb '#802563a8'\n";
  }

  const TuneSettings& s_;
  const RunFolder& folder_;
  Terminal& terminal_;
  std::vector<Dimension> space_;
  std::vector<Trial> ended_;
  std::vector<Json> lines_;  // of trials.jsonl
  int trials_ = 0, epochs_ = 0;
};

/// A value that nothing would be made of.
void require_not_given(const Arguments& arguments, std::span<const Dimension> space, const std::string& text) {
  for (const Dimension& d : space)
    if (arguments.typed(d.name))
      fail(ExitCode::usage, fmt::format("--{} is given, and searched too", d.name),
           {.expected = "values of what --space does not search",
            .found = fmt::format("--space {}", text),
            .next = fmt::format("leave out --{}, or give a --space without it", d.name)});
}

/// Trials on two data sets are no search. The last that has ended knows what it was trained on.
void require_same_data(const TuneSettings& s, const RunFolder& folder, Terminal& terminal) {
  for (int id = 1; folder.has(fmt::format("trials/{:04}.toml", id)); ++id) {
    const fs::path run = folder_of(folder.path(), id);
    const Json result = read_json(run / "result.json").value_or(Json());
    const Json trained = result.is_object() ? result.value("split_digests", Json()) : Json();
    if (trained.is_null()) continue;
    if (has_images_of(s, trained, terminal)) return;
    fail(ExitCode::data, "the images are not those that the search's trials were trained on",
         {.where = s.data,
          .expected = fmt::format("the images of {}", run.string()),
          .found = "others, or in other splits",
          .next = "name the data set as it was with --data, or begin another search in another --out"});
  }
}

/// A batch has at most all training images.
void limit_batches(std::vector<Dimension>& space, const TuneSettings& s, Terminal& terminal) {
  LoadOptions options = load_options(s, terminal);
  options.valid = options.test = false;
  const std::int64_t images = count_images(s.data, options)[0];
  const auto batches = std::ranges::find(space, "batch-size", &Dimension::name);
  if (batches == space.end() && s.batch_size > images)
    fail(ExitCode::usage, "the batch is larger than the training set",
         {.expected = fmt::format("--batch-size at most {}", images), .found = fmt::format("{}", s.batch_size)});
  if (batches != space.end() && limit(*batches, static_cast<double>(images)))
    terminal.say("note: --space goes no further than a batch of {}: that is all training images", images);
}

int tune(int argc, char** argv) {
  TuneSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  if (s.resume && s.out.empty()) fail(ExitCode::usage, "--resume needs --out", {.next = "tune --resume --out DIR"});
  const fs::path earlier = fs::path(s.out) / "config.toml";
  if (s.resume && fs::exists(earlier)) arguments.read_config(earlier);
  if (s.resume && s.net.empty())
    fail(ExitCode::usage, "there is no search to go on with", {.where = s.out, .found = "no config.toml"});
  arguments.require_all();
  const Network& network = find_network(s.net);
  s.net = network.name;
  require_consistent(s, network);
  Terminal terminal(s.verbosity());
  std::vector<Dimension> space = searched_space(s.space);
  require_not_given(arguments, space, s.space);
  network.build(image_size(s.data), Head::study, s.dense_units);
  limit_batches(space, s, terminal);
  s.search.seed = s.seed;
  if (!s.weights.empty() && s.statistics == "auto")
    s.statistics = "moving";  // as `train` decides; a child's are not foreign weights
  s.data = fs::absolute(s.data).lexically_normal();
  if (!s.weights.empty() && s.weights != "imagenet") s.weights = fs::absolute(s.weights).lexically_normal();
  if (!s.weights.empty() && !fs::exists(weights_file(s)))
    fail(ExitCode::weights, "a weight file is missing", {.where = s.weights, .found = "no such file"});

  listen_to_signals();
  begin_saving();
  const auto absolute = [](const fs::path& path) { return fs::absolute(path).lexically_normal(); };
  const RunFolder folder = s.out.empty()
                               ? RunFolder::make_new(absolute(fmt::format("runs/tune-{}-{}", s.net, utc("%Y%m%d-%H%M%S"))))
                               : RunFolder(absolute(s.out));
  s.out = folder.path();
  if (folder.has("config.toml")) {
    if (!s.resume)
      fail(ExitCode::usage, "the output folder holds a search, or a run",
           {.where = s.out, .next = fmt::format("tune --resume --out {}, or another --out", s.out)});
    arguments.require_same(folder / "config.toml", "a search");
    require_same_data(s, folder, terminal);
  }
  folder.write("config.toml", fmt::format("# Go on: tune --resume --out {}\n{}", one_line(s.out), arguments.config()));
  Search search(s, std::move(space), folder, terminal);
  const bool finished = search.run();
  if (!finished) {
    terminal.say("stopped after saving; go on with: tune --resume --out {}", s.out);
    return 128 + stop_signal();
  }
  const Json result = search.result();
  folder.write("result.json", to_text(result));
  if (s.json) {
    fmt::print("{}", to_text(result));
    return 0;
  }
  if (!search.best()) fail(ExitCode::not_finite, "every trial failed", {.where = s.out, .next = "narrow --space"});
  fmt::print("best: trial {}, validation accuracy {:.4f}, {}\nnow:  train --config {}\nreport    {}\n", search.best()->id,
             *search.best()->score, text_of(search.best()->values), (folder / "best.toml").string(),
             (folder / "report.html").string());
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("tune", [&] { return microtome::tune(argc, argv); });
}
