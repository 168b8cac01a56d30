// Which cells a study has, in which order, and how they are dealt to the processes of a job array.
#pragma once

#include "engine/shape.h"
#include "tools/study/cell.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// Where the networks with a published base begin.
struct StudyOptions {
  std::optional<Extent> pcam, idc;  // the size of their images, where they are studied
  std::string nets = "all", modes = "full,transfer", preprocess = "paper", augment = "none", seeds = "0", weights = "imagenet";
};

struct Grid {
  std::vector<PlannedCell> cells;
  std::vector<std::string> notes;  // what has no cell, and why
};

/// Throws Error(ExitCode::usage) for lists that are empty, name what there is not or twice, or make no cell.
Grid make_grid(const StudyOptions& options);

/// For each cell the shard, from 1 to `shards`, that runs it: a parent and its children the same, and each shard about as many
/// multiply-accumulates.
std::vector<int> deal(const StudyOptions& options, const std::vector<PlannedCell>& cells, int shards);

}  // namespace microtome
