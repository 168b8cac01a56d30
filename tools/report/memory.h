// train --memory-plan: where the memory of a run would go, for people and for scripts.
#pragma once

#include "engine/run_memory.h"
#include "tools/cli/json.h"

#include <string>

namespace microtome {

/// `images`: of training, which are the most that a batch can have.
std::string to_text(const MemoryPlan& plan, int batch_size, int images);
Json to_json(const MemoryPlan& plan, int batch_size);

}  // namespace microtome
