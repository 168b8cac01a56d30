// Weights from one file's form into another's: Keras' two layouts, our checkpoint; a whole model as ONNX.
#include "data/file.h"
#include "data/onnx.h"
#include "engine/check.h"
#include "nets/nets.h"
#include "tools/cli/arguments.h"
#include "tools/cli/program.h"
#include "tools/cli/terminal.h"
#include "tools/options/common.h"
#include "tools/options/outputs.h"
#include "tools/options/weights.h"

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

OutputKind output_kind(Form form) {
  switch (form) {
    case Form::keras: return OutputKind::weights;
    case Form::checkpoint: return OutputKind::checkpoint;
    case Form::onnx: return OutputKind::onnx;
  }
  fail(ExitCode::bug, "a form of no kind");
}

/// What to take a file for; what it says of itself unless the command line does.
struct Asked {
  std::string net;
  std::optional<Extent> size;
  std::optional<int> dense_units;
};

/// What a file holds.
struct Weights {
  const Network* network;
  Head head;
  Extent image;
  int dense_units;
  Graph graph;
  std::vector<float> values;
  std::vector<std::string> notes;
  std::optional<Provenance> provenance;
};

std::string_view name_of(Head head) {
  return head == Head::study ? "study" : head == Head::imagenet ? "imagenet" : "none";
}

std::string_view title_of(Head head) {
  return head == Head::study      ? "with the study's head"
         : head == Head::imagenet ? "with ImageNet's 1000 classes"
                                  : "without a head";
}

/// Of the layer before a logit, told by the logit's kernel; the study's where there is none.
int dense_units_in(const WeightFile& file) {
  for (auto layer = file.layers.rbegin(); layer != file.layers.rend(); ++layer) {
    const std::vector<int>& shape = layer->weights[0].shape;
    if (shape.size() == 2 && shape[1] == 1) return shape[0];
  }
  return study_dense_units;
}

/// The first network, head and image size that the file fits. Sizes matter to b2 and b6 alone: theirs are PCam's and IDC's.
Weights fit_network(const WeightFile& file, const Asked& asked) {
  const std::vector<Extent> sizes = asked.size ? std::vector<Extent>{*asked.size} : std::vector<Extent>{96, 50};
  const int dense_units = asked.dense_units ? *asked.dense_units : dense_units_in(file);
  std::optional<Error> reason;
  for (const Network& network : networks()) {
    if (!asked.net.empty() && &network != &find_network(asked.net)) continue;
    for (const Head head : {Head::study, Head::imagenet, Head::none}) {
      for (const Extent image : head == Head::imagenet && !asked.size ? std::vector<Extent>{network.published_size} : sizes) {
        try {
          Graph graph = network.build(image, head, dense_units);
          LoadedWeights loaded = fit_weights(file, graph);
          return {&network, head, image, dense_units, std::move(graph), std::move(loaded.values), std::move(loaded.notes), {}};
        } catch (const UnsoundWeights&) {
          throw;
        } catch (const Error& error) {
          if (error.code() == ExitCode::bug) throw;
          if (!reason) reason = error;
        }
      }
    }
  }
  if (!asked.net.empty()) throw *reason;
  fail(ExitCode::weights, "the weights fit none of the networks",
       {.where = file.path.string(),
        .expected = network_names(),
        .found = file.layers.empty()
                     ? "no layers"
                     : fmt::format("{} layers with weights, the first \"{}\"", file.layers.size(), file.layers[0].name),
        .next = "give --net NAME to see where it differs, and --size of the images if that is neither 96 nor 50"});
}

Head head_of(const Provenance& provenance) {
  return provenance.head == "none" ? Head::none : provenance.head == "imagenet" ? Head::imagenet : Head::study;
}

/// A file that says what it is, and is that.
Weights fit_provenance(const WeightFile& file, const Asked& asked) {
  const Provenance& p = *file.provenance;
  const Network& network = find_network(asked.net.empty() ? p.network : asked.net);
  const Head head = head_of(p);
  const Extent image = asked.size.value_or(p.image);
  const int dense_units = asked.dense_units.value_or(p.dense_units);
  Graph graph = network.build(image, head, dense_units);
  try {
    LoadedWeights loaded = fit_weights(file, graph);
    return {&network, head, image, dense_units, std::move(graph), std::move(loaded.values), std::move(loaded.notes), p};
  } catch (const UnsoundWeights&) {
    throw;
  } catch (const Error& error) {
    if (error.code() != ExitCode::weights || !says(p, network, graph, image)) throw;
    fail_contradiction(p, error);
  }
}

