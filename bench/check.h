// Whether an op did what the reference does: counted before anything is timed.
#pragma once

#include "bench/ops.h"

#include <cstddef>
#include <string>

namespace microtome::bench {

struct CheckResult {
  std::size_t wrong = 0, elements = 0;
  std::string first;  // "y[n=0 h=1 w=2 c=3] is 4 and not 5"
};

/// Of what one run of the work has left in `subject`'s outputs. The reference runs on the few images that differ; where sums
/// are not exact, so does the plain loop in float.
CheckResult check(const Problem& problem, const std::string& pass, const Tensors& subject);

}  // namespace microtome::bench
