// A network with its weights as an ONNX model, for other programs to run: images N H W 3, float, 0 .. 255, RGB, to score N 1.
#pragma once

#include "data/provenance.h"
#include "engine/graph.h"

#include <filesystem>
#include <optional>
#include <span>

namespace microtome {

/// `weights` as Model::weights(). As in inference: no dropout, moving statistics. What becomes of `pixels` is part of the
/// model; `provenance`, whose digest of the tensors is made here, a property of its metadata. The file appears whole or not at
/// all; throws Error(ExitCode::memory) where the disk is full or refuses.
void write_onnx(const std::filesystem::path& file, const Graph& graph, std::span<const float> weights,
                const Preprocessing& pixels = {}, const std::optional<Provenance>& provenance = {});

}  // namespace microtome
