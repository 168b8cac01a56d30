#include "bench/machine.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <vector>

namespace microtome::bench {

namespace {

constexpr const char* query =
    "nvidia-smi "
    "--query-gpu=clocks.sm,clocks.mem,power.limit,temperature.gpu,clocks_throttle_reasons.active,driver_version,uuid "
    "--format=csv,noheader,nounits --id=";

}  // namespace

std::optional<GpuState> gpu_state(const std::string& device) {
  if (!device.starts_with("cuda:")) return std::nullopt;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const std::string id = nvidia_smi_id(std::atoi(device.c_str() + device.find(':') + 1), visible ? visible : "");
  if (id.empty()) return std::nullopt;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen((query + id + " 2>/dev/null").c_str(), "r"), pclose);
  std::array<char, 512> line{};
  if (!pipe || !std::fgets(line.data(), line.size(), pipe.get())) return std::nullopt;
  return parse_gpu_state(line.data());
}

std::string nvidia_smi_id(int ordinal, const std::string& visible_devices) {
  if (visible_devices.empty()) return std::to_string(ordinal);
  std::istringstream entries(visible_devices);
  std::string entry;
  for (int i = 0; i <= ordinal; ++i)
    if (!std::getline(entries, entry, ',')) return {};
  const bool is_plain = std::all_of(entry.begin(), entry.end(), [](unsigned char c) { return std::isalnum(c) || c == '-'; });
  return is_plain ? entry : std::string();
}

std::optional<GpuState> parse_gpu_state(const std::string& line) {
  std::vector<std::string> fields;
  for (std::size_t at = 0; at <= line.size();) {
    const std::size_t comma = std::min(line.find(',', at), line.size());
    const std::size_t first = std::min(line.find_first_not_of(" \n", at), comma);
    const std::size_t last = line.find_last_not_of(" \n", comma == 0 ? 0 : comma - 1);
    fields.push_back(last == std::string::npos || last < first ? "" : line.substr(first, last + 1 - first));
    at = comma + 1;
  }
  if (fields.size() != 7) return std::nullopt;
  const auto number = [&](std::size_t i) { return std::strtod(fields[i].c_str(), nullptr); };
  return GpuState{number(0), number(1), number(2), number(3), fields[4], fields[5], fields[6]};
}

}  // namespace microtome::bench
