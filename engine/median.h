// The one median: of measurements here, in the kernels' tuner, the bench and the tools.
#pragma once

#include <vector>

namespace microtome {

/// Of an even number of values the mean of the middle two; 0 of none.
double median(std::vector<double> values);

}  // namespace microtome
