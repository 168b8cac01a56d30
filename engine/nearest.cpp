#include "engine/nearest.h"

#include <algorithm>

namespace microtome {

int edit_distance(std::string_view a, std::string_view b) {
  const std::size_t rows = a.size() + 1, columns = b.size() + 1;
  std::vector<int> d(rows * columns);
  const auto at = [&](std::size_t i, std::size_t j) -> int& { return d[i * columns + j]; };
  for (std::size_t i = 0; i < rows; ++i) at(i, 0) = static_cast<int>(i);
  for (std::size_t j = 0; j < columns; ++j) at(0, j) = static_cast<int>(j);
  for (std::size_t i = 1; i < rows; ++i) {
    for (std::size_t j = 1; j < columns; ++j) {
      const int substitution = at(i - 1, j - 1) + (a[i - 1] != b[j - 1]);
      at(i, j) = std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
    }
  }
  return d.back();
}

std::string nearest(std::string_view word, const std::vector<std::string>& words) {
  std::string best;
  int fewest = 0;
  for (const std::string& candidate : words) {
    const int edits = edit_distance(word, candidate);
    const int most = static_cast<int>(std::max(word.size(), candidate.size())) / 2;
    if (edits <= most && (best.empty() || edits < fewest)) {
      best = candidate;
      fewest = edits;
    }
  }
  return best;
}

}  // namespace microtome
