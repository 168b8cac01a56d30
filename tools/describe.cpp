// A network as the paper's table: a row a layer, with its output, parameters, multiply-accumulates and memory.
#include "engine/check.h"
#include "nets/nets.h"
#include "tools/cli/arguments.h"
#include "tools/cli/program.h"
#include "tools/options/common.h"
#include "tools/study/layer_counts.h"
#include "tools/study/published_results.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace microtome {
namespace {

using Json = nlohmann::ordered_json;

std::int64_t parameters_of(const Graph& graph, const Row& row) {
  std::int64_t count = 0;
  for (const int p : row.parameters) count += graph.parameters()[static_cast<std::size_t>(p)].shape.count();
  return count;
}

const Shape& output_of(const Graph& graph, const Row& row) {
  return graph.ops()[static_cast<std::size_t>(row.output)].output;
}

bool is_input(const Row& row) {
  return row.kind == "input_layer";
}

Json parameter_counts(const Graph& graph) {
  const std::int64_t total = graph.parameter_count(), trainable = graph.parameter_count(true);
  return {{"total", total}, {"trainable", trainable}, {"non_trainable", total - trainable}};
}

/// What one image's activations take in float32, every row's output counted once.
std::int64_t activation_bytes(const Graph& graph) {
  std::int64_t elements = 0;
  for (const Row& row : graph.rows()) elements += output_of(graph, row).count();
  return 4 * elements;
}

Json to_json(const Network& network, Extent image, Head head) {
  const Graph graph = network.build(image, head);
  const LayerCounts layers = count_layers(network, graph);
  return {{"net", network.name},
          {"input", {image.h, image.w, 3}},
          {"parameters", parameter_counts(graph)},
          {"macs", graph.macs()},
          {"layers",
           {{"keras_layers", layers.keras_layers},
            {"weight_layers", layers.weight_layers},
            {"longest_path", layers.longest_path}}}};
}

/// In Keras' order of layers, that of its summaries and weight files.
Json rows_to_json(const Graph& graph) {
  Json rows = Json::array();
  for (const int index : keras_order(graph)) {
    const Row& row = graph.rows()[static_cast<std::size_t>(index)];
    if (is_input(row)) continue;
    Json weights = Json::object();
    for (const int p : row.parameters) {
      const Parameter& parameter = graph.parameters()[static_cast<std::size_t>(p)];
      weights[parameter.name] = parameter.keras_shape;
    }
    const Shape& y = output_of(graph, row);
    rows.push_back({{"name", row.name},
                    {"kind", row.kind},
                    {"output", {y.h, y.w, y.c}},
                    {"parameters", parameters_of(graph, row)},
                    {"macs", graph.macs(index)},
                    {"weights", weights}});
  }
  return rows;
}

void print_rows(const Network& network, Extent image, Head head) {
  const Graph graph = network.build(image, head);
  fmt::print("{}: {}, input {}x{}x3\n\n", network.name, network.title, image.h, image.w);
  fmt::print("{:<28} {:<26} {:>14} {:>12} {:>14} {:>12}\n", "row", "kind", "output", "parameters", "MACs", "activation");
  for (const int index : keras_order(graph)) {
    const Row& row = graph.rows()[static_cast<std::size_t>(index)];
    const Shape& y = output_of(graph, row);
    fmt::print("{:<28} {:<26} {:>14} {:>12} {:>14} {:>12}\n", row.name, row.kind, fmt::format("{}x{}x{}", y.h, y.w, y.c),
               with_separators(parameters_of(graph, row)), with_separators(graph.macs(index)),
               size_text(4 * static_cast<std::size_t>(y.count())));
  }
  const std::int64_t total = graph.parameter_count(), trainable = graph.parameter_count(true);
  fmt::print("\n{} parameters, {} of them trainable; {} MACs and {} of float32 activations an image\n", with_separators(total),
             with_separators(trainable), with_separators(graph.macs()),
             size_text(static_cast<std::size_t>(activation_bytes(graph))));
}

/// What a network is at one size, or a dash where it is too small for it.
struct Cost {
  std::string macs = "-", activations = "-";

