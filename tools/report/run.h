// report.html: a run on one page.
#pragma once

#include "engine/fit.h"
#include "tools/statistics/classification.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace microtome {

struct RunReport {
  std::string title;                                         // "B2 on pcam"
  std::vector<std::pair<std::string, std::string>> figures;  // large, at the top: {"test AUC", "0.8912"}
  std::vector<std::pair<std::string, std::string>> facts;    // a table: device, commit, times
  std::span<const EpochRecord> history;
  int best_epoch = 0;
  std::optional<Metrics> test;
  std::string config;              // config.toml
  std::vector<std::string> notes;  // the loader's
  std::string learned;             // learned_text(); stands below the figures
};

std::string to_html(const RunReport& report);

}  // namespace microtome
