// A backend that plans and runs nothing: what a network would do on a device that is not here.
#pragma once

#include "engine/backend.h"

#include <memory>

namespace microtome {

/// `activations`: f32 or bf16. `defers`: whatever the planner asks for, as if every option paid; else nothing but activations
/// fused into batch-norms and convolutions. Calls of its ops fail; memory is the host's, and untouched.
std::unique_ptr<Backend> make_planning_backend(DType activations, bool defers);

}  // namespace microtome