  Cost(const Network& network, Extent image) {
    try {
      const Graph graph = network.build(image);
      macs = with_separators(graph.macs());
      activations = size_text(static_cast<std::size_t>(activation_bytes(graph)));
    } catch (const Error&) {
    }
  }
};

void print_table() {
  const auto millions = [](std::int64_t count) { return fmt::format("{:.2f} M", static_cast<double>(count) * 1e-6); };
  fmt::print(
      "The study's Table 1, corrected. Depth as printed mixes two rules: layers of the trained model, as Keras counts them "
      "(b2, b6,\n"
      "vgg19, efficientnet_v2), and layers with weights of the 1000-class model (the others); 252 should be 352. Parameters "
      "as\n"
      "printed are those of the 1000-class models; trained were the ones in the last column, at 96x96.\n\n");
  fmt::print("{:<19} | {:>7} | {:>7} {:>8} {:>8} | {:>7} | {:>9} {:>9} {:>14} {:>14}\n", "", "depth", "Keras", "with",
             "longest", "printed", "1000", "base", "trained,", "trained,");
  fmt::print("{:<19} | {:>7} | {:>7} {:>8} {:>8} | {:>7} | {:>9} {:>9} {:>14} {:>14}\n", "network", "printed", "layers",
             "weights", "path", "params", "classes", "", "full", "transfer");
  for (const Network& network : networks()) {
    const Graph trained = network.build(96);
    const LayerCounts layers = count_layers(network, trained);
    const PaperNetwork* printed = paper_network(network.name);
    int with_weights = layers.weight_layers, path = layers.longest_path;
    std::string classes = "-", base = "-", transfer = "-";
    if (network.top) {
      const Graph top = network.build(network.published_size, Head::imagenet);
      const LayerCounts top_layers = count_layers(network, top);
      with_weights = top_layers.weight_layers, path = top_layers.longest_path;
      classes = millions(top.parameter_count());
      base = millions(network.build(96, Head::none).parameter_count());
      Graph frozen_base = network.build(96);
      frozen_base.freeze_base();
      transfer = with_separators(frozen_base.parameter_count(true));
    }
    fmt::print("{:<19} | {:>7} | {:>7} {:>8} {:>8} | {:>7} | {:>9} {:>9} {:>14} {:>14}\n", network.name,
               printed ? fmt::format("{}", printed->depth) : "-", layers.keras_layers, with_weights, path,
               printed ? fmt::format("{} M", printed->parameters) : "-", classes, base,
               with_separators(trained.parameter_count()), transfer);
  }
  fmt::print(
      "\nKeras layers: of the trained model. With weights, longest path: of the 1000-class model where there is one; the "
      "longest path\n"
      "counts convolutions and dense layers, as the networks' names do.\n\n");
  fmt::print("{:<19} | {:>15} {:>15} | {:>12} {:>12}\n", "one image, study's", "MACs", "MACs", "activations", "activations");
  fmt::print("{:<19} | {:>15} {:>15} | {:>12} {:>12}\n", "head", "96x96", "50x50", "96x96, f32", "50x50, f32");
  for (const Network& network : networks()) {
    const Cost large(network, 96), small(network, 50);
    fmt::print("{:<19} | {:>15} {:>15} | {:>12} {:>12}\n", network.name, large.macs, small.macs, large.activations,
               small.activations);
  }
}

/// A row a network at this size; those that cannot be built at it are left out, with a line on stderr.
Json all_to_json(Extent image, Head head) {
  Json list = Json::array();
  for (const Network& network : networks()) {
    if (head != Head::study && !network.top) continue;
    try {
      list.push_back(to_json(network, image, head));
    } catch (const Error& error) {
      fmt::print(stderr, "describe: {} is left out: {}\n", network.name, error.what());
    }
  }
  return list;
}

int describe(int argc, char** argv) {
  std::string net, head_name = "study";
  int size = 0;
  bool all = false, json = false;
  Arguments arguments("describe", "Show a network as the paper's table, or all of them.", "--net NAME | --all [options]",
                      {"describe --net resnet50", "describe --net vgg19 --head imagenet", "describe --net b2 --size 50 --json",
                       "describe --all"});
  arguments.add({.name = "net", .placeholder = "NAME", .help = "network: " + network_names()}, net);
  arguments.add_flag({.name = "all", .help = "the study's Table 1, corrected, and what each network costs"}, all);
  arguments.add(
      {.name = "size",
       .help = "side of the square input; PCam's patches have 96, IDC's 50. 0: 96, or with --head imagenet the side that "
               "the network was published for",
       .unit = "pixels"},
      size, {0, 4096});
  arguments.add({.name = "head", .help = "study: as trained here; imagenet: the published 1000 classes; none: the base alone"},
                head_name, {"study", "imagenet", "none"});
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, json);
  if (!arguments.parse(argc, argv)) return 0;
  if (net.empty() != all) {
    fail(ExitCode::usage, net.empty() ? "--net is missing" : "--net and --all exclude each other",
         {.next = "describe --net b6, or describe --all"});
  }
  const Head head = head_name == "study" ? Head::study : head_name == "imagenet" ? Head::imagenet : Head::none;
  if (all) {
    if (json) {
      fmt::print("{}\n", all_to_json(size > 0 ? size : 96, head).dump(2));
    } else {
      print_table();
    }
    return 0;
  }
  const Network& network = find_network(net);
  const Extent image(size > 0 ? size : head == Head::imagenet ? network.published_size : 96);
  if (json) {
    Json document = to_json(network, image, head);
    document["rows"] = rows_to_json(network.build(image, head));
    fmt::print("{}\n", document.dump(2));
  } else {
    print_rows(network, image, head);
  }
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("describe", [&] { return microtome::describe(argc, argv); });
}
