#include "tools/cli/program.h"

#include "data/file.h"
#include "engine/check.h"
#include "engine/host_memory.h"
#include "engine/vendor_call.h"
#include "kernels/backend.h"
#include "tools/cli/commit.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <initializer_list>
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

/// A path in a folder that is closed to us, a name too long, links in a circle.
Error unusable(const std::filesystem::filesystem_error& thrown) {
  const std::error_code& reason = thrown.code();
  return {code_of(reason.value(), ExitCode::usage),
          "a file or folder cannot be reached",
          {.where = thrown.path1().string(),
           .found = reason.message(),
           .next = remedy(reason.value(), "see whether the path is right and may be used")},
          std::source_location::current()};
}

/// Where one of the standard streams is closed, the next file that is opened would become it, and get what is printed.
void open_standard_streams() {
  for (int fd = 0; fd <= 2;) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
      ++fd;
    else if (::open("/dev/null", O_RDWR) < 0)
      return;
  }
}

/// What a plan counts on once it is freed must not stay with the C library, which keeps blocks of up to 32 MB when it has seen
/// some go. And where address space is limited, threads share one heap: each of their own would reserve 64 MiB.
void give_freed_memory_back() {
#ifdef __GLIBC__
  constexpr int large = 4 << 20;
  mallopt(M_MMAP_THRESHOLD, large);
  mallopt(M_TRIM_THRESHOLD, large);
  if (host_memory().limited) mallopt(M_ARENA_MAX, 1);
#endif
}

char program_name[64];  // for those who may not allocate

/// On stderr, without allocating.
void say_last(std::initializer_list<const char*> parts) {
  for (const char* part : parts)
    if (::write(STDERR_FILENO, part, std::strlen(part)) < 0) return;
}

std::terminate_handler usual_end = std::abort;
thread_local bool memory_ended = false;

[[noreturn]] void note_lack_of_memory() {
  memory_ended = true;
  throw std::bad_alloc();
}

/// Where memory ends inside what must not throw, in the C++ library's paths for one, there is nobody left to catch it, and what
/// was thrown is not always to be had.
[[noreturn]] void end_without_memory() {
  bool lacked = false;
  try {
    const std::exception_ptr thrown = std::current_exception();
    lacked = !thrown && std::uncaught_exceptions() > 0 && memory_ended;
    if (thrown) std::rethrow_exception(thrown);
  } catch (const std::bad_alloc&) {
    lacked = true;
  } catch (...) {
  }
  if (lacked) {
    say_last(
        {program_name, ": error: out of memory\n  next:     more memory, or, where a network runs, a smaller --batch-size\n"});
    _exit(static_cast<int>(ExitCode::memory));
  }
  usual_end();
  std::abort();
}

/// oneDNN writes its code, and libhdf5 and libcrypto their lists, wherever an allocation that failed has led.
void explain_crash(int signal, siginfo_t* info, void*) {
  const char* library = VendorCall::current();
  if (!library) {
    std::signal(signal, SIG_DFL);  // one of ours: comes again on return
    return;
  }
  constexpr std::uintptr_t first_page = 1 << 16;
  const bool null = reinterpret_cast<std::uintptr_t>(info->si_addr) < first_page;
  say_last({program_name, ": error: ", library,
            " has crashed\n  found:    ", null ? "it uses memory that it did not get" : "it reaches beyond its memory",
            "\n  next:     more memory (ulimit -v, sysctl vm.max_map_count), or, where a network runs, a smaller --batch-size",
            null ? "\n" : "; where memory is not short it is a defect, of the library or of ours\n"});
  _exit(static_cast<int>(ExitCode::memory));
}

/// libhdf5 calls exit() where its lists cannot grow.
void explain_exit() {
  const char* library = VendorCall::current();
  if (!library) return;
  say_last({program_name, ": error: ", library, " has ended the program\n  next:     more memory\n"});
  _exit(static_cast<int>(ExitCode::memory));
}

/// A sanitizer has handlers of its own, and knows better.
void listen_to_crashes() {
  static char stack[1 << 16];
  const stack_t own{.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof stack};
  ::sigaltstack(&own, nullptr);
  struct sigaction action = {}, before;
  action.sa_sigaction = explain_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS})
    if (::sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_DFL) ::sigaction(signal, &action, nullptr);
}

}  // namespace

int run_program(std::string_view name, const std::function<int()>& body) {
  name.copy(program_name, sizeof program_name - 1);
  usual_end = std::set_terminate(end_without_memory);
  std::set_new_handler(note_lack_of_memory);
  listen_to_crashes();
  std::atexit(explain_exit);
  open_standard_streams();
  give_freed_memory_back();
  // A file size limit then fails a write, which is reported like a full disk, instead of killing the process.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  Error error(ExitCode::bug, "", {}, std::source_location::current());
  constexpr int reader_gone = 128 + SIGPIPE;  // describe | head
  try {
    require_reserve();
    const int code = body();
    if (std::fflush(stdout) == 0) return code;
    if (errno == EPIPE) return reader_gone;
    error = unwritten(errno);
  } catch (const std::filesystem::filesystem_error& thrown) {
    error = unusable(thrown);
  } catch (const std::system_error& thrown) {
    const int reason = thrown.code().value();
    if (reason == EPIPE) return reader_gone;
    if (reason == EAGAIN)
      error = Error(ExitCode::memory, "a thread or a process cannot be started",
                    {.found = fmt::format("{}; {}", thrown.what(), to_text(host_memory())),
                     .next = "higher limits (ulimit -v, ulimit -u), or fewer threads: OMP_NUM_THREADS"},
                    std::source_location::current());
    else
      error = reason == ENOSPC || reason == EFBIG ? unwritten(reason)
                                                  : Error(ExitCode::bug, thrown.what(), {}, std::source_location::current());
  } catch (const Error& thrown) {
    error = thrown;
  } catch (const std::bad_alloc&) {
    error = Error(ExitCode::memory, "out of memory",
                  {.found = to_text(host_memory()), .next = "more memory, or, where a network runs, a smaller --batch-size"},
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

std::string version_of(std::string_view program) {
  const auto or_why = [](auto&& ask) -> std::string {
    try {
      return ask();
    } catch (const Error& error) {
      const std::string& found = error.report().found;
      return error.what() + (found.empty() ? "" : fmt::format(" ({})", found));
    }
  };
  const std::string cpu = or_why([] { return std::string(cpu_instructions()); });
  const std::string cuda = or_why([]() -> std::string {
    std::string why;
    const int devices = cuda_device_count(&why);
    return devices == 0 ? why : fmt::format("{} GPU{}", devices, devices == 1 ? "" : "s");
  });
  return fmt::format("{} (Microtome {}, commit {})\n  cpu   {}\n  cuda  {}\n", program, MICROTOME_VERSION, commit(), cpu, cuda);
}

std::size_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

}  // namespace microtome
