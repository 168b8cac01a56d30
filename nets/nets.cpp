#include "nets/nets.h"

#include "engine/check.h"
#include "engine/nearest.h"
#include "layers/dense.h"
#include "layers/pool.h"

#include <fmt/ranges.h>

#include <array>
#include <string>
#include <vector>

namespace microtome {
namespace {

constexpr Preprocessing tf{{127.5f, 127.5f, 127.5f}, {127.5f, 127.5f, 127.5f}};
constexpr Preprocessing caffe{{103.939f, 116.779f, 123.68f}, {1, 1, 1}, true};
constexpr Preprocessing torch{{123.675f, 116.28f, 103.53f}, {58.395f, 57.12f, 57.375f}};
constexpr Preprocessing inside{{0, 0, 0}, {1, 1, 1}};

constexpr std::array table{
    Network{.name = "b2", .short_name = "b2", .title = "two convolutions [Bonnet2021]", .whole = b2},
    Network{.name = "b6", .short_name = "b6", .title = "six convolutions [Bonnet2021]", .whole = b6},
    Network{"inception_v3", "iv3", "InceptionV3 [Szegedy2016]", inception_v3, inception_v3_top, 299, tf},
    Network{"vgg19", "vgg19", "VGG19 [Simonyan2014]", vgg19, vgg19_top, 224, caffe},
    Network{"resnet50", "rn50", "ResNet50 [He2016]", resnet50, resnet50_top, 224, caffe},
    Network{"mobilenet", "mn", "MobileNet [Howard2017]", mobilenet, mobilenet_top, 224, tf},
    Network{"densenet121", "dn121", "DenseNet121 [Huang2017]", densenet121, densenet_top, 224, torch},
    Network{"densenet169", "dn169", "DenseNet169 [Huang2017]", densenet169, densenet_top, 224, torch},
    Network{"densenet201", "dn201", "DenseNet201 [Huang2017]", densenet201, densenet_top, 224, torch},
    Network{"efficientnet_v2_b0", "enb0", "EfficientNetV2-B0 [Tan2021]", efficientnet_v2_b0, efficientnet_v2_top, 224, inside},
    Network{"efficientnet_v2_b1", "enb1", "EfficientNetV2-B1 [Tan2021]", efficientnet_v2_b1, efficientnet_v2_top, 240, inside},
    Network{"efficientnet_v2_b2", "enb2", "EfficientNetV2-B2 [Tan2021]", efficientnet_v2_b2, efficientnet_v2_top, 260, inside},
    Network{.name = "p4m_densenet", .short_name = "p4m", .title = "P4M-DenseNet [Veeling2018]", .whole = p4m_densenet},
};

std::string_view name_of(Head head) {
  switch (head) {
    case Head::study: return "study";
    case Head::imagenet: return "imagenet";
    case Head::none: return "none";
  }
  return "?";
}

Node study_head(Node x, int dense_units) {  // [Bonnet2021, sec. 2.3]
  const Node pooled = x | global_average_pool();
  x.graph->features(pooled);
  return pooled | dense(dense_units, {.activation = Activation::relu}) | logit();
}

Node record(Graph& graph, const Network& network, Extent image, Head head, int dense_units) {
  if (network.whole) return network.whole(graph.input(image), dense_units);
  const Node y = network.base(graph.input(image));
  if (head == Head::none) return y;
  return head == Head::study ? study_head(y, dense_units) : network.top(y);
}

/// The smallest square image that gets through the network. Every one does that is large enough.
int smallest_side(const Network& network, Head head, int dense_units) {
  for (int side = 1;; ++side) {
    try {
      Graph graph;
      record(graph, network, side, head, dense_units);
      return side;
    } catch (const Error&) {
    }
  }
}

}  // namespace

Graph Network::build(Extent image, Head head, int dense_units) const {
  if (whole && head != Head::study)
    fail(ExitCode::usage, fmt::format("{} has no head \"{}\"", name, name_of(head)),
         {.expected = fmt::format("\"study\": {} is whole, none of its rows was published apart", name)});
  Graph graph;
  try {
    graph.output(record(graph, *this, image, head, dense_units));
  } catch (Error& error) {
    error.within(fmt::format("network {} at {}x{}", name, image.h, image.w));
    if (error.code() != ExitCode::usage) throw;
    Report report = error.report();
    const int side = smallest_side(*this, head, dense_units);
    report.expected += fmt::format(", from images of at least {}x{}", side, side);
    throw Error(error.code(), error.what(), report, error.at());
  }
  return graph;
}

std::span<const Network> networks() {
  return table;
}

const Network& find_network(std::string_view name) {
  std::vector<std::string> names;
  for (const Network& network : table) {
    if (network.name == name || network.short_name == name) return network;
    names.emplace_back(network.name);
  }
  const std::string near = nearest(name, names);
  fail(ExitCode::usage, fmt::format("there is no network \"{}\"", name),
       {.expected = fmt::to_string(fmt::join(names, ", ")), .next = near.empty() ? "" : fmt::format("did you mean {}?", near)});
}

}  // namespace microtome
