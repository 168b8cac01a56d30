#include "data/sandbox.h"

#include "data/file.h"
#include "engine/host_memory.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <new>
#include <optional>
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
constexpr int child_patience_s = 2;
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

/// The child lives by its own rules: it ignores what the terminal sends to it and its parent, stays silent, dumps no core,
/// writes no file and takes no more memory than it may.
void settle_down() {
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
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) _exit(1);
  settle_down();
  Sink sink(fd);
  try {
    body(sink);
    sink.finish();
    _exit(0);
  } catch (const Error& error) {
    sink.refuse(error);
  } catch (const std::bad_alloc&) {
    sink.refuse(Error(
        ExitCode::data, "a file cannot be read: it takes more memory than it may",
        {.expected = fmt::format("{} or less, as sound files need", gigabytes(child_memory)), .found = to_text(host_memory())},
        std::source_location::current()));
  } catch (const std::exception& error) {
    sink.refuse(Error(ExitCode::bug, error.what(), {}, std::source_location::current()));
  }
  _exit(1);
}

/// A child that goes with its owner.
class Process {
 public:
  explicit Process(pid_t pid) : pid_(pid) {}
  Process(const Process&) = delete;
  ~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    reap();
  }

  /// Ends it once it has worked for so many seconds from now.
  void grant_time(int patience_s) const {
    clockid_t clock;
    timespec used;
    rlimit limit;
    if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return;
    if (::prlimit(pid_, RLIMIT_CPU, nullptr, &limit) != 0) return;
    limit.rlim_cur = std::min(limit.rlim_max, static_cast<rlim_t>(used.tv_sec + 1 + patience_s));
    ::prlimit(pid_, RLIMIT_CPU, &limit, nullptr);
  }

  /// Its status, once it has ended.
  int reap() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

Error stood_still(ExitCode code, const std::string& where, const std::string& found) {
  return Error(code, "a file cannot be read: reading it does not come forward",
               {.where = where, .found = found, .next = "see whether the disk answers; if it does, the file is damaged"},
               std::source_location::current());
}

/// Of a child that ended with `status` before its work was done.
Error died(ExitCode code, const std::string& where, int status, int patience_s) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
    return stood_still(code, where, fmt::format("nothing for {} s of work", patience_s));
  std::string found = "it ended early";
  if (WIFSIGNALED(status))
    found = fmt::format("it was ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  return Error(code, "a file cannot be read: it crashes the library that reads it",
               {.where = where,
                .found = std::move(found),
                .next = "where memory suffices, the file is damaged, or made to harm: get it again from its source"},
               std::source_location::current());
}

[[noreturn]] void fail_to_start(const char* what, const std::string& where = {}) {
  const int error = errno;
  fail(ExitCode::memory, "no process can be started to read a file",
       {.where = where, .found = fmt::format("{}: {}", what, std::system_category().message(error)), .next = remedy(error)});
}

/// Whose numbers SYS_read and the like are; 0 where nobody tried.
#if defined __x86_64__
constexpr std::uint32_t architecture = AUDIT_ARCH_X86_64;
#elif defined __aarch64__
constexpr std::uint32_t architecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t architecture = 0;
#endif

/// In the child: from now on every system call fails but those that memory, the one descriptor and its own end take. A kernel
/// that has no such filter leaves it the rules of settle_down(), as qemu does, which emulates none. So does a sanitizer, which
/// asks the system for a stack's bounds wherever one is unwound.
void allow_computing_alone() {
  if constexpr (architecture == 0) return;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return;
#endif
  constexpr int allowed[] = {SYS_read,   SYS_write,   SYS_brk,      SYS_mmap,  SYS_munmap,
                             SYS_mremap, SYS_madvise, SYS_mprotect, SYS_futex, SYS_exit_group};
  constexpr std::size_t count = std::size(allowed), before = 4;
  static sock_filter program[before + count + 2] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (std::size_t i = 0; i < count; ++i)
    program[before + i] =
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(allowed[i]), static_cast<unsigned char>(count - i), 0);
  program[before + count] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  program[before + count + 1] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_fprog filter{.len = std::size(program), .filter = program};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/// A worker's request, and its child's answer: one byte.
