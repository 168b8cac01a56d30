// `profile diff`: which passes of which rows have become slower between two profiles, and what it costs an epoch.
#pragma once

namespace microtome {

/// Returns the program's exit code: 7 where --gate fails.
int profile_diff(int argc, const char* const* argv);

}  // namespace microtome
