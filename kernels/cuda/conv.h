// Convolutions as cuDNN graphs. Apart from conv.cpp only the test asks for these: what plans exist for a device that is not
// there.
#pragma once

#include "engine/backend.h"
#include "kernels/cuda/vendor/plans.h"

#include <memory>

namespace microtome::cuda {

enum class ConvPass { forward, backward_data, backward_filter };

/// Tensors of a graph are handed over under these numbers. In the backward passes x and y mean their gradients where it is
/// these that are read or written.
enum ConvArgument : std::int64_t { conv_x = 1, conv_w, conv_b, conv_y, conv_one, conv_before };

struct ConvProblem {
  Conv conv;  // the forward graph holds its bias and activation, the others ignore them
  Layout x, y;
  Precision precision = Precision::f32;
  ConvPass pass = ConvPass::forward;
  std::int64_t alignment = 16;  // bytes, of all addresses
  bool adds = false;            // backward data: dx = what was there (conv_before, packed) + the gradient, rounded once
};

Problem problem_of(const ConvProblem& problem, bool deterministic);

/// A problem, then the alternatives to it for what cuDNN does not take: its x and y under other layouts, without bias and
/// activation, or not adding. All round their result once. Before it stands the problem with 8 channels, if x's memory has so
/// many.
std::vector<ConvProblem> alternatives(const ConvProblem& wanted);

std::unique_ptr<ConvOp> make_conv(Context&, Plans&, const Conv&, const Layout& x, const Layout& y);

}  // namespace microtome::cuda
