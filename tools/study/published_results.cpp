#include "tools/study/published_results.h"

#include <algorithm>

namespace microtome {
namespace {

constexpr PaperNetwork printed_table_1[] = {
    {"b2", 10, 9.4},
    {"b6", 28, 2.4},
    {"inception_v3", 189, 23.9},
    {"vgg19", 25, 143.7},
    {"resnet50", 107, 25.6},
    {"mobilenet", 55, 4.3},
    {"densenet121", 242, 8.1},
    {"densenet169", 338, 14.3},
    {"densenet201", 402, 20.2},
    {"efficientnet_v2_b0", 273, 7.2},
    {"efficientnet_v2_b1", 337, 8.2},
    {"efficientnet_v2_b2", 252, 10.2},
};

struct Seconds {
  std::string_view net;
  bool frozen_base;
  double k80, p100, v100, a100;
};
constexpr Seconds printed_table_2[] = {
    {"b2", false, 325, 70, 47, 26},
    {"b6", false, 562, 121, 78, 57},
    {"inception_v3", true, 468, 143, 98, 100},
    {"inception_v3", false, 1333, 393, 279, 270},
};

constexpr PaperScore printed_table_3[] = {
    {"inception_v3", "transfer", .46, .78, .88},
    {"vgg19", "transfer", .42, .80, .89},
    {"resnet50", "transfer", .52, .74, .82},
    {"mobilenet", "transfer", .46, .79, .88},
    {"densenet121", "transfer", .38, .82, .91},
    {"densenet169", "transfer", .49, .79, .90},
    {"densenet201", "transfer", .39, .82, .91},
    {"efficientnet_v2_b0", "transfer", .53, .73, .81},
    {"efficientnet_v2_b1", "transfer", .52, .74, .82},
    {"efficientnet_v2_b2", "transfer", .54, .73, .80},
    {"b2", "full", .47, .78, .85},
    {"b6", "full", .44, .84, .91},
    {"inception_v3", "full", .42, .84, .91},
    {"vgg19", "full", .43, .86, .95},
    {"resnet50", "full", .57, .82, .91},
    {"mobilenet", "full", .53, .84, .93},
    {"densenet121", "full", .76, .82, .92},
    {"densenet169", "full", .46, .83, .91},
    {"densenet201", "full", .75, .80, .88},
    {"efficientnet_v2_b0", "full", .99, .70, .84},
    {"efficientnet_v2_b1", "full", .89, .80, .92},
    {"efficientnet_v2_b2", "full", .94, .84, .93},
};

constexpr PaperScore printed_table_4[] = {
    {"vgg19", "transfer", .38, .83, .88},
    {"resnet50", "transfer", .46, .79, .82},
    {"mobilenet", "transfer", .56, .71, .66},
    {"densenet121", "transfer", .33, .85, .91},
    {"densenet169", "transfer", .35, .85, .90},
    {"densenet201", "transfer", .34, .82, .91},
    {"efficientnet_v2_b0", "transfer", .48, .78, .81},
    {"efficientnet_v2_b1", "transfer", .49, .79, .81},
    {"efficientnet_v2_b2", "transfer", .52, .75, .75},
    {"b2", "full", .31, .86, .92},
    {"b6", "full", .28, .87, .94},
    {"vgg19", "full", .25, .90, .95},
    {"resnet50", "full", .28, .88, .93},
    {"mobilenet", "full", .26, .89, .95},
    {"densenet121", "full", .27, .88, .94},
    {"efficientnet_v2_b2", "full", .28, .88, .94},
    {"densenet201", "full", .31, .88, .93},
    {"efficientnet_v2_b0", "full", .35, .86, .92},
    {"efficientnet_v2_b1", "full", .43, .84, .91},
    {"densenet169", "full", .35, .85, .90},
};

}  // namespace

std::span<const PaperNetwork> paper_networks() {
  return printed_table_1;
}

const PaperNetwork* paper_network(std::string_view net) {
  const auto found =
      std::find_if(std::begin(printed_table_1), std::end(printed_table_1), [&](const PaperNetwork& n) { return n.net == net; });
  return found == std::end(printed_table_1) ? nullptr : found;
}

std::optional<double> study_seconds(std::string_view net, bool frozen_base, std::string_view gpu) {
  for (const Seconds& row : printed_table_2) {
    if (row.net != net || row.frozen_base != frozen_base) continue;
    if (gpu == "K80") return row.k80;
    if (gpu == "P100") return row.p100;
    if (gpu == "V100") return row.v100;
    if (gpu == "A100") return row.a100;
  }
  return std::nullopt;
}

std::span<const PaperScore> paper_scores(std::string_view data) {
  if (data == "pcam") return printed_table_3;
  if (data == "idc") return printed_table_4;
  return {};
}

}  // namespace microtome
