#include "bench/machine.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
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
  const std::string command = query + device.substr(device.find(':') + 1) + " 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::array<char, 512> line{};
  if (!pipe || !std::fgets(line.data(), line.size(), pipe.get())) return std::nullopt;
  return parse_gpu_state(line.data());
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