Weights read(const TrainedWeights& file, const Asked& asked) {
  if (const WeightFile* keras = file.keras())
    return keras->provenance ? fit_provenance(*keras, asked) : fit_network(*keras, asked);
  const Checkpoint& checkpoint = *file.checkpoint();
  const std::optional<Provenance>& p = file.provenance();
  const Network& network = find_network(asked.net.empty() ? checkpoint.info.network : asked.net);
  const Extent image = asked.size.value_or(checkpoint.info.image);
  const int dense_units = asked.dense_units.value_or(p ? p->dense_units : study_dense_units);
  Weights weights{&network, Head::study, image, dense_units, network.build(image, Head::study, dense_units), {}, {}, p};
  require_network(checkpoint, file.file(), network.name, image, weights.graph.parameter_count());
  weights.values = checkpoint.judged_weights(weights.graph);
  if (std::string note = checkpoint.statistics_note(weights.graph); !note.empty()) weights.notes.push_back(std::move(note));
  return weights;
}

/// What is written with the weights: theirs, with what the command line says otherwise.
Provenance provenance_of(const Weights& weights, const std::string& preprocess) {
  Provenance p = weights.provenance.value_or(Provenance{});
  p.network = weights.network->name;
  p.head = name_of(weights.head);
  p.trained_image = weights.provenance && p.trained_size() != weights.image ? p.trained_size() : 0;
  p.image = weights.image;
  p.dense_units = weights.dense_units;
  if (preprocess.empty() || preprocess == p.preprocess) return p;
  p.preprocess = preprocess;
  p.pixels = preprocessing_of(*weights.network, preprocess);
  return p;
}

/// As a run has it before its first step.
void write_fresh_checkpoint(const fs::path& file, const Weights& weights, const Provenance& provenance) {
  Snapshot snapshot;
  snapshot.weights = weights.values;
  snapshot.first_moments = snapshot.second_moments = std::vector<float>(weights.values.size());
  snapshot.statistics = statistics_of(weights.graph, weights.values);  // the only ones there are
  write_checkpoint(file, snapshot,
                   {.network = std::string(weights.network->name),
                    .image = weights.image,
                    .parameters = weights.graph.parameter_count(),
                    .commit = std::string(commit()),
                    .provenance = provenance});
}

void write(const fs::path& file, Form form, const Weights& weights, const Provenance& provenance) {
  if (form == Form::keras) return write_weights(file, weights.graph, weights.values, provenance);
  if (weights.head != Head::study) {
    fail(ExitCode::weights, "a checkpoint and an ONNX model are of a network with the study's head",
         {.where = file.string(),
          .found = fmt::format("{} {}", weights.network->name, title_of(weights.head)),
          .next = "train --weights takes the Keras file as it is, and adds a head"});
  }
  if (form == Form::checkpoint) return write_fresh_checkpoint(file, weights, provenance);
  write_onnx(file, weights.graph, weights.values, provenance.pixels, provenance);
}

/// What a file holds, layer by layer, and of which network it is.
void list(const TrainedWeights& file, const Asked& asked) {
  if (file.provenance()) fmt::print("{}\n", describe(*file.provenance()));
  if (const Checkpoint* checkpoint = file.checkpoint()) {
    const CheckpointInfo& info = checkpoint->info;
    const std::size_t epochs = checkpoint->snapshot.history.size();
    fmt::print("checkpoint of {}, {}x{}, {} parameters, after step {}, {} done\n", info.network, info.image.h, info.image.w,
               with_separators(info.parameters), checkpoint->snapshot.state.step,
               epochs == 1 ? "1 epoch" : fmt::format("{} epochs", epochs));
    return;
  }
  const WeightFile& weights = *file.keras();
  std::size_t values = 0;
  for (const WeightFile::Layer& layer : weights.layers) {
    std::string shapes;
    for (const WeightFile::Tensor& tensor : layer.weights) {
      std::string extents;
      for (const auto extent : tensor.shape) extents += (extents.empty() ? "" : ", ") + std::to_string(extent);
      shapes += fmt::format("  {} ({})", tensor.name, extents);
      values += tensor.values.size();
    }
    fmt::print("{:<28}{}\n", layer.name, shapes);
  }
  fmt::print("{} layers with weights, {} values, {}\n", weights.layers.size(),
             with_separators(static_cast<std::int64_t>(values)),
             weights.layout == WeightFile::Layout::legacy ? "in Keras' legacy layout" : "in Keras 3's layout, by class");
  for (const std::string& note : weights.notes) fmt::print("note: {}\n", note);
  try {
    const Weights fitting = weights.provenance ? fit_provenance(weights, asked) : fit_network(weights, asked);
    fmt::print("fits {} {}\n", fitting.network->name, title_of(fitting.head));
  } catch (const UnsoundWeights&) {
    throw;
  } catch (const Error& error) {
    if (error.code() != ExitCode::weights || (weights.provenance && asked.net.empty())) throw;
    fmt::print("{}\n", asked.net.empty() ? "fits none of the networks" : "does not fit " + asked.net);
  }
}

