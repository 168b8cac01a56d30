// One exception type, two doors.
//   require(n % g == 0, "conv: groups ", g, " must divide channels ", n)   a contract of ours; throws Error (exit code 1)
//   fail(ExitCode::data, "training images have the wrong shape", {...})   a user's mistake; the report says what helps
#pragma once

#include <fmt/core.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace microtome {

/// What a program of ours returns to the shell. 129, 130, 140, 142, 143 and 152 mean stopped after saving, by SIGHUP,
/// SIGINT, SIGUSR2, SIGALRM, SIGTERM and SIGXCPU.
enum class ExitCode {
  done = 0,
  bug = 1,
  usage = 2,
  data = 3,
  weights = 4,
  memory = 5,
  not_finite = 6,
  verdict = 7,
  machine = 8,
  in_use = 9,
};

/// The lines under an error's first one; empty ones are not printed.
struct Report {
  std::string where;  // file, dataset, row of the network
  std::string expected;
  std::string found;
  std::string next;  // the next command or action that helps
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& what, Report report, std::source_location at);

  ExitCode code() const { return code_; }
  const Report& report() const { return report_; }
  const std::source_location& at() const { return at_; }

  /// Adds what the catcher knows (a row and its shapes) in front of `where`; used while unwinding.
  Error& within(std::string_view outer);

 private:
  ExitCode code_;
  Report report_;
  std::source_location at_;
};

/// Of ExitCode::memory: it is memory that lacks, the host's or the device's, and not room on a disk.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

/// "program: error: what" and the indented lines of the report; a bug of ours also names file and line.
std::string to_text(const Error& error, std::string_view program);

[[noreturn]] void fail(ExitCode code, const std::string& what, Report report = {},
                       std::source_location at = std::source_location::current());

[[noreturn]] void fail_memory(const std::string& what, Report report = {},
                              std::source_location at = std::source_location::current());

/// A condition together with the place that stated it.
struct Condition {
  Condition(bool condition, std::source_location place = std::source_location::current()) : holds(condition), at(place) {}
  bool holds;
  std::source_location at;
};

template <class... Parts>
void require(Condition condition, const Parts&... parts) {
  if (condition.holds) return;
  std::string what;
  (what.append(fmt::format("{}", parts)), ...);
  fail(ExitCode::bug, what, {}, condition.at);
}

}  // namespace microtome
