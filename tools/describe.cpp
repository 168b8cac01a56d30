// A network as the paper's table: a row a layer, with its output, parameters, multiply-accumulates and memory.
#include "engine/check.h"
#include "nets/nets.h"
#include "tools/arguments.h"
#include "tools/program.h"
#include "tools/settings.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

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

/// The paper's "depth" counts len(model.layers) for b2 and b6, and layers with weights for others [Bonnet2021, Table 1].
Json layer_counts(const Graph& graph) {
  std::int64_t layers = 0, with_weights = 0;
  for (const Row& row : graph.rows()) {
    layers += !is_input(row);
    with_weights += !row.parameters.empty();
  }
  return {{"keras_layers", layers}, {"weight_layers", with_weights}};
}

Json to_json(const Network& network, Extent image, bool with_rows) {
  const Graph graph = network.build(image);
  const std::int64_t total = graph.parameter_count(), trainable = graph.parameter_count(true);
  Json json{{"net", network.name},
            {"input", {image.h, image.w, 3}},
            {"parameters", {{"total", total}, {"trainable", trainable}, {"non_trainable", total - trainable}}},
            {"macs", graph.macs()},
            {"layers", layer_counts(graph)}};
  if (!with_rows) return json;
  json["rows"] = Json::array();
  for (std::size_t i = 0; i < graph.rows().size(); ++i) {
    const Row& row = graph.rows()[i];
    if (is_input(row)) continue;
    Json weights = Json::object();
    for (const int p : row.parameters) {
      const Parameter& parameter = graph.parameters()[static_cast<std::size_t>(p)];
      weights[parameter.name] = parameter.keras_shape;
    }
    const Shape& y = output_of(graph, row);
    json["rows"].push_back({{"name", row.name},
                            {"kind", row.kind},
                            {"output", {y.h, y.w, y.c}},
                            {"parameters", parameters_of(graph, row)},
                            {"macs", graph.macs(static_cast<int>(i))},
                            {"weights", weights}});
  }
  return json;
}

/// What one image's activations take in float32, every row's output counted once.
std::int64_t activation_bytes(const Graph& graph) {
  std::int64_t elements = 0;
  for (const Row& row : graph.rows()) elements += output_of(graph, row).count();
  return 4 * elements;
}

void print_rows(const Network& network, Extent image) {
  const Graph graph = network.build(image);
  fmt::print("{}: {}, input {}x{}x3\n\n", network.name, network.title, image.h, image.w);
  fmt::print("{:<24} {:<22} {:>14} {:>12} {:>14} {:>12}\n", "row", "kind", "output", "parameters", "MACs", "activation");
  for (std::size_t i = 0; i < graph.rows().size(); ++i) {
    const Row& row = graph.rows()[i];
    const Shape& y = output_of(graph, row);
    fmt::print("{:<24} {:<22} {:>14} {:>12} {:>14} {:>12}\n", row.name, row.kind, fmt::format("{}x{}x{}", y.h, y.w, y.c),
               with_separators(parameters_of(graph, row)), with_separators(graph.macs(static_cast<int>(i))),
               size_text(4 * static_cast<std::size_t>(y.count())));
  }
  const std::int64_t total = graph.parameter_count(), trainable = graph.parameter_count(true);
  fmt::print("\n{} parameters, {} of them trainable; {} MACs and {} of float32 activations an image\n", with_separators(total),
             with_separators(trainable), with_separators(graph.macs()),
             size_text(static_cast<std::size_t>(activation_bytes(graph))));
}

void print_table(Extent image) {
  fmt::print("{:<20} {:>12} {:>12} {:>16} {:>12} {:>8} {:>14}\n", fmt::format("at {}x{}", image.h, image.w), "parameters",
             "trainable", "MACs", "activations", "layers", "with weights");
  for (const Network& network : networks()) {
    const Graph graph = network.build(image);
    const Json layers = layer_counts(graph);
    fmt::print("{:<20} {:>12} {:>12} {:>16} {:>12} {:>8} {:>14}\n", network.name, with_separators(graph.parameter_count()),
               with_separators(graph.parameter_count(true)), with_separators(graph.macs()),
               size_text(static_cast<std::size_t>(activation_bytes(graph))), layers["keras_layers"].get<int>(),
               layers["weight_layers"].get<int>());
  }
}

int describe(int argc, char** argv) {
  std::string net, head = "study";
  int size = 96;
  bool all = false, json = false;
  Arguments arguments("describe", "Show a network as the paper's table, or all of them.", "--net NAME | --all [options]",
                      {"describe --net b6", "describe --net b2 --size 50 --json", "describe --all"});
  arguments.add({.name = "net", .placeholder = "NAME", .help = "network: " + network_names()}, net);
  arguments.add_flag({.name = "all", .help = "a row a network"}, all);
  arguments.add({.name = "size", .help = "side of the square input; PCam's patches have 96, IDC's 50", .unit = "pixels"}, size,
                {1, 4096});
  arguments.add({.name = "head", .help = "study: as trained here; b2 and b6 have no other"}, head,
                {"study", "imagenet", "none"});
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, json);
  if (!arguments.parse(argc, argv)) return 0;
  if (net.empty() != all) {
    fail(ExitCode::usage, net.empty() ? "--net is missing" : "--net and --all exclude each other",
         {.next = "describe --net b6, or describe --all"});
  }
  if (head != "study") {
    fail(ExitCode::usage, fmt::format("{} has no {} head", all ? "b2" : net, head),
         {.expected = "--head study", .found = "--head " + head});
  }
  const Extent image(size);
  if (all) {
    Json list = Json::array();
    for (const Network& network : networks()) list.push_back(to_json(network, image, false));
    if (json) {
      fmt::print("{}\n", list.dump(2));
    } else {
      print_table(image);
    }
    return 0;
  }
  const Network& network = find_network(net);
  if (json) {
    fmt::print("{}\n", to_json(network, image, true).dump(2));
  } else {
    print_rows(network, image);
  }
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("describe", [&] { return microtome::describe(argc, argv); });
}
