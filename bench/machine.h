// The state a GPU is in, as nvidia-smi tells: beside every figure, since a throttled GPU's are another GPU's.
#pragma once

#include <optional>
#include <string>

namespace microtome::bench {

struct GpuState {
  double sm_mhz = 0, memory_mhz = 0, power_limit_watt = 0, temperature_celsius = 0;
  std::string throttle_reasons;  // bits, "0x0000000000000000"
  std::string driver, uuid;
};

/// Of "cuda:N"; none for other devices, and where nvidia-smi is missing or says something else.
std::optional<GpuState> gpu_state(const std::string& device);

/// What nvidia-smi calls CUDA's GPU number N: where CUDA_VISIBLE_DEVICES is set, its N-th entry. Empty where there is none.
std::string nvidia_smi_id(int ordinal, const std::string& visible_devices);

/// Of a line of nvidia-smi's.
std::optional<GpuState> parse_gpu_state(const std::string& line);

}  // namespace microtome::bench
