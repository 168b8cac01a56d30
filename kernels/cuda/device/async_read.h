// Device memory as a host sees it that goes on queueing work: see engine/backend.h.
#pragma once

#include "kernels/cuda/device/context.h"

#include <cstddef>
#include <memory>

namespace microtome::cuda {

std::unique_ptr<AsyncRead> make_async_read(const Context& context, const void* device, std::size_t bytes);

}  // namespace microtome::cuda
