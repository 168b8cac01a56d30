// What a step was measured to take, to hold an estimate against.
#pragma once

#include <filesystem>
#include <string>

namespace microtome {

/// What a step took: of a profile's folder the untraced step, of a run's the mean of its epochs.
struct MeasuredStep {
  std::string net, mode, device, precision;
  int side = 0, batch = 0;  // side 0 where a run of an older version does not say
  double seconds = 0;
};

/// Error(ExitCode::data) for a folder that is neither, and where what it says cannot be.
MeasuredStep measured_step(const std::filesystem::path& folder);

}  // namespace microtome
