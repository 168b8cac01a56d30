// How long an epoch will take: what each pass of each row costs at least, at the rates that a device's datasheet promises.
#pragma once

#include "engine/backend.h"
#include "engine/cost.h"
#include "nets/nets.h"

#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace microtome {

/// As their makers print them, dense, at boost clocks; 0 where there are no such units.
struct Datasheet {
  std::string_view gpu;
  int year;
  double f32, tf32, bf16;  // TFLOP/s
  double gb_per_second;

  double tflop_per_second(Precision precision) const;
};
std::span<const Datasheet> datasheets();

/// Of each call of one training step, the batch's gather and Adam among them, planned as if every batch-norm could be deferred,
/// or none.
std::vector<Cost> step_costs(const Network& network, Extent image, bool frozen_base, int batch, Precision precision,
                             bool defers);

/// Each call at the rate of FLOP or of bytes, whichever takes longer. Nothing where the device lacks the precision.
std::optional<double> bound_seconds(std::span<const Cost> step, const Datasheet& device, Precision precision);

/// `profile forecast`: the tables. Returns the program's exit code.
int forecast(int argc, const char* const* argv);

}  // namespace microtome
