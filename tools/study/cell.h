// A cell of the study: one network trained one way on one data set from one seed. Its folder is an ordinary run's, with
// what evaluate measured by eight views beside it where that was asked for.
#pragma once

#include "data/lock.h"
#include "tools/cli/json.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
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

struct PlannedCell {
  Cell cell;
  std::string parent;  // the name of the cell whose best weights this one begins with; empty: there is none
  bool operator==(const PlannedCell&) const = default;
};

/// cells.json: what is to be run, in the order in which one process would. A parent comes before its children.
struct StudyPlan {
  int epochs = 0;
  bool views = false;  // each cell is judged by eight views too
  std::vector<PlannedCell> cells;
  bool operator==(const StudyPlan&) const = default;
};
void write_plan(const std::filesystem::path& study, const StudyPlan& plan);
/// Throws Error(ExitCode::data) where there is no study.
StudyPlan read_plan(const std::filesystem::path& study);

/// Held by the process that runs a cell, until the object goes.
class CellLock {
 public:
  /// Looks for a moment; another process may only be looking too.
  CellLock(const std::filesystem::path& study, const Cell& cell);

  bool held() const { return lock_ && lock_->held(); }

 private:
  std::optional<FileLock> lock_;
};

/// Why a cell failed: failed.json in its folder.
struct Failure {
  int exit_code = 0;  // its program's
  std::string what;
};
void write_failure(const std::filesystem::path& cell, const Failure& failure);
std::optional<Failure> read_failure(const std::filesystem::path& cell);

enum class CellStatus { waiting, running, stopped, failed, done };
std::string_view name_of(CellStatus status);

/// What a cell's folder says of it.
struct CellState {
  Cell cell;
  CellStatus status = CellStatus::waiting;
  std::string why;    // it failed, stopped or waits
  int exit_code = 0;  // of the program that failed
  int epochs_done = 0;
  std::string split_by, statistics;  // options of a cell that has begun, from its config.toml
  Json result, tta;                  // result.json and tta.json where the cell is done and has them, else null
  std::filesystem::path folder;
};

/// The digests of the splits that it was trained on, from a result.json; null where they are not known.
Json split_digests(const Json& result);

/// Whether evaluate judged other images than those that the run was tested on.
bool are_of_other_images(const Json& tta);

int epochs_done(const std::filesystem::path& cell);

/// Whether a process runs it now is not looked at.
CellState read_cell(const std::filesystem::path& study, const PlannedCell& planned, bool views);

/// The cells of the study in `folder`, in the order in which one process would run them. Throws Error(ExitCode::data) where
/// there is no study. A cell whose result.json or tta.json is damaged, impossible or another cell's is a stopped one: these are
/// made again. One that was trained on other images than the first of its data set has failed.
std::vector<CellState> read_study(const std::filesystem::path& folder);

}  // namespace microtome
