// Weights from one file's form into another's: Keras' two layouts, our checkpoint; a whole model as ONNX.
#include "data/checkpoint.h"
#include "data/onnx.h"
#include "data/weights.h"
#include "engine/check.h"
#include "nets/nets.h"
#include "tools/cli/arguments.h"
#include "tools/cli/program.h"
#include "tools/cli/terminal.h"
#include "tools/options/common.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

namespace microtome {
namespace {

namespace fs = std::filesystem;

enum class Form { keras, checkpoint, onnx };

Form form_of(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name.ends_with(".h5")) return Form::keras;
  if (name.ends_with(".checkpoint")) return Form::checkpoint;
  if (name.ends_with(".onnx")) return Form::onnx;
  fail(ExitCode::usage, "the ending does not tell what to write",
       {.where = file.string(), .expected = ".h5, .weights.h5, .checkpoint or .onnx", .found = file.extension().string()});
}

/// What a file holds.
struct Weights {
  const Network* network;
  Head head;
  Extent image;
  Graph graph;
  std::vector<float> values;
  std::vector<std::string> notes;
};

std::string_view name_of(Head head) {
  return head == Head::study      ? "with the study's head"
         : head == Head::imagenet ? "with ImageNet's 1000 classes"
                                  : "without a head";
}

/// The first network, head and image size that the file fits. Sizes matter to b2 and b6 alone: theirs are PCam's and IDC's.
Weights fit_network(const WeightFile& file, const std::string& net, std::optional<Extent> size) {
  const std::vector<Extent> sizes = size ? std::vector<Extent>{*size} : std::vector<Extent>{96, 50};
  std::optional<Error> reason;
  for (const Network& network : networks()) {
    if (!net.empty() && &network != &find_network(net)) continue;
    for (const Head head : {Head::study, Head::imagenet, Head::none}) {
      for (const Extent image : head == Head::imagenet && !size ? std::vector<Extent>{network.published_size} : sizes) {
        try {
          Graph graph = network.build(image, head);
          LoadedWeights loaded = fit_weights(file, graph);
          return {&network, head, image, std::move(graph), std::move(loaded.values), std::move(loaded.notes)};
        } catch (const Error& error) {
          if (error.code() == ExitCode::bug) throw;
          if (!reason) reason = error;
        }
      }
    }
  }
  if (!net.empty()) throw *reason;
  fail(ExitCode::weights, "the weights fit none of the networks",
       {.where = file.path.string(),
        .expected = network_names(),
        .found = file.layers.empty()
                     ? "no layers"
                     : fmt::format("{} layers with weights, the first \"{}\"", file.layers.size(), file.layers[0].name),
        .next = "give --net NAME to see where it differs, and --size of the images if that is neither 96 nor 50"});
}

Weights read(const fs::path& file, const std::string& net, std::optional<Extent> size) {
  if (!is_checkpoint(file)) return fit_network(open_weights(file), net, size);
  Checkpoint checkpoint = read_checkpoint(file);
  const Network& network = find_network(net.empty() ? checkpoint.info.network : net);
  const Extent image = size.value_or(checkpoint.info.image);
  Graph graph = network.build(image);
  require_network(checkpoint, file, network.name, image, graph.parameter_count());
  return {&network, Head::study, image, std::move(graph), checkpoint.snapshot.weights.get(), {}};
}

/// As a run has it before its first step.
void write_fresh_checkpoint(const fs::path& file, const Weights& weights) {
  Snapshot snapshot;
  snapshot.weights = weights.values;
  snapshot.first_moments = snapshot.second_moments = std::vector<float>(weights.values.size());
  write_checkpoint(file, snapshot,
                   {.network = std::string(weights.network->name),
                    .image = weights.image,
                    .parameters = weights.graph.parameter_count(),
                    .commit = std::string(commit())});
}

void write(const fs::path& file, Form form, const Weights& weights, bool native) {
  if (form == Form::keras) return write_weights(file, weights.graph, weights.values);
  if (weights.head != Head::study) {
    fail(ExitCode::weights, "a checkpoint and an ONNX model are of a network with the study's head",
         {.where = file.string(),
          .found = fmt::format("{} {}", weights.network->name, name_of(weights.head)),
          .next = "train --weights takes the Keras file as it is, and adds a head"});
  }
  if (form == Form::checkpoint) return write_fresh_checkpoint(file, weights);
  const Preprocessing pixels = native ? weights.network->native : Preprocessing{};
  write_onnx(file, weights.graph, weights.values, {.pixels = {pixels.mean, pixels.divisor}, .bgr = pixels.bgr});
}

/// What a file holds, layer by layer, and of which network it is.
void list(const fs::path& file, const std::string& net, std::optional<Extent> size) {
  if (is_checkpoint(file)) {
    const Checkpoint checkpoint = read_checkpoint(file);
    const CheckpointInfo& info = checkpoint.info;
    fmt::print("checkpoint of {}, {}x{}, {} parameters, after step {}, {} epochs done\n", info.network, info.image.h,
               info.image.w, with_separators(info.parameters), checkpoint.snapshot.state.step,
               checkpoint.snapshot.history.size());
    return;
  }
  const WeightFile weights = open_weights(file);
  std::size_t values = 0;
  for (const WeightFile::Layer& layer : weights.layers) {
    std::string shapes;
    for (const WeightFile::Tensor& tensor : layer.weights) {
      shapes += fmt::format("  {} ({})", tensor.name, fmt::join(tensor.shape, ", "));
      values += tensor.values.size();
    }
    fmt::print("{:<28}{}\n", layer.name, shapes);
  }
  fmt::print("{} layers with weights, {} values, {}\n", weights.layers.size(),
             with_separators(static_cast<std::int64_t>(values)),
             weights.layout == WeightFile::Layout::legacy ? "in Keras' legacy layout" : "in Keras 3's layout, by class");
  for (const std::string& note : weights.notes) fmt::print("note: {}\n", note);
  try {
    const Weights fitting = fit_network(weights, net, size);
    fmt::print("fits {} {}\n", fitting.network->name, name_of(fitting.head));
  } catch (const Error& error) {
    if (error.code() != ExitCode::weights) throw;
    fmt::print("{}\n", net.empty() ? "fits none of the networks" : "does not fit " + net);
  }
}

int convert(int argc, char** argv) {
  std::string in, out, net, preprocess = "paper";
  int size = 96;
  bool quiet = false;
  Arguments arguments(
      "convert", "Rewrite a network's weights in another form, told by the endings .h5, .weights.h5, .checkpoint and .onnx.",
      "IN [OUT] [options]",
      {"convert weights.h5        lists what is in it", "convert run/best.weights.h5 legacy.h5",
       "convert run/last.checkpoint keras3.weights.h5", "convert run/best.weights.h5 model.onnx --size 96"});
  arguments.add_positional(
      {.name = "in", .placeholder = "IN", .help = "Keras' .h5 or .weights.h5, or a checkpoint", .required = true}, in);
  arguments.add_positional(
      {.name = "out",
       .placeholder = "OUT",
       .help = "Keras' legacy .h5, Keras 3's .weights.h5, a .checkpoint with a fresh optimiser, or .onnx: images N H W 3, "
               "0 to 255, to score; without it, IN is listed"},
      out);
  arguments.add({.name = "net", .placeholder = "NAME", .help = "default: the one that the weights fit; of " + network_names()},
                net);
  arguments.add({.name = "size",
                 .help = "side of the square images; default: the checkpoint's, else the first of 96 and 50 that fits",
                 .unit = "pixels"},
                size, {1, 4096});
  arguments.add({.name = "preprocess", .help = "ONNX: what the model does to pixels; as in train"}, preprocess,
                {"paper", "native"});
  arguments.add_flag({.name = "quiet", .letter = 'q', .help = "errors alone on stderr"}, quiet);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();

  const std::optional<Extent> image = arguments.given("size") ? std::optional(Extent(size)) : std::nullopt;
  if (out.empty()) {
    list(in, net, image);
    return 0;
  }
  Terminal terminal(quiet ? Verbosity::quiet : Verbosity::normal);
  const Form form = form_of(out);
  const Weights weights = read(in, net, image);
  for (const std::string& note : weights.notes) terminal.say("note: {}: {}", in, note);
  write(out, form, weights, preprocess == "native");
  fmt::print("{} {}, {}x{}, {} parameters: {} -> {}\n", weights.network->name, name_of(weights.head), weights.image.h,
             weights.image.w, with_separators(weights.graph.parameter_count()), in, out);
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("convert", [&] { return microtome::convert(argc, argv); });
}
