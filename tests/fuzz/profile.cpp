// profile.json, and the result.json of a run, as `profile forecast` and `profile diff` read them.
#include "fuzz/fuzz.h"
#include "tools/profile/measured_step.h"
#include "tools/profile/recorded_profile.h"

#include <cmath>

namespace microtome::fuzz {

std::vector<std::string> seeds() {
  return {R"({"schema": "microtome.profile.1",
 "run": {"net": "b6", "commit": "abc", "mode": "full", "image": [96, 96, 3], "precision": "f32", "graph": "step",
         "augment": "none", "batch_size": 32, "data_name": "pcam"},
 "device": {"name": "cpu", "description": "a processor"},
 "method": {"epoch_steps": 100, "dropped_records": 0, "unfinished_records": 1},
 "distortion": {"untraced_ns_per_step": 1e7, "traced_ns_per_step": 1.1e7, "untraced_samples_ns": [1e7, 1.1e7]},
 "layers": [{"row": "conv1", "pass": "forward", "ns_per_step": 1e6, "traced_samples_ns": [1e6, 0]},
            {"row": "", "pass": "loss", "ns_per_step": 1e3, "traced_samples_ns": [1e3, 1e3]}],
 "plans": [{"row": "conv1", "implementation": "direct"}, {"row": "conv1", "implementation": "gemm"}]})",
          R"({"net": "b6", "mode": "full", "device": "cpu", "precision": "f32", "image": [50, 50], "batch_size": 32,
 "train_images": 1000, "seconds_per_epoch": 12.5})"};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile file;
  static const Folder profiled, trained;
  static const bool linked = (profiled.link("profile.json", file), trained.link("result.json", file), true);
  expect(linked, "no links");
  file.hold({bytes, size});
  may_refuse([&] {
    const RecordedProfile profile = read_profile(profiled.path());
    expect(profile.batch > 0 && profile.untraced_ns > 0, "a step that took no time");
  });
  for (const Folder* folder : {&profiled, &trained}) {
    may_refuse([&] {
      const MeasuredStep step = measured_step(folder->path());
      expect(step.seconds > 0 && std::isfinite(step.seconds) && step.batch > 0, "a step that took no time");
    });
  }
  return 0;
}
