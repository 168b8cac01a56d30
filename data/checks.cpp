#include "data/checks.h"

#include "engine/check.h"
#include "engine/host_memory.h"

#include <algorithm>

namespace microtome {

std::string_view adjective(std::string_view split) {
  if (split == "train") return "training";
  if (split == "valid") return "validation";
  return split;
}

void require_memory(std::int64_t bytes, const std::string& where) {
  const HostMemory memory = host_memory();
  const std::size_t wanted = static_cast<std::size_t>(bytes);
  if (memory.available_bytes >= host_reserve_bytes && wanted <= memory.available_bytes - host_reserve_bytes) return;
  fail_memory("the images do not fit into memory",
              {.where = where,
               .found = fmt::format("{} of them, {}", gigabytes(static_cast<std::size_t>(bytes)), to_text(memory)),
               .next = "more memory, or fewer images"});
}

void require_both_classes(std::span<const std::uint8_t> labels, std::string_view what, const std::string& where,
                          const std::string& next) {
  const std::int64_t ones = std::ranges::count(labels, 1), zeros = std::ranges::count(labels, 0);
  if (ones > 0 && zeros > 0) return;
  const bool none = ones + zeros == 0;
  fail(ExitCode::data, fmt::format("{} {}", what, none ? "is empty" : "has one class only"),
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
