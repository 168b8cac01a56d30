#include "tools/options/common.h"

#include "engine/check.h"

#include <fmt/format.h>

#include <cstdlib>

namespace microtome {
namespace {

/// The default in words of what weights may say; empty, for the value's own, where they are not asked.
template <class T>
std::string preset(Named named, const T& otherwise) {
  return named == Named::always ? "" : fmt::format("what the weights say, else {}", otherwise);
}

}  // namespace

Verbosity Settings::verbosity() const {
  return quiet ? Verbosity::quiet : verbose ? Verbosity::verbose : Verbosity::normal;
}

std::string network_names() {
  std::string names;
  for (const Network& network : networks()) names += fmt::format("{}{}", names.empty() ? "" : ", ", network.name);
  return names;
}

void add_network(Arguments& arguments, Settings& settings, Named named) {
  const bool always = named == Named::always;
  arguments.add({.name = "net",
                 .placeholder = "NAME",
                 .help = "network: " + network_names(),
                 .preset = always ? "" : "what the weights say",
                 .required = always,
                 .kept = Option::Kept::fixed},
                settings.net);
  arguments.add({.name = "dense-units",
                 .help = "of the dense layer before the logit, which tuning may have changed",
                 .preset = preset(named, settings.dense_units),
                 .kept = Option::Kept::fixed},
                settings.dense_units, {1, 65536});
}

void add_preprocess(Arguments& arguments, Settings& settings, Named named) {
  arguments.add({.name = "preprocess",
                 .help = "paper: x / 255 for every network; native: what its published base was trained on (b2, b6, "
                         "p4m_densenet: x / 255 too)",
                 .preset = preset(named, settings.preprocess),
                 .kept = Option::Kept::fixed},
                settings.preprocess, {"paper", "native"});
}

void add_tta(Arguments& arguments, std::string& tta, Option::Kept kept) {
  arguments.add({.name = "tta",
                 .help = "d4: score each image in the eight symmetries of the square, and average the probabilities",
                 .kept = kept},
                tta, {"none", "d4"});
}

void add_data(Arguments& arguments, Settings& settings, Named named) {
  arguments.add({.name = "data", .placeholder = "DIR", .help = layouts(), .required = true, .kept = Option::Kept::free},
                settings.data);
  add_split(arguments, settings, named);
}

void add_split(Arguments& arguments, Settings& settings, Named named) {
  arguments.add({.name = "split-by",
                 .help = "where the data name no splits: keep each patient's patches together, or deal single patches",
                 .preset = preset(named, settings.split_by),
                 .kept = Option::Kept::fixed},
                settings.split_by, {"patient", "patch"});
  arguments.add({.name = "split-seed",
                 .help = "which patients, or patches, go to which split there",
                 .preset = preset(named, settings.split_seed),
                 .kept = Option::Kept::fixed},
                settings.split_seed);
}

void add_judged_batch(Arguments& arguments, Settings& settings) {
  arguments.add({.name = "batch-size",
                 .letter = 'b',
                 .help = "images at a time",
                 .unit = "images",
                 .preset = preset(Named::unless_weights_say, settings.batch_size)},
                settings.batch_size, {1, 65536});
}

void add_machine(Arguments& arguments, Settings& settings) {
  using Kept = Option::Kept;
  arguments.add({.name = "device",
                 .placeholder = "auto|cpu|cuda:N|reference",
                 .help = "auto: cuda:0 where there is a GPU, else cpu; reference: slow loops in double",
                 .kept = Kept::fixed},
                settings.device);
  arguments.add(
      {.name = "precision", .help = "of activations and products; sums and weights stay float32", .kept = Kept::fixed},
      settings.precision, {"f32", "tf32", "bf16"});
  arguments.add_flag({.name = "deterministic",
                      .help = "the same bits in every run on this GPU: without cuDNN's engines that sum in an order of chance, "
                              "which may be the fastest. Our own kernels, and the CPU, repeat anyway",
                      .kept = Kept::fixed},
                     settings.deterministic);
  arguments.add_switch(
      {.name = "autotune",
       .help = "on: cuDNN's engines are timed for each new shape, seconds to minutes once for each GPU, and what "
               "was found is kept in MICROTOME_PLAN_CACHE or else in ~/.cache/microtome/plans.txt; off: its first "
               "choice. Nothing on the CPU",
       .kept = Kept::free},
      settings.autotune);
  arguments.add_switch({.name = "defer",
                        .help = "on: batch-norms are applied by what reads them wherever a kernel of ours does that; off: to "
                                "compare. Nothing on the CPU",
                        .kept = Kept::fixed},
                       settings.defer);
  arguments.add(
      {.name = "streams",
       .help = "streams of the GPU that a network's branches and filter gradients share; 1: one kernel after another, "
               "with the same results. Nothing on the CPU",
       .kept = Kept::free,
       .formerly = "lanes"},
      settings.streams, {1, 16});
}

void add_verbosity(Arguments& arguments, Settings& settings) {
  arguments.add_flag({.name = "quiet", .letter = 'q', .help = "errors alone on stderr"}, settings.quiet);
  arguments.add_flag({.name = "verbose", .letter = 'v', .help = "more messages on stderr"}, settings.verbose);
}

std::filesystem::path plan_cache_file() {
  if (const char* file = std::getenv("MICROTOME_PLAN_CACHE")) return file;
  const char *caches = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (caches && *caches) return std::filesystem::path(caches) / "microtome" / "plans.txt";
  if (home && *home) return std::filesystem::path(home) / ".cache" / "microtome" / "plans.txt";
  return {};
}

BackendOptions backend_options(const Settings& settings) {
  return {.deterministic = settings.deterministic,
          .autotune = settings.autotune,
          .plan_cache = plan_cache_file(),
          .defer = settings.defer,
          .streams = settings.streams};
}

std::unique_ptr<Backend> open_backend(const Settings& settings, Terminal& terminal) {
  const Precision precision = settings.precision == "bf16"   ? Precision::bf16
                              : settings.precision == "tf32" ? Precision::tf32
                                                             : Precision::f32;
  std::unique_ptr<Backend> backend = make_backend(settings.device, precision, backend_options(settings));
  const Device device = backend->device();
  terminal.say("device: {}, {} ({})", device.name, device.description, device.versions);
  return backend;
}

LoadOptions split_options(const Settings& settings) {
  return {.split_by = settings.split_by == "patch" ? SplitBy::patch : SplitBy::patient, .seed = settings.split_seed};
}

LoadOptions load_options(const Settings& settings, Terminal& terminal) {
  LoadOptions options = split_options(settings);
  options.progress = [&terminal](std::string_view what, std::int64_t done, std::int64_t of) {
    terminal.progress(what, done, of);
  };
  return options;
}

Dataset open_data(const Settings& settings, Splits splits, Terminal& terminal) {
  LoadOptions options = load_options(settings, terminal);
  options.train = splits.train;
  options.valid = splits.valid;
  options.test = splits.test;
  options.deal = splits.deal;
  Dataset data = load(settings.data, options);
  terminal.clear_progress();
  const auto say = [&terminal](std::string_view name, const Images& images) {
    if (images.shape.n > 0) terminal.say("{}: {}", name, describe_images(images));
  };
  if (splits.train) say(data.split_by.empty() ? "all" : "train", data.train);
  if (splits.valid) say("valid", data.valid);
  if (splits.test) say("test", data.test);
  for (const std::string& note : data.notes) terminal.say("note: {}", note);
  return data;
}

Preprocessing preprocessing_of(const Network& network, std::string_view name) {
  return name == "native" ? network.native : Preprocessing{};
}

FitOptions fit_options(const Settings& settings, const Network& network) {
  return {.batch_size = settings.batch_size,
          .pixels = settings.pixels.value_or(preprocessing_of(network, settings.preprocess))};
}

}  // namespace microtome
