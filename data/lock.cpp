#include "data/lock.h"

#include "data/file.h"
#include "engine/check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <sstream>

namespace microtome {

namespace fs = std::filesystem;

namespace {

/// The file system does not lock; Linux's own ENOTSUPP, which has no name here, comes from network file systems.
bool locks_nothing(int error) {
  constexpr int enotsupp = 524;
  return error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL || error == enotsupp;
}

/// A short file of /proc, or what a link there leads to; empty where there is none.
std::string proc_text(const char* path) {
  std::array<char, 4096> text{};
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  const ssize_t count = ::read(fd, text.data(), text.size());
  ::close(fd);
  return count > 0 ? std::string(text.data(), static_cast<std::size_t>(count)) : "";
}

std::string link_text(const char* path) {
  std::array<char, 256> text{};
  const ssize_t count = ::readlink(path, text.data(), text.size());
  return count > 0 ? std::string(text.data(), static_cast<std::size_t>(count)) : "";
}

/// A process, so that neither its number given to another one nor another machine's of the same number is taken for it.
struct Owner {
  std::string machine = "?";  // its name, for people
  std::string world = "?";    // since its start, and as the process sees it: a container counts processes anew
  long process = 0;
  std::string started = "?";  // in ticks since the machine's start

  bool operator==(const Owner&) const = default;
};

std::string start_of(long process) {
  const std::string stat = proc_text(fmt::format("/proc/{}/stat", process).c_str());
  const std::size_t name = stat.rfind(')');  // which may hold anything
  if (name == std::string::npos) return "?";
  std::istringstream fields(stat.substr(name + 1));
  std::string field;
  constexpr int start_time = 20;  // behind the name
  for (int i = 0; i < start_time && fields >> field;) ++i;
  return fields ? field : "?";
}

Owner this_process() {
  Owner owner;
  utsname names;
  if (::uname(&names) == 0 && names.nodename[0] != '\0') owner.machine = names.nodename;
  std::string boot = proc_text("/proc/sys/kernel/random/boot_id");
  while (boot.ends_with('\n')) boot.pop_back();
  owner.world = fmt::format("{}/{}", boot, link_text("/proc/self/ns/pid"));
  owner.process = ::getpid();
  owner.started = start_of(owner.process);
  return owner;
}

std::string to_text(const Owner& owner) {
  return fmt::format("{}\n{}\n{}\n{}\n", owner.machine, owner.world, owner.process, owner.started);
}

/// Nothing where there is no file; an Owner of process 0 where its writer has not come to an end of it.
std::optional<Owner> read_owner(const fs::path& file) {
  const std::string text = proc_text(file.c_str());
  if (std::error_code unknown; text.empty() && !fs::exists(file, unknown)) return std::nullopt;
  std::istringstream lines(text);
  Owner owner;
  if (!(std::getline(lines, owner.machine) && std::getline(lines, owner.world) && lines >> owner.process &&
        lines >> owner.started))
    return Owner{};
  return owner;
}

bool has_ended(const Owner& owner) {
  const Owner me = this_process();
  if (owner.process <= 0 || owner.world != me.world) return false;
  return start_of(owner.process) != owner.started || (::kill(static_cast<pid_t>(owner.process), 0) != 0 && errno == ESRCH);
}

/// Takes away what a process that has ended left; another one that tries the same may have been faster, and then its file is
/// put back.
void take_away(const fs::path& file, const Owner& dead) {
  const fs::path aside = fmt::format("{}.{}", file.string(), ::getpid());
  if (::rename(file.c_str(), aside.c_str()) != 0) return;
  if (read_owner(aside) != dead) static_cast<void>(::link(aside.c_str(), file.c_str()));
  ::unlink(aside.c_str());
}

}  // namespace

fs::path owner_file(const fs::path& lock) {
  return lock.string() + ".owner";
}

FileLock::FileLock(const fs::path& file) {
  const int fd = file_operations().open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) {
    error_ = errno;
    return;
  }
  if (file_operations().flock(fd, LOCK_EX | LOCK_NB) == 0) {
    fd_ = fd;
    return;
  }
  const int reason = errno;
  if (locks_nothing(reason)) {
    own(file);
    if (!owned_.empty()) fd_ = fd;
  } else if (reason != EWOULDBLOCK) {
    error_ = reason;
  }
  if (fd_ < 0) ::close(fd);
}

void FileLock::own(const fs::path& file) {
  const fs::path mark = owner_file(file);
  constexpr int tries = 3;  // one, and once more after each of two that others were faster at
  for (int i = 0; i < tries; ++i) {
    const int fd = file_operations().open(mark.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      const std::string text = to_text(this_process());
      errno = EIO;  // of a write that is cut short without one
      bool whole = file_operations().write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
      if (!whole) error_ = errno;
      if (file_operations().close(fd) != 0 && whole) whole = false, error_ = errno;
      if (whole)
        owned_ = mark;
      else
        ::unlink(mark.c_str());
      return;
    }
    if (errno != EEXIST) {
      error_ = errno;
      return;
    }
    const std::optional<Owner> owner = read_owner(mark);
    if (!owner) continue;  // it has just gone
    if (has_ended(*owner)) {
      take_away(mark, *owner);
      continue;
    }
    owner_ = owner->process == 0 ? fmt::format("a process that is not named, by {}", mark.string())
                                 : fmt::format("process {} on {}, by {}", owner->process, owner->machine, mark.string());
    remedy_ = fmt::format("where that process has ended, rm {}: this file system does not lock files", mark.string());
    return;
  }
}

FileLock::~FileLock() {
  if (!owned_.empty()) ::unlink(owned_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

bool is_locked(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool locked = file_operations().flock(fd, LOCK_SH | LOCK_NB) != 0;
  const int reason = errno;
  ::close(fd);
  if (!locked || !locks_nothing(reason)) return locked;
  const std::optional<Owner> owner = read_owner(owner_file(file));
  return owner && !has_ended(*owner);
}

}  // namespace microtome
