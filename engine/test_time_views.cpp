#include "engine/test_time_views.h"

#include "engine/check.h"

#include <algorithm>
#include <utility>

namespace microtome {

Images d4_view(const Images& images, int view) {
  require(view >= 0 && view < view_count, "d4: no view ", view);
  const int n = images.shape.h;
  if (images.shape.w != n) {
    fail(ExitCode::data, "only square images have eight symmetries",
         {.expected = "as many rows as columns",
          .found = fmt::format("{} x {}", images.shape.h, images.shape.w),
          .next = "leave out --tta d4"});
  }
  Images turned;
  turned.shape = images.shape;
  turned.pixels.resize(images.pixels.size());
  std::vector<std::size_t> source;  // of each pixel within its image
  for (int r = 0; r < n; ++r) {
    for (int c = 0; c < n; ++c) {
      int row = r, column = c;
      for (int quarter = 0; quarter < view % 4; ++quarter) row = std::exchange(column, n - 1 - row);
      if (view >= 4) column = n - 1 - column;
      source.push_back(3 * static_cast<std::size_t>(row * n + column));
    }
  }
  const std::uint8_t* from = images.pixels.data();
  std::uint8_t* to = turned.pixels.data();
  for (int i = 0; i < images.shape.n; ++i, from += 3 * source.size()) {
    for (const std::size_t pixel : source) to = std::copy_n(from + pixel, 3, to);
  }
  return turned;
}

std::vector<float> evaluate_views(Model& model, const Images& images, const FitOptions& options,
                                  const std::function<void(int done, int of)>& progress) {
  std::vector<double> sums(static_cast<std::size_t>(images.shape.n));
  for (int view = 0; view < view_count; ++view) {
    const Evaluation evaluation = evaluate(model, d4_view(images, view), options, [&](int done, int of) {
      if (progress) progress(view * of + done, view_count * of);
    });
    std::ranges::transform(sums, evaluation.scores, sums.begin(), std::plus<>());
  }
  std::vector<float> means;
  for (const double sum : sums) means.push_back(static_cast<float>(sum / view_count));
  return means;
}

}  // namespace microtome
