// A cell of the study: one network trained one way on one data set from one seed. Its folder is an ordinary run's, with
// evaluate's verdict by eight views beside it where that was asked for.
#pragma once

#include "tools/run_folder.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

struct Cell {
  std::string net;         // "resnet50"
  std::string data;        // "pcam" or "idc"
  std::string mode;        // "full" or "transfer"
  std::string preprocess;  // "paper" or "native"
  std::string augment;     // "none" or "d4"
  std::uint64_t seed = 0;

  /// Its folder's, below cells/: "pcam-resnet50-transfer-paper-none-0".
  std::string name() const;
  bool operator==(const Cell&) const = default;
};

enum class CellStatus { waiting, running, stopped, failed, done };
std::string_view name_of(CellStatus status);

/// What a cell's folder says of it.
struct Outcome {
  Cell cell;
  CellStatus status = CellStatus::waiting;
  std::string why;     // it failed, or waits
  int epochs_done = 0;
  Json result, tta;    // result.json and tta.json where the cell is done and has them, else null
  std::filesystem::path folder;
};

/// The cells of the study in `folder`, in the order in which one process would run them. Throws Error(ExitCode::data) where there
/// is no study, or what a cell wrote cannot be read.
std::vector<Outcome> read_study(const std::filesystem::path& folder);

}  // namespace microtome
