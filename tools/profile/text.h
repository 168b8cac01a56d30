// A profile for people.
#pragma once

#include "tools/profile/profile.h"

#include <string>
#include <string_view>

namespace microtome {

/// All tables; of rows and kernels the `top` first.
std::string to_text(const Profile& profile, int top);

/// One row in full: its passes, plan, memory and kernels.
std::string explain(const Profile& profile, std::string_view row);

/// Blank, not zero, where nothing is known.
std::string known(double value, int digits);

}  // namespace microtome
