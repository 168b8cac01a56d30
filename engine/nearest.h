// The word a person most likely meant: smallest edit distance, counting a swap of neighbours as one edit.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);

/// The nearest of `words`, or "" where none shares even half of its letters with `word`.
std::string nearest(std::string_view word, const std::vector<std::string>& words);

}  // namespace microtome
