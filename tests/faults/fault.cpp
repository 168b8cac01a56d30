// A machine on which one call goes wrong, for LD_PRELOAD. FAULT_CALL names a group of functions, FAULT_AT which of its calls,
// counted from 1 over the program and all processes that it starts (FAULT_PROGRAM: over those of that name), fails once with
// FAULT_ERRNO; with FAULT_KILL that call is made (a write by half) and the whole tree of processes killed. Counting begins
// where main does: what the loader and libraries' constructors do before it is not ours. FAULT_STATE is the file of the
// counters; see faults.py, which runs this.
//
// What stands between a program and libc is seen, calls inside libc are not: its stdio, its heap's own mmap. Reads and writes
// count where they are of files: those of pipes and terminals do not fail of a disk.
#include <dirent.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
}

namespace {

constexpr std::size_t report_bytes = 16384, stacks = std::size_t{1} << 18;

/// One for all processes of a tree; as faults.py reads it.
struct State {
  std::atomic<std::uint64_t> calls, failed, root;
  char report[report_bytes];  // where the failed call came from
  struct {
    std::atomic<std::uint64_t> hash, first;
  } seen[stacks];  // with FAULT_STACKS: the call stacks, and which call was the first of each
};

enum class Group : int { none, open, read, write, fsync, rename, close, mmap, fork, malloc };
constexpr const char* group_names[] = {"none", "open", "read", "write", "fsync", "rename", "close", "mmap", "fork", "malloc"};

struct Settings {
  State* state = nullptr;
  Group group = Group::none;
  std::uint64_t at = 0;
  int error = 0;
  bool kill = false, stacks = false;
  std::uintptr_t code_begin = 0, code_end = 0;  // the program's own
};
Settings settings;
bool armed = false;
__attribute__((tls_model("initial-exec"))) thread_local bool inside = false;

/// The function that would have been called without us.
template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}
#define REAL(name) static auto* const real_##name = real<decltype(name)>(#name)

/// Within it calls are not counted: those of backtrace and of this library.
struct Aside {
  Aside() { inside = true; }
  ~Aside() { inside = false; }
};

/// dl_iterate_phdr begins with the program.
int find_code(dl_phdr_info* program, std::size_t, void*) {
  for (int i = 0; i < program->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = program->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
    settings.code_begin = program->dlpi_addr + part.p_vaddr;
    settings.code_end = settings.code_begin + part.p_memsz;
  }
  return 1;
}

void arm() {
  const Aside aside;
  const char* file = std::getenv("FAULT_STATE");
  const char* group = std::getenv("FAULT_CALL");
  const char* only = std::getenv("FAULT_PROGRAM");
  if (!file || !group) return;
  if (only && std::string_view(only) != program_invocation_short_name) return;
  const int fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0));
  void* memory = mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (memory == MAP_FAILED) abort();
  settings.state = static_cast<State*>(memory);
  for (int i = 0; i < static_cast<int>(std::size(group_names)); ++i)
    if (std::string_view(group) == group_names[i]) settings.group = static_cast<Group>(i);
  const auto number = [](const char* name) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : 0;
  };
  settings.at = number("FAULT_AT");
  settings.error = static_cast<int>(number("FAULT_ERRNO"));
  settings.kill = number("FAULT_KILL") != 0;
  settings.stacks = number("FAULT_STACKS") != 0;
  dl_iterate_phdr(find_code, nullptr);
  std::uint64_t none = 0;
  settings.state->root.compare_exchange_strong(none, static_cast<std::uint64_t>(getpid()));
  void* frames[1];
  backtrace(frames, 1);  // loads what it needs
  armed = true;
}

/// A stack is told from others by what of it is the program's own code, and by the innermost frames of all.
void remember_stack(std::uint64_t call) {
  const Aside aside;
  constexpr int deepest = 40, innermost = 4;
  void* frames[deepest];
  const int depth = backtrace(frames, deepest);
  std::uint64_t hash = 1469598103934665603u;
  for (int i = 2; i < depth; ++i) {
    const auto at = reinterpret_cast<std::uintptr_t>(frames[i]);
    if (i < 2 + innermost || (at >= settings.code_begin && at < settings.code_end)) hash = (hash ^ at) * 1099511628211u;
  }
  if (hash == 0) hash = 1;
  for (std::size_t i = hash % stacks, tries = 0; tries < stacks; i = (i + 1) % stacks, ++tries) {
    std::uint64_t none = 0;
    if (settings.state->seen[i].hash.compare_exchange_strong(none, hash)) {
      settings.state->seen[i].first = call;
      return;
    }
    if (none == hash) return;
  }
}

