// The hardware counters that `profile --counters` knows by short names; all others by the vendor's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace microtome {

struct Counter {
  std::string name;    // as asked for
  std::string metric;  // the vendor's
  std::string unit;    // of `metric` times `scale`; "" where only the vendor knows
  double scale = 1;
};

/// Of a table's column: "dram, MB".
std::string heading(const Counter& counter);

/// "dram,tensor" and names with "__", which are the vendor's. Throws Error(ExitCode::usage) for any other.
std::vector<Counter> counters_named(std::string_view list);

}  // namespace microtome
