#include "data/published.h"

#include "data/digest.h"
#include "engine/check.h"

#include <algorithm>
#include <cstdlib>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view site = "https://storage.googleapis.com/tensorflow/keras-applications";

constexpr std::array table{
    PublishedWeights{"inception_v3",
                     "inception_v3",
                     {{{"inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"},
                       {"inception_v3_weights_tf_dim_ordering_tf_kernels.h5", "9a0d58056eeedaa3f26cb7ebd46da564"}}}},
    PublishedWeights{"vgg19",
                     "vgg19",
                     {{{"vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", "253f8cb515780f3b799900260a226db6"},
                       {"vgg19_weights_tf_dim_ordering_tf_kernels.h5", "cbe5617147190e668d6c5d5026f83318"}}}},
    PublishedWeights{"resnet50",
                     "resnet",
                     {{{"resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"},
                       {"resnet50_weights_tf_dim_ordering_tf_kernels.h5", "2cb95161c43110f7111970584f804107"}}}},
    PublishedWeights{"mobilenet", "mobilenet", {{{"mobilenet_1_0_224_tf_no_top.h5", ""}, {"mobilenet_1_0_224_tf.h5", ""}}}},
    PublishedWeights{"densenet121",
                     "densenet",
                     {{{"densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", "30ee3e1110167f948a6b9946edeeb738"},
                       {"densenet121_weights_tf_dim_ordering_tf_kernels.h5", "9d60b8095a5708f2dcce2bca79d332c7"}}}},
    PublishedWeights{"densenet169",
                     "densenet",
                     {{{"densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5", "b8c4d4c20dd625c148057b9ff1c1176b"},
                       {"densenet169_weights_tf_dim_ordering_tf_kernels.h5", "d699b8f76981ab1b30698df4c175e90b"}}}},
    PublishedWeights{"densenet201",
                     "densenet",
                     {{{"densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5", "c13680b51ded0fb44dff2d8f86ac8bb1"},
                       {"densenet201_weights_tf_dim_ordering_tf_kernels.h5", "1ceb130c1ea1b78c3bf6114dbdfd8807"}}}},
    PublishedWeights{"efficientnet_v2_b0",
                     "efficientnet_v2",
                     {{{"efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff"},
                       {"efficientnetv2-b0.h5", "21ecbf6da12460d5c40bb2f29ceb2188"}}}},
    PublishedWeights{"efficientnet_v2_b1",
                     "efficientnet_v2",
                     {{{"efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37"},
                       {"efficientnetv2-b1.h5", "069f0534ff22adf035c89e2d9547a9dc"}}}},
    PublishedWeights{"efficientnet_v2_b2",
                     "efficientnet_v2",
                     {{{"efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb"},
                       {"efficientnetv2-b2.h5", "424e49f28180edbde1e94797771950a7"}}}},
};

}  // namespace

std::span<const PublishedWeights> published_weights() {
  return table;
}

std::string address(const PublishedWeights& weights, const PublishedFile& file) {
  return fmt::format("{}/{}/{}", site, weights.folder, file.name);
}

fs::path keras_folder() {
  if (const char* keras = std::getenv("KERAS_HOME")) return fs::path(keras) / "models";
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "." : home) / ".keras" / "models";
}

fs::path find_published(std::string_view network, const fs::path& folder) {
  const auto found = std::ranges::find(table, network, &PublishedWeights::network);
  if (found == table.end()) {
    fail(ExitCode::usage, fmt::format("there are no ImageNet weights of {}", network),
         {.expected = "one of the ten published networks, or --weights FILE"});
  }
  return find_published(*found, folder);
}

fs::path find_published(const PublishedWeights& weights, const fs::path& folder) {
  std::error_code ignored;
  for (const PublishedFile& file : weights.files) {
    const fs::path path = folder / file.name;
    const fs::file_status status = fs::status(path, ignored);
    if (status.type() == fs::file_type::none)
      fail(ExitCode::weights, "the folder of published weights cannot be reached",
           {.where = path.string(), .found = ignored.message()});
    if (!fs::exists(status)) continue;
    const std::string digest = md5(path);
    if (!file.md5.empty() && digest != file.md5) {
      fail(ExitCode::weights, "the ImageNet weights are damaged, or not the published ones",
           {.where = path.string(),
            .expected = fmt::format("MD5 {}", file.md5),
            .found = fmt::format("MD5 {}", digest),
            .next = fmt::format("get it again from {}; weights of your own go with --weights FILE", address(weights, file))});
    }
    return path;
  }
  const PublishedFile& base = weights.files[0];
  fail(ExitCode::weights, fmt::format("the ImageNet weights of {} are missing", weights.network),
       {.where = folder.string(),
        .expected = fmt::format("{} or {}", base.name, weights.files[1].name),
        .next = fmt::format("curl --create-dirs -o {} {}", (folder / base.name).string(), address(weights, base))});
}

}  // namespace microtome
