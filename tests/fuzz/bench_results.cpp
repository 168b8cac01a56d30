// Results of `bench`, as `compare` and `profile forecast --bench` read them.
#include "bench/results.h"

#include "fuzz/fuzz.h"

#include <cmath>

namespace microtome::fuzz {

std::vector<std::string> seeds() {
  return {R"({"context": {"microtome_schema": "1", "device": "cpu", "precision": "f32", "num_cpus": 2},
 "benchmarks": [
  {"name": "conv_forward/b6:conv1/cpu/f32/n32/manual_time", "run_type": "iteration", "real_time": 1.5, "time_unit": "ms", "flop": 2e9},
  {"name": "conv_forward/b6:conv1/cpu/f32/n32/manual_time", "run_type": "iteration", "real_time": 1.25, "time_unit": "ms"},
  {"name": "conv_forward/b6:conv1/cpu/f32/n32/manual_time_mean", "run_type": "aggregate", "real_time": 1.4},
  {"name": "copy/large/cpu/f32/all", "error_occurred": true, "error_message": "no"}]})"};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile file;
  file.hold({bytes, size});
  may_refuse([&] {
    for (const BenchCase& one : read_results(file.path()).cases)
      for (const double seconds : one.seconds) expect(seconds > 0 && std::isfinite(seconds), "a time that cannot be one");
  });
  return 0;
}
