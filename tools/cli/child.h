// One of our programs, run by another of them.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

class Child {
 public:
  /// Starts `program`, which lies beside this one, with these words behind its name; both of its streams go to the end of
  /// `log`, but stdout to `result`, anew, where there is one. It dies with us, even by kill -9. Throws Error(ExitCode::machine)
  /// where it cannot be started.
  Child(std::string_view program, const std::vector<std::string>& words, const std::filesystem::path& log,
        const std::filesystem::path& result = {});
  ~Child();  // kills it where it still runs
  Child(const Child&) = delete;

  bool running();
  void send(int signal) const;
  /// Its exit code, 128 + N where signal N ended it. Waits.
  int wait();
  /// Waits likewise, calling `meanwhile` ten times a second. False where a signal has told us to stop (see signals.h): so was
  /// the child then, and has ended.
  bool wait_unless_stopped(const std::function<void()>& meanwhile);

 private:
  void reap(int options);

  pid_t id_ = 0;
  bool ended_ = false;
  int code_ = 0;
};

/// The lines of the last error in a child's log, without the name of its program.
std::string last_words(const std::filesystem::path& log, const std::string& program);

}  // namespace microtome
