// The table of the study's networks [Bonnet2021, Table 1], and a thirteenth to which it points.
#pragma once

#include "engine/graph.h"
#include "engine/preprocessing.h"

#include <span>
#include <string_view>

namespace microtome {

/// What follows the base: the study's global average pooling, dense 256, dense 1 [Bonnet2021, sec. 2.3]; the published classes
/// of ImageNet; nothing. b2, b6 and p4m_densenet are whole, and have the study's or their own alone.
enum class Head { study, imagenet, none };

struct Network {
  std::string_view name;                 // "resnet50"
  std::string_view short_name;           // the paper's: "rn50"
  std::string_view title;                // "ResNet50 [He2016]"
  Node (*base)(Node image) = nullptr;    // none of those that are `whole`
  Node (*top)(Node features) = nullptr;  // the published head, on the base's last rows; likewise
  int published_size = 96;               // side of the images that the top was made for
  Preprocessing native = {};             // what the published base was trained on
  Node (*whole)(Node image, int dense_units) = nullptr;

  /// Records the network for images of this size. One that is too small fails at the guilty row and says which size would do; a
  /// head that the network does not have is Error(ExitCode::usage).
  /// `dense_units`: of the layer before the study's logit; 256 in the study, but where it tuned them [Bonnet2021].
  Graph build(Extent image, Head head = Head::study, int dense_units = 256) const;
};

std::span<const Network> networks();

/// By name or short name, else Error(ExitCode::usage) that names the nearest.
const Network& find_network(std::string_view name);

Node b2(Node image, int dense_units);
Node b6(Node image, int dense_units);
Node inception_v3(Node image);
Node vgg19(Node image);
Node resnet50(Node image);
Node mobilenet(Node image);
Node densenet121(Node image);
Node densenet169(Node image);
Node densenet201(Node image);
Node efficientnet_v2_b0(Node image);
Node efficientnet_v2_b1(Node image);
Node efficientnet_v2_b2(Node image);
Node p4m_densenet(Node image, int dense_units);

Node inception_v3_top(Node features);
Node vgg19_top(Node features);
Node resnet50_top(Node features);
Node mobilenet_top(Node features);
Node densenet_top(Node features);
Node efficientnet_v2_top(Node features);

}  // namespace microtome
