#include "data/checks.h"

#include "engine/check.h"

#include <algorithm>
#include <fstream>
#include <limits>

namespace microtome {

namespace {

/// What the kernel thinks can be had without swapping; no limit where it does not say.
std::int64_t available_bytes() {
  std::ifstream in("/proc/meminfo");
  for (std::string key, unit; in >> key;) {
    std::int64_t kib = 0;
    in >> kib;
    if (key == "MemAvailable:") return kib * 1024;
    std::getline(in, unit);
  }
  return std::numeric_limits<std::int64_t>::max();
}

}  // namespace

std::string_view adjective(std::string_view split) {
  if (split == "train") return "training";
  if (split == "valid") return "validation";
  return split;
}

void require_memory(std::int64_t bytes, const std::string& where) {
  const std::int64_t available = available_bytes();
  if (bytes <= available) return;
  constexpr double gib = 1 << 30;
  fail(ExitCode::memory, "the images do not fit into memory",
       {.where = where,
        .expected = fmt::format("at most {:.1f} GiB, which this machine has left", static_cast<double>(available) / gib),
        .found = fmt::format("{:.1f} GiB", static_cast<double>(bytes) / gib),
        .next = "take a machine with more memory, or fewer images"});
}

void require_both_classes(const Images& images, std::string_view split, const std::string& where, const std::string& next) {
  const std::int64_t ones = std::ranges::count(images.labels, 1), zeros = std::ranges::count(images.labels, 0);
  if (ones > 0 && zeros > 0) return;
  const bool none = ones + zeros == 0;
  fail(ExitCode::data, fmt::format("the {} split {}", adjective(split), none ? "is empty" : "has one class only"),
       {.where = where,
        .expected = "images of class 0 and of class 1",
        .found = fmt::format("{} of class 0, {} of class 1", zeros, ones),
        .next = next});
}

bool succeeds(std::vector<Error>& problems, const std::function<void()>& call) {
  try {
    call();
    return true;
  } catch (const Error& error) {
    if (error.code() != ExitCode::data) throw;
    problems.push_back(error);
    return false;
  }
}

void add_note(std::vector<std::string>& notes, std::int64_t count, std::string_view one, std::string_view many,
              std::string_view what) {
  if (count > 0) notes.push_back(fmt::format("{} {} {}", count, count == 1 ? one : many, what));
}

}  // namespace microtome
