#include "engine/memory_plan.h"

#include <algorithm>

namespace microtome {

std::size_t MemoryPlan::total() const {
  return parameters.weights + parameters.gradients + parameters.moments + parameters.narrow + arena + scratch + images;
}

MemoryPlan plan_memory(Model& model, const Dataset& data, const FitOptions& options, bool images_are_resident) {
  const std::vector<Model::Request> programs = requests(model.graph(), data, options);
  model.prepare(programs);
  MemoryPlan plan{.parameters = model.parameter_bytes(), .scratch = model.backend().scratch_bytes()};
  for (const Model::Request& request : programs) {
    ProgramMemory memory = model.program(request.mode, request.batch, request.part).memory();
    if (memory.arena > plan.arena) plan.arena = memory.arena, plan.step = std::move(memory);
  }
  const auto add = [&plan](const Images& split) { plan.images += split.pixels.size() + split.labels.size(); };
  add(data.train), add(data.valid);
  const auto calibrates = [](const Model::Request& request) { return request.mode == Mode::calibrate; };
  if (std::any_of(programs.begin(), programs.end(), calibrates)) add(data.train);  // a copy of its own
  plan.available = model.backend().device().available_bytes;
  const std::size_t images = images_are_resident ? 0 : plan.images;
  plan.largest_batch = model.largest_batch(plan.available - std::min(plan.available, images), data.train.shape.n);
  return plan;
}

}  // namespace microtome
