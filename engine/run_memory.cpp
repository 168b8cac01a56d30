#include "engine/run_memory.h"

#include <algorithm>
#include <utility>

namespace microtome {

std::size_t MemoryPlan::total() const {
  return parameters.weights + parameters.gradients + parameters.moments + parameters.low_precision + arena + scratch + kept +
         images + features + saving;
}

MemoryPlan plan_memory(Model& model, const Dataset& data, const FitOptions& options) {
  const std::vector<Model::Request> programs = requests(model.graph(), data, options);
  model.prepare(programs);
  const Device device = model.backend().device();
  const BesideSteps beside = beside_steps(model, data, options);
  MemoryPlan plan{.parameters = model.parameter_bytes(),
                  .scratch = model.scratch_bytes(),
                  .kept = model.kept_bytes(),
                  .images = beside.images,
                  .features = beside.features,
                  .saving = beside.saving,
                  .available = device.available_bytes,
                  .bound = device.bound};
  for (const Model::Request& request : programs) {
    ProgramMemory memory = model.program(request.mode, request.batch, request.part).memory();
    if (memory.arena > plan.arena) plan.arena = memory.arena, plan.step = std::move(memory);
  }
  plan.largest_batch = model.largest_batch(beside.to_come(device.is_host), data.train.shape.n);
  return plan;
}

}  // namespace microtome
