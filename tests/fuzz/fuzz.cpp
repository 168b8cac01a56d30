#include "fuzz/fuzz.h"

#include "engine/check.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace microtome::fuzz {

namespace fs = std::filesystem;

MemoryFile::MemoryFile() : fd_(::memfd_create("input", MFD_CLOEXEC)), path_(fmt::format("/proc/self/fd/{}", fd_)) {
  if (fd_ < 0) throw std::runtime_error("no file in memory");
}

MemoryFile::~MemoryFile() {
  ::close(fd_);
}

const fs::path& MemoryFile::hold(Input input) {
  if (::ftruncate(fd_, static_cast<off_t>(input.size())) != 0 ||
      ::pwrite(fd_, input.data(), input.size(), 0) != static_cast<ssize_t>(input.size()))
    throw std::runtime_error("a file in memory cannot be written");
  return path_;
}

const fs::path& MemoryFile::hold(std::string_view text) {
  return hold({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

Folder::Folder() {
  const fs::path memory = "/dev/shm";
  const bool in_memory = ::access(memory.c_str(), W_OK) == 0;
  std::string name = ((in_memory ? memory : fs::temp_directory_path()) / "microtome_fuzz_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder: " + name);
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void Folder::link(std::string_view name, const MemoryFile& file) const {
  fs::create_symlink(file.path(), path_ / name);
}

std::string written_by(const std::function<void(const fs::path&)>& write, std::string_view name) {
  const Folder folder;
  write(folder / name);
  std::ifstream in(folder / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool may_refuse(const std::function<void()>& call) {
  try {
    call();
    return true;
  } catch (const Error& error) {
    if (error.code() == ExitCode::bug) {
      std::fputs(to_text(error, "fuzz").c_str(), stderr);
      std::abort();
    }
    return false;
  }
}

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

}  // namespace microtome::fuzz
