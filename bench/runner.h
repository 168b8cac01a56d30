// Runs cases through Google Benchmark and judges them.
#pragma once

#include "bench/cases.h"
#include "bench/roofs.h"

#include <functional>
#include <string>
#include <vector>

namespace microtome::bench {

struct Running {
  int samples = 20;       // replays, of which the median counts
  double at_least = 0.8;  // of the copy rate, for cases that are judged
  bool judges = false;    // or lists those below
  std::string what;       // device, versions, commit: stands above what the checks and the copy rate say
  bool writes_json = false, prints_json = false;  // into --benchmark_out, on the screen
  int repetitions = 1;                            // of each case; several are spread over the whole run
  std::function<void(int done, int all)> progress = [](int, int) {};
  std::function<bool()> stop = [] { return false; };  // asked before each repetition; those left out are in no result
};

/// Repetitions of a case follow each other no more closely than chance has it, each on memory of its own: what differs from one
/// to the next is then what would differ between two runs. The program's exit code: 7 where a case differs from the reference,
/// or is judged and too slow; that of the first case that could not run; 0. Google Benchmark has been initialised.
int run_cases(Backend& backend, const std::vector<Case>& cases, const Roofs& roofs, const Running& running);

}  // namespace microtome::bench
