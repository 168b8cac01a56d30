// Where an epoch's seconds go, by row and pass and by kernel, worked out from a few steps; `profile diff`, `profile forecast`.
#include "tools/profile/profile.h"
#include "data/gzip.h"
#include "engine/check.h"
#include "engine/nearest.h"
#include "tools/cli/program.h"
#include "tools/cli/run_folder.h"
#include "tools/options/training.h"
#include "tools/profile/chrome_trace.h"
#include "tools/profile/diff.h"
#include "tools/profile/export.h"
#include "tools/profile/forecast.h"
#include "tools/profile/measure.h"
#include "tools/profile/page.h"
#include "tools/profile/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace microtome {
namespace {

struct ProfileSettings : TrainingSettings {
  int steps = 20, warm_up = 8, top = 20;
  std::string out, explain, print_ncu, counters;
  bool json = false, print_nsys = false;
};

Arguments declare(ProfileSettings& s) {
  Arguments arguments(
      "profile", "Measure where an epoch's seconds go: layer by layer, pass by pass, kernel by kernel.",
      "--net NAME --data DIR [options] | diff BEFORE AFTER | forecast",
      {"profile --net resnet50 --data ~/pcam", "profile --net b6 --data ~/idc --device cpu --steps 5 --explain conv2d",
       "profile diff profiles/before profiles/after --gate 3%", "profile forecast --net vgg19"});
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
  arguments.heading("Profile");
  arguments.add({.name = "steps", .help = "that are traced; as many again, between them, are timed and not traced"}, s.steps,
                {1, 1000});
  arguments.add({.name = "warm-up", .help = "before them", .unit = "steps"}, s.warm_up, {1, 1000});
  arguments.add({.name = "top", .help = "lines of the tables that are sorted by seconds"}, s.top, {1, 10'000});
  arguments.add({.name = "explain", .placeholder = "ROW", .help = "print what is known of one row instead of the tables"},
                s.explain);
  arguments.add({.name = "counters",
                 .placeholder = "NAME,NAME",
                 .help = "hardware counters to read by row and pass, on a GPU: dram, l2, tensor, sm, occupancy, or names of "
                         "Nsight Compute's"},
                s.counters);
  arguments.add(
      {.name = "out",
       .letter = 'o',
       .placeholder = "DIR",
       .help = "for profile.json, layers.csv, kernels.csv, trace.json.gz and report.html; without it, profiles/<net>-<time>"},
      s.out);
  arguments.add_flag({.name = "json", .help = "print profile.json on stdout"}, s.json);
  arguments.add_flag({.name = "print-nsys", .help = "run nothing; print the command that shows this run in Nsight Systems"},
                     s.print_nsys);
  arguments.add({.name = "print-ncu",
                 .placeholder = "ROW",
                 .help = "run nothing; print the command that looks into the kernels of a row with Nsight Compute"},
                s.print_ncu);
  add_verbosity(arguments, s);
  return arguments;
}

/// Before anything is read: rows do not depend on the images' size.
void require_row(const Network& network, const std::string& row) {
  std::vector<std::string> names;
  const Graph graph = network.build(std::max(96, network.published_size));
  for (const Row& known : graph.rows()) names.push_back(known.name);
  if (std::find(names.begin(), names.end(), row) != names.end()) return;
  const std::string meant = nearest(row, names);
  fail(ExitCode::usage, fmt::format("{} has no row \"{}\"", network.name, row),
       {.expected = meant.empty() ? "" : fmt::format("did you mean {}?", meant),
        .next = fmt::format("describe --net {} lists its rows", network.name)});
}

std::string shell_word(const std::string& word) {
  const bool plain =
      !word.empty() &&
      word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+") == std::string::npos;
  if (plain) return word;
  std::string escaped;
  for (const char c : word) {
    if (c == '\'') escaped += "'\\'";
    escaped += c;
  }
  return fmt::format("'{}'", escaped);
}

/// This call without the options that print a command instead of running it.
std::string this_command(int argc, const char* const* argv) {
  std::string command;
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--print-nsys" || word.starts_with("--print-ncu=")) continue;
    if (word == "--print-ncu") {
      ++i;
      continue;
    }
    command += fmt::format("{}{}", command.empty() ? "" : " ", shell_word(word));
  }
  return command;
}

/// What is traced is what Nsight keeps: where it has the device a trace is no more than a bracket. Its first burst will do.
int print_nsys(const ProfileSettings& s, const std::string& command) {
  const std::string out = fmt::format("{}-{}", s.net, utc("%Y%m%d"));
  fmt::print(
      "nsys profile --trace=cuda,nvtx,cudnn,cublas --cuda-graph-trace=node --capture-range=cudaProfilerApi "
      "--capture-range-end=stop --output={0} {1}\n"
      "nsys stats --report nvtx_sum,cuda_gpu_kern_sum,cuda_api_gpu_sum:nvtx-name {0}.nsys-rep\n",
      out, command);
  return 0;
}

/// Op by op, since kernels of a recorded step are launched outside of the ranges that name them.
int print_ncu(const ProfileSettings& s, const std::string& command) {
  std::string ranges;
  for (const Pass pass : {Pass::forward, Pass::backward, Pass::backward_data, Pass::backward_filter, Pass::norm_correction})
    ranges += fmt::format("--nvtx-include {} ", shell_word(fmt::format("microtome@{} {}/", s.print_ncu, name(pass))));
  fmt::print("ncu --profile-from-start off --nvtx {}--set full --clock-control none --export {}-{} {} --graph off\n", ranges,
             s.net, s.print_ncu, command);
  return 0;
}

Sampling sampling_of(const ProfileSettings& s, const Device& device) {
  // On a GPU the host runs ahead of the device: a wait after each step would show in it.
  const int burst = device.name.starts_with("cuda") ? std::min(5, s.steps) : 1;
  return {.warm_up = s.warm_up, .steps = (s.steps + burst - 1) / burst * burst, .burst = burst};
}

/// A run's weights and report have the names that a profile's have.
void require_free(const RunFolder& folder) {
  if (folder.has("profile.json"))
    fail(ExitCode::usage, "the output folder holds a profile", {.where = folder.path().string(), .next = "another --out"});
  constexpr const char* files[] = {"config.toml", "best.weights.h5", "last.checkpoint", "report.html",
                                   "layers.csv",  "kernels.csv",     "trace.json.gz"};
  folder.require_none_of(files, "the output folder holds a run, or files that a profile would overwrite");
}

void write_files(const Profile& profile, const Measurement& measured, const RunFolder& folder) {
  if (!measured.examples.empty())
    folder.write("trace.json.gz", gzip(trace_events(measured.examples, profile.device["description"].get<std::string>())));
  folder.write("report.html", to_html(profile));
  folder.write("layers.csv", layers_csv(profile));
  folder.write("kernels.csv", kernels_csv(profile));
  folder.write("profile.json", to_text(to_json(profile)));
}

int run(const ProfileSettings& s, const Network& network, const std::vector<Counter>& counters, const RunFolder& folder,
        Terminal& terminal) {
  const std::unique_ptr<Backend> backend = open_backend(s, terminal);
  std::vector<std::string> metrics;
  for (const Counter& c : counters) metrics.push_back(c.metric);
  std::string why;
  if (!metrics.empty()) backend->counters(metrics, why);  // one that the device does not have is told before anything runs
  Job job(s, network, *backend, Splits{.train = true, .valid = true}, terminal);
  require_trainable(job.data, job.options);
  const Sampling sampling = sampling_of(s, backend->device());
  const int batch = s.batch_size, sampled = sampling.warm_up + 2 * sampling.steps;
  const Dataset data = shortened(job.data, sampled * batch, std::max(sampling.steps, 4) * batch);
  const double images = job.data.train.shape.n, valid = job.data.valid.shape.n;
  const Epoch epoch{.images = images,
                    .steps = images / batch,
                    .statistics = std::min(std::floor(images / batch), 128.0) / std::min(sampled, 128),
                    .validation = valid / data.valid.shape.n};
  job.data = {};
  job.initialize(s, network, terminal);

  const Roofs roofs = measure_roofs(*backend);
  Measurement measured = measure(job.model, data, job.options, sampling, folder.path(),
                                 [&](int done, int of) { terminal.progress("profiling", done, of, "steps"); });
  if (!metrics.empty())
    measure_counters(
        job.model, data, job.options, metrics, [&](int done, int of) { terminal.progress("counting", done, of, "steps"); },
        measured);
  terminal.clear_progress();
  for (const char* file : {"best.weights.h5", "last.checkpoint"}) std::filesystem::remove(folder / file);
  measured.roofs = roofs;
  if (!measured.note.empty()) terminal.say("note: {}", measured.note);

  const double features = measured.features_seconds * (images + valid) / (data.train.shape.n + data.valid.shape.n);
  const Json about{{"net", s.net},
                   {"mode", s.mode},
                   {"data", s.data},
                   {"data_name", data.name},
                   {"image", {data.train.shape.h, data.train.shape.w}},
                   {"batch_size", batch},
                   {"precision", s.precision},
                   {"graph", s.graph},
                   {"augment", s.augment},
                   {"seed", s.seed},
                   {"commit", commit()},
                   {"features", s.mode == "full" ? Json() : Json(job.options.keep_features ? "kept" : "recomputed")},
                   {"features_seconds", features}};
  const Program& program = job.model.program(Mode::train, batch, job.options.keep_features ? Part::head : Part::whole);
  const Profile profile = make_profile(measured, job.model, program, sampling, epoch, counters, about);
  write_files(profile, measured, folder);
  fmt::print("{}", s.json              ? to_text(to_json(profile))
                   : s.explain.empty() ? to_text(profile, s.top)
                                       : explain(profile, s.explain));
  std::fflush(stdout);  // what is said next comes behind it where both go into one file
  terminal.say("profile in {}", folder.path().string());
  return 0;
}

int profile(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "diff") return profile_diff(argc - 1, argv + 1);
  if (command == "forecast") return forecast(argc - 1, argv + 1);
  ProfileSettings s;
  Arguments arguments = declare(s);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();
  const Network& network = find_network(s.net);
  s.net = network.name;
  for (const std::string& row : {s.explain, s.print_ncu})
    if (!row.empty()) require_row(network, row);
  const std::vector<Counter> counters = s.counters.empty() ? std::vector<Counter>() : counters_named(s.counters);
  if (s.print_nsys) return print_nsys(s, this_command(argc, argv));
  if (!s.print_ncu.empty()) return print_ncu(s, this_command(argc, argv));
  require_consistent(s, network);
  recognise(s.data);
  Terminal terminal(s.verbosity());
  const RunFolder folder =
      s.out.empty() ? RunFolder::make_new(fmt::format("profiles/{}-{}", s.net, utc("%Y%m%d-%H%M%S"))) : RunFolder(s.out);
  s.out = folder.path();
  require_free(folder);
  return run(s, network, counters, folder, terminal);
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("profile", [&] { return microtome::profile(argc, argv); });
}
