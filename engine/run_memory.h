// Where a run's memory goes, known before its first step.
#pragma once

#include "engine/dataset.h"
#include "engine/fit.h"
#include "engine/model.h"

#include <cstddef>
#include <string>

namespace microtome {

/// In bytes.
struct MemoryPlan {
  Model::ParameterBytes parameters;
  ProgramMemory step;         // of the program whose arena is the largest: a training step's, nearly always
  std::size_t arena = 0;      // of all programs, which share it
  std::size_t scratch = 0;    // that ops share for the length of a call; on a GPU the most that cuDNN may ask for
  std::size_t kept = 0;       // by ops from pass to pass: a pooling's winners
  std::size_t images = 0;     // of training and validation, with their labels, in the device's memory
  std::size_t features = 0;   // of a frozen base, where they are kept
  std::size_t saving = 0;     // the best epoch's weights and a weight file as it is made, where the device is the host
  std::size_t available = 0;  // of the device, for what is not there yet: arena, scratch, features, saving, elsewhere images
  std::string bound;          // what leaves no more; empty: the device itself
  int largest_batch = 0;      // for which all of this fits; 0: none

  std::size_t total() const;
};

/// Plans what fit() would run, and allocates nothing for it.
MemoryPlan plan_memory(Model& model, const Dataset& data, const FitOptions& options);

}  // namespace microtome
