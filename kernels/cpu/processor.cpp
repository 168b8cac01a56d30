#include "kernels/cpu/processor.h"

#include <fmt/format.h>

namespace microtome {

std::string processor_of(std::istream& cpuinfo) {
  std::string name, implementer, part;
  const auto keep_first = [](std::string& kept, std::string_view value) {
    if (kept.empty()) kept = value;
  };
  for (std::string line; std::getline(cpuinfo, line);) {  // "key\t: value", a processor after the other
    const std::size_t colon = line.find(':');
    const std::size_t first = colon == line.npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (first == line.npos) continue;
    const std::string_view value = std::string_view(line).substr(first);
    if (line.starts_with("model name")) keep_first(name, value);
    if (line.starts_with("CPU implementer")) keep_first(implementer, value);
    if (line.starts_with("CPU part")) keep_first(part, value);
  }
  if (!name.empty()) return name;
  if (!implementer.empty() && !part.empty()) return fmt::format("CPU implementer {}, part {}", implementer, part);
  return "CPU";
}

}  // namespace microtome
