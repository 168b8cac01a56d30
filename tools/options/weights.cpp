#include "tools/options/weights.h"

#include "engine/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

namespace microtome {
namespace {

/// The value of a line `name = value` of a checkpoint's options, without quotes; empty: there is none.
std::string option_in(std::string_view options, std::string_view name) {
  for (std::size_t begin = 0; begin < options.size();) {
    const std::size_t end = std::min(options.find('\n', begin), options.size());
    std::string_view line = options.substr(begin, end - begin);
    begin = end + 1;
    if (!line.starts_with(name) || !line.substr(name.size()).starts_with(" = ")) continue;
    line.remove_prefix(name.size() + 3);
    if (line.size() >= 2 && line.front() == '"' && line.back() == '"') line = line.substr(1, line.size() - 2);
    return std::string(line);
  }
  return {};
}

template <class T>
T number_in(std::string_view options, std::string_view name, T otherwise) {
  const std::string text = option_in(options, name);
  T value = otherwise;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && stop == text.data() + text.size() ? value : otherwise;
}

/// Checkpoints of version 1 hold the run's options alone.
std::optional<Provenance> from_options(const CheckpointInfo& info) {
  if (info.options.empty()) return {};
  Provenance p{.network = info.network, .image = info.image, .commit = info.commit};
  p.dense_units = number_in(info.options, "dense-units", p.dense_units);
  p.batch_size = number_in(info.options, "batch-size", p.batch_size);
  p.split_seed = number_in(info.options, "split-seed", p.split_seed);
  p.split_by = option_in(info.options, "split-by");
  p.preprocess = option_in(info.options, "preprocess");
  p.mode = option_in(info.options, "mode");
  if (p.preprocess == "native") p.pixels = find_network(p.network).native;
  return p;
}

/// Whether the graph is what a provenance tells of, but for images of a size that its dense layers do not take.
bool differs_by_size(const Provenance& provenance, const Network& network, const Graph& graph, Extent image) {
  if (provenance.network != network.name || provenance.image == image || provenance.head != "study") return false;
  const auto parameters = [&](Extent size) {
    return network.build(size, Head::study, provenance.dense_units).parameter_count();
  };
  return parameters(image) == graph.parameter_count() && parameters(provenance.image) != graph.parameter_count();
}

/// What to throw where a dense layer has the size of other images than these.
[[noreturn]] void fail_size(const Provenance& provenance, Extent image, const Error& misfit) {
  const std::string trained = fmt::format("{}x{}", provenance.image.h, provenance.image.w);
  fail(ExitCode::weights, fmt::format("the weights of {} are for images of another size", provenance.network),
       {.where = misfit.report().where,
        .expected = "images of " + trained,
        .found = fmt::format("{}x{}", image.h, image.w),
        .next = fmt::format("take images of {}; predict pads smaller PNG files to it with white", trained)});
}

/// One setting: the command line's where it says one, else the weights'.
template <class T>
void take(std::string_view option, const T& trained, const Arguments& arguments, T& setting, Terminal& terminal) {
  if (!arguments.given(option)) {
    setting = trained;
  } else if (setting != trained) {
    terminal.say("note: --{} {} overrides {}, as the weights were trained", option, setting, trained);
  }
}

}  // namespace

TrainedWeights::TrainedWeights(std::filesystem::path file) : file_(std::move(file)) {
  if (!is_checkpoint(file_)) {
    WeightFile keras = open_weights(file_);
    provenance_ = keras.provenance;
    content_ = std::move(keras);
    return;
  }
  Checkpoint checkpoint = read_checkpoint(file_);
  provenance_ = checkpoint.info.provenance ? checkpoint.info.provenance : from_options(checkpoint.info);
  content_ = std::move(checkpoint);
}

std::vector<float> TrainedWeights::values(const Network& network, const Graph& graph, Extent image, Terminal& terminal,
                                          std::span<const float> initial) const {
  const auto say = [&](const std::string& note) { terminal.say("note: {}: {}", file_.string(), note); };
  if (const Checkpoint* run = checkpoint()) {
    require_network(*run, file_, network.name, image, graph.parameter_count());
    if (const std::string note = run->statistics_note(graph); !note.empty()) say(note);
    return run->judged_weights(graph);
  }
  try {
    LoadedWeights loaded = fit_weights(*keras(), graph, initial);
    for (const std::string& note : loaded.notes) say(note);
    return std::move(loaded.values);
  } catch (const UnsoundWeights&) {
    throw;
  } catch (const Error& error) {
    if (error.code() != ExitCode::weights) throw;
    if (provenance_ && differs_by_size(*provenance_, network, graph, image)) fail_size(*provenance_, image, error);
    if (!says(provenance_, network, graph, image)) throw;
    fail_contradiction(*provenance_, error);
  }
}

bool says(const std::optional<Provenance>& provenance, const Network& network, const Graph& graph, Extent image) {
  if (!provenance || provenance->network != network.name || provenance->image != image || provenance->head != "study")
    return false;
  return network.build(image, Head::study, provenance->dense_units).parameter_count() == graph.parameter_count();
}

void fail_contradiction(const Provenance& provenance, const Error& misfit) {
  fail(ExitCode::weights, "a file's weights are not of the network that it says",
       {.where = misfit.report().where,
        .expected = fmt::format("{}: {}", describe(provenance), misfit.report().expected),
        .found = misfit.report().found,
        .next = "take another copy of the file, or train anew"});
}

void add_weights(Arguments& arguments, Settings& settings) {
  arguments.add(
      {.name = "weights", .placeholder = "FILE", .help = "Keras' .h5 or .weights.h5, or a checkpoint", .required = true},
      settings.weights);
}

void take_over(const TrainedWeights& weights, const Arguments& arguments, Settings& settings, Terminal& terminal) {
  if (arguments.given("net")) settings.net = find_network(settings.net).name;
  const std::string file = weights.file().string();
  if (!weights.provenance()) {
    if (settings.net.empty())
      fail(ExitCode::usage, "--net is missing, and the weights do not say it",
           {.where = file, .expected = "--net NAME: " + network_names(), .found = "a file without provenance: not of ours"});
    terminal.say("note: {} does not say how it was trained: taken for {} with {} dense units, {} preprocessing{}", file,
                 settings.net, settings.dense_units, settings.preprocess,
                 settings.data.empty() || settings.split_by.empty()
                     ? ""
                     : fmt::format(", a split by {} with seed {}", settings.split_by, settings.split_seed));
    return;
  }
  const Provenance& trained = *weights.provenance();
  terminal.say("weights: {}", describe(trained));
  take("net", trained.network, arguments, settings.net, terminal);
  take("dense-units", trained.dense_units, arguments, settings.dense_units, terminal);
  if (!arguments.given("batch-size")) settings.batch_size = trained.batch_size;
  if (trained.preprocess.empty()) {
    terminal.say("note: {} does not say what was made of pixels: {} preprocessing is taken", file, settings.preprocess);
  } else {
    take("preprocess", trained.preprocess, arguments, settings.preprocess, terminal);
    if (settings.preprocess == trained.preprocess) settings.pixels = trained.pixels;
  }
  if (trained.split_by == "patient" || trained.split_by == "patch")
    take("split-by", trained.split_by, arguments, settings.split_by, terminal);
  if (!trained.split_by.empty()) take("split-seed", trained.split_seed, arguments, settings.split_seed, terminal);
}

Graph as_validated(const TrainedWeights& weights, const Settings& settings, const Network& network, Extent image) {
  Graph graph = network.build(image, Head::study, settings.dense_units);
  if (weights.provenance() && weights.provenance()->mode == "transfer" && graph.features() >= 0) graph.freeze_base();
  return graph;
}

void compare_size(const TrainedWeights& weights, Extent image, Terminal& terminal) {
  if (!weights.provenance()) return;
  const Extent trained = weights.provenance()->trained_size(), converted = weights.provenance()->image;
  if (trained == image) return;
  terminal.say("note: the images are {}x{}; the weights were trained on {}x{}{}", image.h, image.w, trained.h, trained.w,
               converted == trained ? "" : fmt::format(", and converted for {}x{}", converted.h, converted.w));
}

Overlap say_overlap(const Provenance& provenance, const Images& images, std::string_view what, Terminal& terminal) {
  const Overlap found = overlap(provenance, images);
  if (found.images > 0)
    terminal.say("note: of the {} images of {} the weights have learned from {}: figures on these are too good",
                 with_separators(images.shape.n), what, with_separators(found.images));
  if (found.groups > 0)
    terminal.say("note: {} patients or slides of {}, with {} images, bear names of those that the weights have learned from",
                 found.groups, what, with_separators(found.group_images));
  return found;
}

}  // namespace microtome