/// What the command line says otherwise than the file, or what is assumed of a file that says nothing.
void say_differences(const Weights& weights, const Provenance& written, Form form, const std::string& in, Terminal& terminal) {
  const auto say = [&](std::string_view option, const auto& now, const auto& trained) {
    if (now != trained) terminal.say("note: --{} {} overrides {}, as the weights were trained", option, now, trained);
  };
  if (weights.provenance) {
    const Provenance& trained = *weights.provenance;
    say("net", written.network, trained.network);
    say("dense-units", written.dense_units, trained.dense_units);
    say("size", fmt::format("{}x{}", written.image.h, written.image.w),
        fmt::format("{}x{}", trained.trained_size().h, trained.trained_size().w));
    if (!trained.preprocess.empty()) say("preprocess", written.preprocess, trained.preprocess);
  }
  if (form == Form::onnx && written.preprocess.empty())
    terminal.say(
        "note: {} does not say what was made of pixels: the model divides them by 255 (--preprocess native: as the "
        "published base wants them)",
        in);
}

int convert(int argc, char** argv) {
  std::string in, out, net, preprocess;
  int size = 96, dense_units = study_dense_units;
  bool quiet = false;
  Arguments arguments(
      "convert", "Rewrite a network's weights in another form, told by the endings .h5, .weights.h5, .checkpoint and .onnx.",
      "IN [OUT] [options]",
      {"convert weights.h5        lists what is in it", "convert run/best.weights.h5 legacy.h5",
       "convert run/last.checkpoint keras3.weights.h5", "convert run/best.weights.h5 model.onnx"});
  arguments.add_positional(
      {.name = "in", .placeholder = "IN", .help = "Keras' .h5 or .weights.h5, or a checkpoint", .required = true}, in);
  arguments.add_positional(
      {.name = "out",
       .placeholder = "OUT",
       .help = "Keras' legacy .h5, Keras 3's .weights.h5, a .checkpoint with a fresh optimiser, or .onnx: images N H W 3, "
               "0 to 255, to score; without it, IN is listed"},
      out);
  arguments.add({.name = "net",
                 .placeholder = "NAME",
                 .help = "network: " + network_names(),
                 .preset = "what the file says, else what the weights fit"},
                net);
  arguments.add({.name = "size",
                 .help = "side of the square images",
                 .unit = "pixels",
                 .preset = "what the file says, else the first of 96 and 50 that fits"},
                size, {1, 4096});
  arguments.add({.name = "dense-units",
                 .help = "of the dense layer before the logit",
                 .preset = "what the file says, else what the logit's kernel tells"},
                dense_units, {1, 65536});
  arguments.add({.name = "preprocess",
                 .help = "ONNX: what the model does to pixels, as in train",
                 .preset = "what the file says, else paper"},
                preprocess, {"paper", "native"});
  arguments.add_flag({.name = "quiet", .letter = 'q', .help = "errors alone on stderr"}, quiet);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();

  Asked asked{.net = net};
  if (arguments.given("size")) asked.size = size;
  if (arguments.given("dense-units")) asked.dense_units = dense_units;
  if (out.empty()) {
    list(TrainedWeights(in), asked);
    return 0;
  }
  require_apart("OUT", out, std::array<InputFile, 1>{{{"IN", in}}});
  Terminal terminal(quiet ? Verbosity::quiet : Verbosity::normal);
  const Form form = form_of(out);
  require_replaceable("OUT", out, output_kind(form));
  const TrainedWeights file(in);
  const Weights weights = read(file, asked);
  for (const std::string& note : weights.notes) terminal.say("note: {}: {}", in, note);
  const Provenance provenance = provenance_of(weights, preprocess);
  say_differences(weights, provenance, form, in, terminal);
  write(out, form, weights, provenance);
  fmt::print("{} {}, {}x{}, {} parameters: {} -> {}\n", weights.network->name, title_of(weights.head), weights.image.h,
             weights.image.w, with_separators(weights.graph.parameter_count()), in, out);
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("convert", [&] { return microtome::convert(argc, argv); });
}
