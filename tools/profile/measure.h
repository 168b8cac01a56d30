// A short run, measured: steps as they are and steps that are traced, by turns, and once what an epoch has beside its steps.
#pragma once

#include "engine/fit.h"
#include "engine/ledger.h"
#include "engine/model.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace microtome {

struct Sampling {
  int warm_up = 8, steps = 20;  // as many again are timed and not traced
  int burst = 1;                // steps between two waits for the device
  int examples = 3;             // steps that are kept whole
};

/// The rates that this device reaches here: one large product, one large copy, bytes read and written.
struct Roofs {
  double flop_per_second = 0, bytes_per_second = 0;
};

struct Measurement {
  std::vector<double> untraced_ns, traced_ns;  // a burst's steps have their mean
  /// Of traced steps, each: what was found of it by row and pass, and the sums of all.
  std::vector<double> busy_ns, overlap_ns, within_ns, ends_ns, unattributed_ns;
  std::map<ScopeKey, std::vector<double>> shares_ns;
  std::map<ScopeKey, double> pieces;           // a step
  std::map<std::string, KernelSpent> kernels;  // of all traced steps
  int unfinished = 0;
  std::uint64_t dropped = 0;
  std::string note;                                 // Recorded's
  std::vector<Recorded> examples;                   // steps
  std::map<ScopeKey, std::vector<double>> counted;  // of a step, by counter: see measure_counters()
  EpochLedger epoch;                                // of the short run
  double features_seconds = 0;                      // of a frozen base, kept
  Roofs roofs;
};

/// The images of a short run: so many for training, taken at even distances or several times over, and at most so many for
/// validation; both classes in either.
Dataset shortened(const Dataset& data, int train_images, int valid_images);

/// Trains the model for one epoch of `data`, which holds just the steps of `sampling`, and saves into `folder` what a run
/// saves.
Measurement measure(Model& model, const Dataset& data, const FitOptions& options, const Sampling& sampling,
                    const std::filesystem::path& folder, const std::function<void(int done, int of)>& progress);

/// Reads counters, by the vendor's names, into `measurement.counted`, or says in its note why it cannot, and what cures it.
/// Trains on, op by op. Throws Error(ExitCode::usage) for a counter that the device does not have.
void measure_counters(Model& model, const Dataset& data, FitOptions options, const std::vector<std::string>& metrics,
                      const std::function<void(int done, int of)>& progress, Measurement& measurement);

Roofs measure_roofs(Backend& backend);

}  // namespace microtome
