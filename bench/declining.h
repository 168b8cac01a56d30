// A backend with less fusion than it is capable of: what a fusion spares is the difference.
#pragma once

#include "engine/backend.h"

#include <memory>

namespace microtome::bench {

/// fused: whatever the backend does. applied: each batch-norm by passes of its own. separate: each activation too.
enum class Fusion { fused, applied, separate };

/// The other backend must outlive it.
std::unique_ptr<Backend> declining(Backend& backend, Fusion fusion);

}  // namespace microtome::bench
