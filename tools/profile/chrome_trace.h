// trace.json.gz: a few recorded steps as Chrome's tracing, Perfetto and PyTorch's tools read them.
#pragma once

#include "engine/profile.h"

#include <span>
#include <string>
#include <string_view>

namespace microtome {

/// `device`: what the streams belong to.
std::string trace_events(std::span<const Recorded> steps, std::string_view device);

}  // namespace microtome
