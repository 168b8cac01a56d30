// A file that says that one process at a time may do something, on file systems that lock files and on those that do not (NFS
// without lockd, Lustre without -o flock, mounted buckets). Where flock() works, the file is locked by it, which ends with the
// process however that ends. Elsewhere a second file beside it, FILE.owner, is made by one process alone (O_EXCL) and names
// it; who finds the file of a process of this machine that has ended takes it over, and one of another machine's is believed.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace microtome {

class FileLock {
 public:
  /// Makes the file where there is none. held() is false where another process has it; error() is then 0. It is errno where
  /// the file cannot be made or locked at all.
  explicit FileLock(const std::filesystem::path& file);
  ~FileLock();
  FileLock(const FileLock&) = delete;

  bool held() const { return fd_ >= 0; }
  int error() const { return error_; }
  /// Who has it, and what helps where that is a process which cannot be asked; empty where flock() alone knows.
  const std::string& owner() const { return owner_; }
  const std::string& remedy() const { return remedy_; }

 private:
  void own(const std::filesystem::path& file);

  int fd_ = -1, error_ = 0;
  std::filesystem::path owned_;  // FILE.owner, where it is ours
  std::string owner_, remedy_;
};

/// Whether a process has it. Makes nothing.
bool is_locked(const std::filesystem::path& file);

/// Where the owner stands on file systems that do not lock.
std::filesystem::path owner_file(const std::filesystem::path& lock);

}  // namespace microtome
