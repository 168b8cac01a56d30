// A profile for scripts.
#pragma once

#include "tools/profile/profile.h"

#include <string>

namespace microtome {

Json to_json(const Profile& profile);
std::string layers_csv(const Profile& profile);
std::string kernels_csv(const Profile& profile);

}  // namespace microtome
