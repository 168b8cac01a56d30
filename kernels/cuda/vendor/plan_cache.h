// What was found to be fastest, kept in a text file from one run to the next: a line a problem,
//   NVIDIA H200, 132 SMs, cuDNN 91900: conv forward ...<tab>engine 62 workspace 0 us 12.5 knobs 4:1 27:2
// Nobody has to trust it: a line that cannot be read is no line, and who reads one checks that its engine still builds.
#pragma once

#include "kernels/cuda/vendor/cudnn.h"

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace microtome::cuda {

struct TimedChoice {
  EngineChoice choice;
  std::size_t workspace_bytes = 0;
  double time_us = 0;
  bool operator==(const TimedChoice&) const = default;
};

class PlanCache {
 public:
  /// Empty where there is no such file. An empty path: kept in memory only.
  explicit PlanCache(std::filesystem::path path);

  const TimedChoice* find(const std::string& key) const;

  /// key: without tabs and line breaks.
  void keep(const std::string& key, TimedChoice choice);

  /// Writes a new file beside the old one and renames it. What other processes wrote meanwhile stays; of the same problem our
  /// line does. A file that cannot be written costs a warning, since what was timed serves this run all the same.
  void save();

 private:
  using Lines = std::map<std::string, TimedChoice>;
  static Lines read(const std::filesystem::path& path);

  std::filesystem::path path_;
  Lines lines_, fresh_;  // all, and those that the file lacks
};

std::string line_of(std::string_view key, const TimedChoice& choice);

/// None where it is not such a line.
std::optional<std::pair<std::string, TimedChoice>> parsed_line(const std::string& line);

}  // namespace microtome::cuda
