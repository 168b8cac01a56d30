// A network with its weights as an ONNX model, for other programs to run: images N H W 3, float, 0 .. 255, RGB, to score N 1.
#pragma once

#include "engine/graph.h"

#include <filesystem>
#include <span>

namespace microtome {

/// What becomes of the pixels before the network: part of the model.
struct OnnxOptions {
  Normalize pixels{.divisor = {255, 255, 255}};
  bool bgr = false;  // the network's channel c is the image's 2 - c, mean and divisor being the network's
};

/// `weights` as Model::weights(). As in inference: no dropout, moving statistics. The file appears whole or not at all; throws
/// Error(ExitCode::memory) where the disk is full or refuses.
void write_onnx(const std::filesystem::path& file, const Graph& graph, std::span<const float> weights,
                const OnnxOptions& options = {});

}  // namespace microtome
