// report.html of a profile: what the tables say, drawn.
#pragma once

#include "tools/profile/profile.h"

#include <string>

namespace microtome {

std::string to_html(const Profile& profile);

}  // namespace microtome
