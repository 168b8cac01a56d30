// Runs the programs as a user's shell does, on data small enough for seconds.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace microtome {

struct Ended {
  int code = -1;  // 128 + signal where one ended the program
  std::string out, err;
};

/// A program of ours in the background: words[0] is its name.
class Process {
 public:
  /// `before` runs in it, before it becomes the program.
  explicit Process(const std::vector<std::string>& words, std::optional<std::size_t> file_size_limit = {},
                   const std::function<void()>& before = {});
  ~Process();
  Process(const Process&) = delete;

  void send(int signal) const;
  Ended wait();
  pid_t id() const { return child_; }

 private:
  pid_t child_ = 0;
  std::filesystem::path folder_;
};

Ended run(const std::vector<std::string>& words, std::optional<std::size_t> file_size_limit = {},
          const std::function<void()>& before = {});

/// The process' first child; 0 where it has none.
pid_t child_of(const Process& process);

/// Whether pages have charts here.
bool has_gnuplot();

/// Waits until `condition` holds; false after a minute.
bool wait_until(const std::function<bool()>& condition);

/// A folder that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

bool contains(const std::string& text, const std::string& part);

std::string text_of(const std::filesystem::path& file);
void write_text(const std::filesystem::path& file, const std::string& text);
std::vector<std::string> lines_of(const std::filesystem::path& file);

/// Six files in PCam's format: 80 + 24 + 24 patches of 36x36, the least that b6 takes, whose brightness
/// says something of their class.
void write_small_pcam(const std::filesystem::path& folder, std::uint64_t seed = 0);

}  // namespace microtome