void report(const char* function) {
  const Aside aside;
  constexpr int deepest = 40;
  void* frames[deepest];
  const int depth = backtrace(frames, deepest);
  char* text = settings.state->report;
  std::size_t used = static_cast<std::size_t>(std::snprintf(text, report_bytes, "%s in process %d\n", function, getpid()));
  for (int i = 2; i < depth && used + 600 < report_bytes; ++i) {
    Dl_info info;
    if (dladdr(frames[i], &info) == 0 || !info.dli_fname) continue;
    const auto offset = reinterpret_cast<std::uintptr_t>(frames[i]) - reinterpret_cast<std::uintptr_t>(info.dli_fbase);
    used += static_cast<std::size_t>(std::snprintf(text + used, 600, "%.200s+0x%zx %.300s\n", info.dli_fname, offset,
                                                   info.dli_sname ? info.dli_sname : "?"));
  }
}

/// Whether this call of the group is the one.
bool strikes(Group group, const char* function) {
  if (!armed || inside || group != settings.group) return false;
  const std::uint64_t call = ++settings.state->calls;
  if (settings.stacks) remember_stack(call);
  if (call != settings.at) return false;
  ++settings.state->failed;
  report(function);
  return true;
}

[[noreturn]] void kill_tree() {
  kill(static_cast<pid_t>(settings.state->root.load()), SIGKILL);
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

bool is_file(int fd) {
  const int before = errno;
  struct stat status;
  const bool file = fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
  errno = before;
  return file;
}

/// What the program gets in the place of `call`'s result.
template <class Result, class Call>
Result pass(Group group, const char* function, Result failed, Call call) {
  if (!strikes(group, function)) return call();
  if (settings.kill) {
    call();
    kill_tree();
  }
  errno = settings.error;
  return failed;
}

mode_t mode_of(int flags, va_list more) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

}  // namespace

extern "C" {

int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, int (*init)(int, char**, char**), void (*fini)(),
                      void (*rtld_fini)(), void* stack_end) {
  static int (*program)(int, char**, char**);
  program = main;
  const auto begin = [](int count, char** words, char** environment) {
    arm();
    return program(count, words, environment);
  };
  REAL(__libc_start_main);
  return real___libc_start_main(begin, argc, argv, init, fini, rtld_fini, stack_end);
}

