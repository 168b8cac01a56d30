// A file system that does not lock, for LD_PRELOAD: every flock() fails with NO_FLOCK_ERRNO.
#include <sys/file.h>

#include <cerrno>
#include <cstdlib>

extern "C" int flock(int, int) noexcept {
  const char* code = std::getenv("NO_FLOCK_ERRNO");
  errno = code ? std::atoi(code) : ENOLCK;
  return -1;
}
