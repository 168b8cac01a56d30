#include "engine/host_memory.h"

#include "engine/check.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

std::optional<std::size_t> number(std::string_view text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end != text.data() ? std::optional(value) : std::nullopt;
}

std::optional<std::size_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  return in >> word ? number(word) : std::nullopt;
}

/// Of a line "key 123" or "key: 123".
std::optional<std::size_t> field(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    std::istringstream rest(line.substr(key.size()));
    std::string word;
    if (rest >> word) return number(word);
  }
  return {};
}

struct Least {
  HostMemory memory{.total_bytes = unlimited, .available_bytes = unlimited, .bound = "the machine"};

  void take(std::size_t total, std::size_t available, const std::string& bound) {
    memory.total_bytes = std::min(memory.total_bytes, total);
    if (available >= memory.available_bytes) return;
    memory.available_bytes = available;
    memory.bound = bound;
  }
};

/// A hierarchy of control groups that counts memory: where it is mounted, and which part of it that is.
struct Mount {
  std::string point, root;
  bool second = false;  // version 2
};

std::vector<Mount> mounts(const fs::path& root) {
  std::vector<Mount> found;
  std::ifstream in(root / "proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line), behind(line.substr(dash + 3));
    std::string id, parent, device, type, source, options;
    Mount mount;
    before >> id >> parent >> device >> mount.root >> mount.point;
    behind >> type >> source >> options;
    mount.second = type == "cgroup2";
    const bool memory = type == "cgroup" && ("," + options + ",").find(",memory,") != std::string::npos;
    if (mount.second || memory) found.push_back(mount);
  }
  return found;
}

/// This process' path in a hierarchy.
std::optional<std::string> group(const fs::path& root, bool second) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':'), last = line.find(':', first + 1);
    if (first == std::string::npos || last == std::string::npos) continue;
    std::string controllers = ",";
    controllers.append(line, first + 1, last - first - 1).append(",");
    if (second ? controllers == ",," : controllers.find(",memory,") != std::string::npos) return line.substr(last + 1);
  }
  return {};
}

/// A group's own limit. What its files hold in the page cache can be had again.
void take_group(const fs::path& folder, bool second, Least& least) {
  const auto limit = number_in(folder / (second ? "memory.max" : "memory.limit_in_bytes"));
  const auto used = number_in(folder / (second ? "memory.current" : "memory.usage_in_bytes"));
  constexpr std::size_t none = std::size_t{1} << 60;  // version 1 says no limit by a number near 2^63
  if (!limit || !used || *limit >= none) return;
  std::size_t cache = 0;
  for (const char* key : {"inactive_file", "active_file"})
    cache += field(folder / "memory.stat", fmt::format("{}{} ", second ? "" : "total_", key)).value_or(0);
  const std::size_t held = *used - std::min(*used, cache);
  least.take(*limit, *limit - std::min(*limit, held), fmt::format("the limit of {} in {}", gigabytes(*limit), folder.string()));
}

void take_groups(const fs::path& root, Least& least) {
  for (const Mount& mount : mounts(root)) {
    const auto path = group(root, mount.second);
    if (!path) continue;
    // Inside a container the path may be told from outside, and then only what is mounted can be looked at.
    std::string below = *path;
    if (mount.root != "/") below = below.starts_with(mount.root) ? below.substr(mount.root.size()) : "";
    const fs::path top = root / fs::path(mount.point).relative_path();
    fs::path at = top;
    take_group(at, mount.second, least);
    std::error_code unknown;
    for (const fs::path& part : fs::path(below).relative_path()) {
      at /= part;
      if (part == ".." || !fs::exists(at, unknown)) break;
      take_group(at, mount.second, least);
    }
  }
}

void take_limits(const fs::path& root, Least& least) {
  struct Limit {
    std::string_view name, used, shell;
  };
  for (const Limit& limit :
       {Limit{"Max address space", "VmSize:", "ulimit -v"}, Limit{"Max data size", "VmData:", "ulimit -d"}}) {
    const auto bytes = field(root / "proc/self/limits", limit.name);
    if (!bytes) continue;  // "unlimited"
    const std::size_t used = field(root / "proc/self/status", limit.used).value_or(0) * 1024;
    least.memory.limited = true;
    least.take(*bytes, *bytes - std::min(*bytes, used), fmt::format("the limit of {} ({})", gigabytes(*bytes), limit.shell));
  }
}

}  // namespace

HostMemory host_memory(const fs::path& root) {
  Least least;
  const auto total = field(root / "proc/meminfo", "MemTotal:"), available = field(root / "proc/meminfo", "MemAvailable:");
  if (total && available) least.take(*total * 1024, *available * 1024, "the machine");
  take_groups(root, least);
  take_limits(root, least);
  return least.memory;
}

void require_reserve() {
  static const bool limited = host_memory().limited;
  if (!limited) return;
  const HostMemory memory = host_memory();
  if (memory.available_bytes >= host_reserve_bytes) return;
  fail_memory("out of memory", {.expected = fmt::format("{} or more, which libraries need", gigabytes(host_reserve_bytes)),
                                .found = to_text(memory),
                                .next = "a higher limit, or, where a network runs, a smaller --batch-size"});
}

std::string gigabytes(std::size_t bytes) {
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) * 1e-9);
}

std::string to_text(const HostMemory& memory) {
  return fmt::format("{} available, by {}", gigabytes(memory.available_bytes), memory.bound);
}

}  // namespace microtome
