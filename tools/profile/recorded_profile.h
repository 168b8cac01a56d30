// A profile.json as `profile diff` compares it with another.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace microtome {

struct RecordedProfile {
  std::string file, net, commit, device;
  std::map<std::string, std::string> setting;                         // what may not differ silently, as it stands there
  double batch = 0, epoch_steps = 0, untraced_ns = 0, traced_ns = 0;  // of a step
  std::vector<double> untraced_samples_ns;
  int lost_records = 0;  // dropped by the device's buffers, or without an end
  struct Layer {
    std::string key;  // "conv1_conv backward_data"
    double ns = 0;
    std::vector<double> traced_samples_ns;
  };
  std::vector<Layer> layers;
  std::map<std::string, std::string> plans;  // by row
};

/// `file`, or profile.json in a folder of that name. Throws Error(ExitCode::data).
RecordedProfile read_profile(std::filesystem::path file);

}  // namespace microtome
