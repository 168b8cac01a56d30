#include "data/sandbox.h"

#include "engine/host_memory.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>
#include <utility>

namespace microtome {

namespace {

enum class Kind : std::uint32_t { bytes, error, end };

struct Frame {
  Kind kind;
  std::uint32_t reserved = 0;
  std::uint64_t size = 0;
};

/// What the child may use beyond what it inherits: chunks and caches of a sound file need far less.
constexpr rlim_t child_memory = rlim_t{4} << 30;
/// Processor seconds that may pass without a byte: some damage sends libhdf5 round in circles. Waiting for a disk costs none.
constexpr rlim_t child_patience_s = 2;
constexpr std::size_t longest_text = 1 << 20;

void write_fully(int fd, const void* from, std::size_t count) {
  const char* at = static_cast<const char*>(from);
  while (count > 0) {
    const ssize_t written = ::write(fd, at, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) _exit(1);  // the parent has gone
    at += written;
    count -= static_cast<std::size_t>(written);
  }
}

rlim_t address_space_in_use() {
  // statm's first number: pages. No stream of the C++ library: another thread may hold its locks.
  char text[64] = {};
  const int fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t count = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  if (count <= 0) return 0;
  return static_cast<rlim_t>(std::strtoull(text, nullptr, 10)) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

void lower_limit(int resource, rlim_t to) {
  rlimit limit;
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  limit.rlim_cur = std::min(limit.rlim_cur, to);
  ::setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

/// In the child: the clock that ends it starts anew.
void grant_time() {
  rusage used;
  if (::getrusage(RUSAGE_SELF, &used) != 0) return;
  const auto seconds = static_cast<rlim_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1);
  rlimit limit;
  if (::getrlimit(RLIMIT_CPU, &limit) != 0) return;
  limit.rlim_cur = std::min(limit.rlim_max, seconds + child_patience_s);
  ::setrlimit(RLIMIT_CPU, &limit);
}

/// The child lives by its own rules: it dies with its parent, ignores what the terminal sends to both, stays silent, dumps no
/// core, writes no file and takes no more memory than it may.
void settle_down(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) _exit(1);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) std::signal(signal, SIG_IGN);
  sigset_t fatal;
  sigemptyset(&fatal);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPIPE, SIGXCPU}) {
    std::signal(signal, SIG_DFL);
    sigaddset(&fatal, signal);
  }
  ::sigprocmask(SIG_UNBLOCK, &fatal, nullptr);  // the parent may wait for some of them in a thread
  const int silence = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (silence >= 0) {
    for (int fd = 0; fd <= 2; ++fd) ::dup2(silence, fd);
  }
  lower_limit(RLIMIT_CORE, 0);
  lower_limit(RLIMIT_FSIZE, 0);
  if (const rlim_t used = address_space_in_use(); used > 0) lower_limit(RLIMIT_AS, used + child_memory);
  grant_time();
}

[[noreturn]] void run_child(int fd, pid_t parent, const std::function<void(Sink&)>& body) {
  settle_down(parent);
  Sink sink(fd);
  try {
    body(sink);
    sink.finish();
    _exit(0);
  } catch (const Error& error) {
    sink.refuse(error);
  } catch (const std::bad_alloc&) {
    sink.refuse(Error(ExitCode::data, "reading it takes more memory than any sound file of its kind", {},
                      std::source_location::current()));
  } catch (const std::exception& error) {
    sink.refuse(Error(ExitCode::bug, error.what(), {}, std::source_location::current()));
  }
  _exit(1);
}

