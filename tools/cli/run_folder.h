// A run's folder: locked while a run writes to it, every file in it whole at every moment.
#pragma once

#include "data/lock.h"
#include "engine/fit.h"
#include "engine/metrics.h"
#include "tools/cli/json.h"

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace microtome {

/// What a run writes beside its checkpoint and result, and what a person may write anew: scores.csv and roc.csv.
inline constexpr const char* run_files[] = {"config.toml", "best.weights.h5", "metrics.csv", "steps.csv",
                                            "report.html", "scores.csv",      "roc.csv"};

class RunFolder {
 public:
  /// Makes the folder and locks it until the object goes; where nothing was written, a folder that was made goes with it.
  /// Throws Error(ExitCode::in_use) where another process has it, Error(ExitCode::usage) where it cannot be written.
  explicit RunFolder(std::filesystem::path folder);
  /// One that was not there: `wanted`, or with -2, -3, … behind it where others, of the same second, were faster.
  static RunFolder make_new(const std::filesystem::path& wanted);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return folder_; }
  std::filesystem::path operator/(std::string_view name) const { return folder_ / name; }
  bool has(std::string_view name) const { return std::filesystem::exists(folder_ / name); }

  /// Throws Error(ExitCode::usage), which says `refusal`, where one of the files is there.
  void require_none_of(std::span<const char* const> files, const std::string& refusal) const;

  /// Throws Error(ExitCode::memory) where the disk is full or refuses; the file is then as it was.
  void write(std::string_view name, std::string_view text) const;
  void append(std::string_view name, std::string_view text) const;

  /// A line of log.jsonl: the time, the event, and what the caller adds.
  void log(std::string_view event, const Json& facts = Json::object()) const;

  /// metrics.csv: a row an epoch.
  void write_metrics(std::span<const EpochRecord> history) const;
  /// steps.csv: a row a step, counted from 1; `first_step` steps were done before.
  void append_steps(std::span<const BatchMetrics> batches, std::uint64_t first_step) const;
  /// Leaves the rows of the first `steps` steps, those that a checkpoint knows of. How many there were.
  std::uint64_t truncate_steps(std::uint64_t steps) const;
  void write_roc(std::span<const RocPoint> points) const;

 private:
  RunFolder(std::filesystem::path folder, bool made);

  std::filesystem::path folder_;
  bool made_ = false;
  FileLock lock_;
};

/// The present time, as strftime writes it.
std::string utc(const char* format);

std::string roc_csv(std::span<const RocPoint> points);

}  // namespace microtome