bool receive_word(int fd) {
  char word;
  ssize_t count;
  while ((count = ::read(fd, &word, 1)) < 0 && errno == EINTR) {
  }
  return count == 1;
}

bool send_word(int fd) {
  return ::send(fd, "", 1, MSG_NOSIGNAL) == 1;
}

/// The child's life ends with its parent's, which its end of the socket tells: the signal for that (PR_SET_PDEATHSIG) comes
/// when the thread has ended that made it, and a worker may serve others.
[[noreturn]] void run_worker(int fd, std::span<std::byte> memory, const std::function<void(std::span<std::byte>)>& serve) {
  constexpr int kept = 3;
  fd = ::fcntl(fd, F_DUPFD, kept + 1);
  settle_down();
  if (fd < 0 || ::dup2(fd, kept) < 0 || ::close_range(kept + 1, ~0u, 0) != 0) _exit(1);
  allow_computing_alone();
  try {
    while (receive_word(kept)) {
      serve(memory);
      write_fully(kept, "", 1);
    }
    _exit(0);
  } catch (...) {
    _exit(1);
  }
}

class ChildProcess : public Source {
 public:
  ChildProcess(pid_t pid, int fd, const Sandbox& sandbox) : process_(pid), fd_(fd), sandbox_(sandbox) {}
  ~ChildProcess() override { ::close(fd_); }

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
      if (ready == 0)
        throw stood_still(sandbox_.code, sandbox_.where, fmt::format("nothing for {} s", sandbox_.patience_ms / 1000));
      const ssize_t count = ::read(fd_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) throw died(sandbox_.code, sandbox_.where, process_.reap(), child_patience_s);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }

  Process process_;
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
  if (::pipe2(ends, O_CLOEXEC) != 0) fail_to_start("pipe", sandbox.where);
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
    fail_to_start("fork", sandbox.where);
  }
  ChildProcess child(pid, ends[0], sandbox);
  consume(child);
  child.expect_end();
}

struct Worker::Impl {
  std::span<std::byte> memory;
  std::optional<Process> process;
  int fd = -1;
  int patience_s = 0;
  std::optional<int> status;  // of a child that failed; none: it stands still

  explicit Impl(std::size_t bytes) {
    void* const shared = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) fail_to_start("mmap");
    memory = {static_cast<std::byte*>(shared), bytes};
  }
  Impl(const Impl&) = delete;
  ~Impl() {
    if (fd >= 0) ::close(fd);
    ::munmap(memory.data(), memory.size());
  }
};

Worker::Worker(std::size_t bytes, std::function<void(std::span<std::byte>)> serve) {
  require_reserve();
  impl_ = std::make_unique<Impl>(bytes);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail_to_start("socketpair");
  const pid_t pid = ::fork();
  if (pid == 0) run_worker(ends[1], impl_->memory, serve);
  impl_->fd = ends[0];
  ::close(ends[1]);
  if (pid < 0) fail_to_start("fork");
  impl_->process.emplace(pid);
}

Worker::~Worker() = default;
Worker::Worker(Worker&&) noexcept = default;
Worker& Worker::operator=(Worker&&) noexcept = default;

std::span<std::byte> Worker::memory() const {
  return impl_->memory;
}

bool Worker::request(int patience_s) {
  Impl& its = *impl_;
  its.patience_s = patience_s;
  its.process->grant_time(patience_s);
  if (send_word(its.fd)) {
    // The child's clock ends it long before; not where the machine does not let it run.
    constexpr int longest_wait_ms = 600'000;
    pollfd waiting{.fd = its.fd, .events = POLLIN, .revents = 0};
    int ready;
    while ((ready = ::poll(&waiting, 1, longest_wait_ms)) < 0 && errno == EINTR) {
    }
    if (ready > 0 && receive_word(its.fd)) return true;
    if (ready == 0) return false;
  }
  its.status = its.process->reap();
  return false;
}

Error Worker::error(ExitCode code, const std::string& where) const {
  if (!impl_->status) return stood_still(code, where, "nothing for 600 s");
  return died(code, where, *impl_->status, impl_->patience_s);
}

}  // namespace microtome