#define OPEN(name)                                                                       \
  int name(const char* path, int flags, ...) {                                           \
    REAL(name);                                                                          \
    va_list more;                                                                        \
    va_start(more, flags);                                                               \
    const mode_t mode = mode_of(flags, more);                                            \
    va_end(more);                                                                        \
    return pass(Group::open, #name, -1, [&] { return real_##name(path, flags, mode); }); \
  }
#define OPENAT(name)                                                                             \
  int name(int folder, const char* path, int flags, ...) {                                       \
    REAL(name);                                                                                  \
    va_list more;                                                                                \
    va_start(more, flags);                                                                       \
    const mode_t mode = mode_of(flags, more);                                                    \
    va_end(more);                                                                                \
    return pass(Group::open, #name, -1, [&] { return real_##name(folder, path, flags, mode); }); \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

FILE* fopen(const char* path, const char* mode) {
  REAL(fopen);
  return pass(Group::open, "fopen", static_cast<FILE*>(nullptr), [&] { return real_fopen(path, mode); });
}
FILE* fopen64(const char* path, const char* mode) {
  REAL(fopen64);
  return pass(Group::open, "fopen64", static_cast<FILE*>(nullptr), [&] { return real_fopen64(path, mode); });
}
DIR* opendir(const char* path) {
  REAL(opendir);
  return pass(Group::open, "opendir", static_cast<DIR*>(nullptr), [&] { return real_opendir(path); });
}
int pipe2(int ends[2], int flags) noexcept {
  REAL(pipe2);
  return pass(Group::open, "pipe2", -1, [&] { return real_pipe2(ends, flags); });
}

ssize_t read(int fd, void* bytes, std::size_t count) {
  REAL(read);
  if (!armed || !is_file(fd)) return real_read(fd, bytes, count);
  return pass(Group::read, "read", ssize_t{-1}, [&] { return real_read(fd, bytes, count); });
}
#define PREAD(name)                                                                                  \
  ssize_t name(int fd, void* bytes, std::size_t count, off64_t at) {                                 \
    REAL(name);                                                                                      \
    return pass(Group::read, #name, ssize_t{-1}, [&] { return real_##name(fd, bytes, count, at); }); \
  }
PREAD(pread)
PREAD(pread64)
struct dirent* readdir(DIR* folder) {
  REAL(readdir);
  return pass(Group::read, "readdir", static_cast<struct dirent*>(nullptr), [&] { return real_readdir(folder); });
}
struct dirent64* readdir64(DIR* folder) {
  REAL(readdir64);
  return pass(Group::read, "readdir64", static_cast<struct dirent64*>(nullptr), [&] { return real_readdir64(folder); });
}
ssize_t readlink(const char* path, char* bytes, std::size_t count) noexcept {
  REAL(readlink);
  return pass(Group::read, "readlink", ssize_t{-1}, [&] { return real_readlink(path, bytes, count); });
}

ssize_t write(int fd, const void* bytes, std::size_t count) {
  REAL(write);
  if (!armed || !is_file(fd) || !strikes(Group::write, "write")) return real_write(fd, bytes, count);
  if (settings.kill) {
    real_write(fd, bytes, count / 2);
    kill_tree();
  }
  errno = settings.error;
  return -1;
}
#define PWRITE(name)                                                                                  \
  ssize_t name(int fd, const void* bytes, std::size_t count, off64_t at) {                            \
    REAL(name);                                                                                       \
    return pass(Group::write, #name, ssize_t{-1}, [&] { return real_##name(fd, bytes, count, at); }); \
  }
PWRITE(pwrite)
PWRITE(pwrite64)
ssize_t writev(int fd, const struct iovec* parts, int count) {
  REAL(writev);
  if (!armed || !is_file(fd)) return real_writev(fd, parts, count);
  return pass(Group::write, "writev", ssize_t{-1}, [&] { return real_writev(fd, parts, count); });
}
int ftruncate(int fd, off_t size) noexcept {
  REAL(ftruncate);
  return pass(Group::write, "ftruncate", -1, [&] { return real_ftruncate(fd, size); });
}
int ftruncate64(int fd, off64_t size) noexcept {
  REAL(ftruncate64);
  return pass(Group::write, "ftruncate64", -1, [&] { return real_ftruncate64(fd, size); });
}
int mkdir(const char* path, mode_t mode) noexcept {
  REAL(mkdir);
  return pass(Group::write, "mkdir", -1, [&] { return real_mkdir(path, mode); });
}

int fsync(int fd) {
  REAL(fsync);
  return pass(Group::fsync, "fsync", -1, [&] { return real_fsync(fd); });
}
int fdatasync(int fd) {
  REAL(fdatasync);
  return pass(Group::fsync, "fdatasync", -1, [&] { return real_fdatasync(fd); });
}

int rename(const char* from, const char* to) noexcept {
  REAL(rename);
  return pass(Group::rename, "rename", -1, [&] { return real_rename(from, to); });
}

/// As Linux does: the descriptor goes, whatever it says.
int close(int fd) {
  REAL(close);
  if (!armed || !is_file(fd)) return real_close(fd);
  const int result = pass(Group::close, "close", -1, [&] { return real_close(fd); });
  const int error = errno;
  if (result < 0) real_close(fd);  // on Linux it is closed all the same: what fails is what was still to be written
  errno = error;
  return result;
}

void* mmap(void* at, std::size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  REAL(mmap);
  return pass(Group::mmap, "mmap", MAP_FAILED, [&] { return real_mmap(at, size, protection, flags, fd, offset); });
}
void* mmap64(void* at, std::size_t size, int protection, int flags, int fd, off64_t offset) noexcept {
  REAL(mmap64);
  return pass(Group::mmap, "mmap64", MAP_FAILED, [&] { return real_mmap64(at, size, protection, flags, fd, offset); });
}

pid_t fork() noexcept {
  REAL(fork);
  return pass(Group::fork, "fork", pid_t{-1}, [&] { return real_fork(); });
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* with) noexcept {
  REAL(pthread_create);
  return pass(Group::fork, "pthread_create", settings.error,
              [&] { return real_pthread_create(thread, attributes, run, with); });
}
int posix_spawn(pid_t* id, const char* path, const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
                char* const words[], char* const environment[]) {
  REAL(posix_spawn);
  return pass(Group::fork, "posix_spawn", settings.error,
              [&] { return real_posix_spawn(id, path, actions, attributes, words, environment); });
}

void* malloc(std::size_t size) noexcept {
  return pass(Group::malloc, "malloc", static_cast<void*>(nullptr), [&] { return __libc_malloc(size); });
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  return pass(Group::malloc, "calloc", static_cast<void*>(nullptr), [&] { return __libc_calloc(count, size); });
}
void* realloc(void* old, std::size_t size) noexcept {
  if (size == 0) return __libc_realloc(old, size);  // frees
  return pass(Group::malloc, "realloc", static_cast<void*>(nullptr), [&] { return __libc_realloc(old, size); });
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  return pass(Group::malloc, "memalign", static_cast<void*>(nullptr), [&] { return __libc_memalign(alignment, size); });
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return pass(Group::malloc, "aligned_alloc", static_cast<void*>(nullptr), [&] { return __libc_memalign(alignment, size); });
}
int posix_memalign(void** to, std::size_t alignment, std::size_t size) noexcept {
  void* made =
      pass(Group::malloc, "posix_memalign", static_cast<void*>(nullptr), [&] { return __libc_memalign(alignment, size); });
  if (made) *to = made;
  return made ? 0 : ENOMEM;
}

}  // extern "C"