class ChildProcess : public Source {
 public:
  ChildProcess(pid_t pid, int fd, const Sandbox& sandbox) : pid_(pid), fd_(fd), sandbox_(sandbox) {}
  ChildProcess(const ChildProcess&) = delete;
  ~ChildProcess() override {
    ::close(fd_);
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      reap();
    }
  }

  void read(std::span<std::byte> bytes) override {
    while (!bytes.empty()) {
      if (left_ == 0) next_frame(Kind::bytes);
      const std::size_t count = std::min<std::size_t>(bytes.size(), left_);
      receive(bytes.first(count));
      left_ -= count;
      bytes = bytes.subspan(count);
    }
  }

  void expect_end() {
    require(left_ == 0, "sandbox: the child sent more than was read");
    next_frame(Kind::end);
  }

 private:
  void next_frame(Kind wanted) {
    Frame frame{};
    receive(std::as_writable_bytes(std::span(&frame, 1)));
    left_ = frame.size;
    if (frame.kind == Kind::error) rethrow();
    require(frame.kind == wanted, "sandbox: parent and child disagree on what comes next");
  }

  [[noreturn]] void rethrow() {
    const auto code = take_raw<ExitCode>();
    std::string texts[5];
    for (std::string& text : texts) {
      text.resize(std::min(take_raw<std::uint64_t>(), std::uint64_t{longest_text}));
      receive(std::as_writable_bytes(std::span(text)));
    }
    Report report{.where = std::move(texts[1]),
                  .expected = std::move(texts[2]),
                  .found = std::move(texts[3]),
                  .next = std::move(texts[4])};
    if (report.where.empty()) report.where = sandbox_.where;
    fail(code == ExitCode::bug ? code : sandbox_.code, texts[0], std::move(report));
  }

  template <class T>
  T take_raw() {
    T value;
    receive(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  void receive(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
      const int ready = ::poll(&waiting, 1, sandbox_.patience_ms);
      if (ready < 0 && errno == EINTR) continue;
      if (ready == 0) give_up(fmt::format("nothing for {} s", sandbox_.patience_ms / 1000));
      const ssize_t count = ::read(fd_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) report_death();
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }

  [[noreturn]] void give_up(const std::string& found) const {
    fail(sandbox_.code, "a file cannot be read: reading it does not come forward",
         {.where = sandbox_.where, .found = found, .next = "see whether the disk answers; if it does, the file is damaged"});
  }

  [[noreturn]] void report_death() {
    const int status = reap();
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) give_up(fmt::format("nothing for {} s of work", child_patience_s));
    std::string found = "it ended early";
    if (WIFSIGNALED(status))
      found = fmt::format("it was ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
    fail(sandbox_.code, "a file cannot be read: it crashes the library that reads it",
         {.where = sandbox_.where,
          .found = std::move(found),
          .next = "the file is damaged, or made to harm: get it again from its source"});
  }

  int reap() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

  pid_t pid_;
  int fd_;
  const Sandbox& sandbox_;
  std::uint64_t left_ = 0;  // of the present frame
};

}  // namespace

void Sink::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;  // the reader asks for no frame then
  grant_time();
  const Frame frame{.kind = Kind::bytes, .size = bytes.size()};
  write_fully(fd_, &frame, sizeof frame);
  write_fully(fd_, bytes.data(), bytes.size());
}

void Sink::put(const std::string& text) {
  put(std::uint64_t{text.size()});
  write(std::as_bytes(std::span(text)));
}

void Sink::finish() {
  const Frame frame{.kind = Kind::end};
  write_fully(fd_, &frame, sizeof frame);
}

void Sink::refuse(const Error& error) {
  const Frame frame{.kind = Kind::error};
  write_fully(fd_, &frame, sizeof frame);
  const ExitCode code = error.code();
  write_fully(fd_, &code, sizeof code);
  const Report& report = error.report();
  for (const std::string& text : {std::string(error.what()), report.where, report.expected, report.found, report.next}) {
    const std::uint64_t size = std::min(text.size(), longest_text);
    write_fully(fd_, &size, sizeof size);
    write_fully(fd_, text.data(), size);
  }
}

std::string Source::take_text() {
  const auto size = take<std::uint64_t>();
  require(size <= longest_text, "sandbox: a text of ", size, " bytes");
  std::string text(size, '\0');
  read(std::as_writable_bytes(std::span(text)));
  return text;
}

void read_in_child(const Sandbox& sandbox, const std::function<void(Sink&)>& body,
                   const std::function<void(Source&)>& consume) {
  require_reserve();  // what a library does without memory would be blamed on the file
  int ends[2];
  const auto refuse = [](const char* what) {
    fail(ExitCode::memory, "no process can be started to read a file",
         {.found = fmt::format("{}: {}", what, std::system_category().message(errno))});
  };
  if (::pipe2(ends, O_CLOEXEC) != 0) refuse("pipe");
  ::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);  // fewer switches between the two; the default serves as well
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::close(ends[0]);
    run_child(ends[1], parent, body);
  }
  ::close(ends[1]);
  if (pid < 0) {
    ::close(ends[0]);
    refuse("fork");
  }
  ChildProcess child(pid, ends[0], sandbox);
  consume(child);
  child.expect_end();
}

}  // namespace microtome
