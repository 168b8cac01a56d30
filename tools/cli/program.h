// What every program shares: how it ends, and what it knows of itself.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace microtome {

/// Runs `body` and returns its exit code, or prints what it threw on stderr and returns the code that INTERFACE gives it:
/// Error its own, std::bad_alloc 5, anything else 1.
int run_program(std::string_view name, const std::function<int()>& body);

/// The git id of the sources this program was built from, "-dirty" behind it where they were changed; "unknown" outside git.
std::string_view commit();

/// What --version prints: the version and the commit, and a line each on the CPU's code and on a GPU.
std::string version_of(std::string_view program);

/// The most memory this process has held so far.
std::size_t peak_memory_bytes();

}  // namespace microtome
