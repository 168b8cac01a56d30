// Where a run's memory goes, known before its first step.
#pragma once

#include "engine/dataset.h"
#include "engine/fit.h"
#include "engine/model.h"

#include <cstddef>

namespace microtome {

/// In bytes. Beside these a run has its metrics and scores, and what ops keep for themselves (a pooling's mask).
struct MemoryPlan {
  Model::ParameterBytes parameters;
  ProgramMemory step;         // of the program whose arena is the largest: a training step's, nearly always
  std::size_t arena = 0;      // of all programs, which share it
  std::size_t scratch = 0;    // workspace that ops share
  std::size_t images = 0;     // that the device holds for the run, with their labels
  std::size_t available = 0;  // for arena and images; parameters and scratch have theirs already
  int largest_batch = 0;      // that fits, by the same plan; 0: none

  std::size_t total() const;
};

/// Plans what fit() would run, and allocates nothing for it but scratch. `images_are_resident`: the device's memory is the
/// host's, where they lie already.
MemoryPlan plan_memory(Model& model, const Dataset& data, const FitOptions& options, bool images_are_resident);

}  // namespace microtome
