// What memory a process can still have on its machine: the least of what the kernel thinks is left, of what every control group
// that it is in leaves (version 1 or 2; a batch system nests them, and the smallest counts, wherever it is set) and of its own
// limits on address space and data (`ulimit -v`, `ulimit -d`; Grid Engine's h_vmem).
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace microtome {

struct HostMemory {
  std::size_t total_bytes = 0, available_bytes = 0;  // all of it where Linux says nothing
  std::string bound;     // what leaves the least: "the machine", "the limit of 2.0 GB in /sys/fs/cgroup/…"
  bool limited = false;  // address space or data are
};

/// Reads /proc and the control groups below `root`.
HostMemory host_memory(const std::filesystem::path& root = "/");

/// Memory that a run leaves alone: libraries ask for it in small pieces, some of which end the process where they get none.
constexpr std::size_t host_reserve_bytes = std::size_t{64} << 20;

/// Throws OutOfMemory where a process with limits of its own has not even the reserve left. Nearly free where it has none.
void require_reserve();

/// "1.50 GB"
std::string gigabytes(std::size_t bytes);
/// "1.50 GB available, by the limit of …"
std::string to_text(const HostMemory& memory);

}  // namespace microtome
