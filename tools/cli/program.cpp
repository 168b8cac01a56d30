#include "tools/cli/program.h"

#include "engine/check.h"
#include "tools/cli/commit.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <new>
#include <system_error>

namespace microtome {
namespace {

/// What was printed did not get where it should.
Error unwritten(int reason) {
  return {ExitCode::memory,
          "cannot write the results to standard output",
          {.found = std::strerror(reason)},
          std::source_location::current()};
}

}  // namespace

int run_program(std::string_view name, const std::function<int()>& body) {
  // A file size limit then fails a write, which is reported like a full disk, instead of killing the process.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  Error error(ExitCode::bug, "", {}, std::source_location::current());
  constexpr int reader_gone = 128 + SIGPIPE;  // describe | head
  try {
    const int code = body();
    if (std::fflush(stdout) == 0) return code;
    if (errno == EPIPE) return reader_gone;
    error = unwritten(errno);
  } catch (const std::filesystem::filesystem_error& thrown) {
    const bool full = thrown.code() == std::errc::no_space_on_device;
    error = Error(
        full ? ExitCode::memory : ExitCode::data, "a file or folder cannot be reached",
        {.where = thrown.path1().string(),
         .found = thrown.code().message(),
         .next = full ? "make room on the disk, or name another folder" : "see whether it may be read and its folders entered"},
        std::source_location::current());
  } catch (const std::system_error& thrown) {
    const int reason = thrown.code().value();
    if (reason == EPIPE) return reader_gone;
    error = reason == ENOSPC || reason == EFBIG ? unwritten(reason)
                                                : Error(ExitCode::bug, thrown.what(), {}, std::source_location::current());
  } catch (const Error& thrown) {
    error = thrown;
  } catch (const std::bad_alloc&) {
    error = Error(ExitCode::memory, "out of memory", {.next = "a smaller --batch-size, or a machine with more memory"},
                  std::source_location::current());
  } catch (const std::exception& thrown) {
    error = Error(ExitCode::bug, thrown.what(), {}, std::source_location::current());
  }
  std::fputs(to_text(error, name).c_str(), stderr);
  return static_cast<int>(error.code());
}

std::string_view commit() {
  return MICROTOME_COMMIT;
}

std::size_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

}  // namespace microtome
