// Work on many images at once. For the sources of this folder only.
#pragma once

#include <cstdint>
#include <functional>

namespace microtome {

/// `threads`, or one a core for 0.
int thread_count(int threads);

/// Runs body(0) … body(count - 1) on `threads` threads (0: one a core) and meanwhile, on the calling thread, `progress` with
/// the number done, a few times a second and at the end. Throws what the body of the lowest failing index threw.
void for_each_index(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body,
                    const std::function<void(std::int64_t)>& progress);

}  // namespace microtome
