// The study's Figures 3 and 4, as gnuplot's scripts and as the tables that they show: ours beside the paper's.
#pragma once

#include "tools/study/tables.h"

#include <string_view>

namespace microtome {

/// AUC of full training against depth and against parameters, both counted one way for all networks.
Section figure_3(const Study& study, std::string_view data);

/// AUCs over networks, full training against transfer: boxes of quartiles, from three networks on.
Section figure_4(const Study& study);

}  // namespace microtome
