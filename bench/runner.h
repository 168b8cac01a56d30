// Runs cases through Google Benchmark and judges them.
#pragma once

#include "bench/cases.h"
#include "bench/roofs.h"

#include <string>
#include <vector>

namespace microtome::bench {

struct Running {
  int samples = 20;                               // replays, of which the median counts
  double at_least = 0.8;                          // of the copy rate, for cases that are judged
  bool judges = false;                            // or lists those below
  std::string what;                               // device, versions, commit: stands above the verdict
  bool writes_json = false, prints_json = false;  // into --benchmark_out, on the screen
};

/// The program's exit code: 7 where a case differs from the reference, or is judged and too slow; that of the first case that
/// could not run; 0. Google Benchmark has been initialised.
int run_cases(Backend& backend, const std::vector<Case>& cases, const Roofs& roofs, const Running& running);

}  // namespace microtome::bench
