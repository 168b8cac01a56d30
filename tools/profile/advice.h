// Where an epoch's next seconds are to be had.
#pragma once

#include "tools/profile/profile.h"

#include <vector>

namespace microtome {

/// The largest gain first; nothing of less than 1% of the epoch. From the profile's ledger, layers and kernels.
std::vector<Advice> advise(const Profile& profile);

}  // namespace microtome
