// Test-time averaging: tissue has no up. A square image is scored in its eight symmetries and the probabilities are averaged,
// as is usual [Krizhevsky2012, 4.1]; a loss is then that of the averaged probability.
#pragma once

#include "engine/fit.h"

#include <functional>
#include <vector>

namespace microtome {

constexpr int view_count = 8;

/// All images turned counterclockwise by `view` % 4 quarters; mirrored before, left to right, for `view` 4 to 7. Of ids, labels
/// and groups nothing is kept. Throws Error(ExitCode::data) where they are not square.
Images d4_view(const Images& images, int view);

/// The mean of sigmoid(z) over the eight views, in file order. `progress`: batches done, of those of all views.
std::vector<float> evaluate_views(Model& model, const Images& images, const FitOptions& options,
                                  const std::function<void(int done, int of)>& progress = {});

}  // namespace microtome
