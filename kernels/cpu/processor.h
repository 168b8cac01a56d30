// What a machine's processor is called.
#pragma once

#include <istream>
#include <string>

namespace microtome {

/// From Linux' /proc/cpuinfo: "AMD EPYC 9B14"; of arm64, where it holds numbers alone, "CPU implementer 0x41, part 0xd4f"
/// (Arm's Neoverse V2); "CPU" where it holds neither.
std::string processor_of(std::istream& cpuinfo);

}  // namespace microtome
