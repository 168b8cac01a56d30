#include "tools/cli/child.h"

#include "engine/check.h"
#include "tools/cli/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

namespace microtome {

Child::Child(std::string_view program, const std::vector<std::string>& words, const std::filesystem::path& log,
             const std::filesystem::path& result) {
  std::error_code error;
  const std::string path = (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / program).string();
  if (access(path.c_str(), X_OK) != 0)
    fail(ExitCode::machine, fmt::format("cannot start {}", program), {.where = path, .found = std::strerror(errno)});
  const auto open = [](const std::filesystem::path& file, int how) {
    const int to = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | how, 0666);
    if (to < 0) fail(ExitCode::memory, "cannot write a log", {.where = file.string(), .found = std::strerror(errno)});
    return to;
  };
  const int said = open(log, O_APPEND), results = result.empty() ? said : open(result, O_TRUNC);
  std::vector<char*> arguments{const_cast<char*>(path.c_str())};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  id_ = fork();
  if (id_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);                      // a Ctrl-C is ours to pass on
    if (getppid() != parent) _exit(1);  // it was too late for that
    dup2(results, 1);
    dup2(said, 2);
    let_signals_through();
    execv(path.c_str(), arguments.data());
    _exit(127);
  }
  ::close(said);
  if (results != said) ::close(results);
  if (id_ < 0) fail(ExitCode::machine, fmt::format("cannot start {}", program), {.found = std::strerror(errno)});
}

Child::~Child() {
  if (ended_) return;
  send(SIGKILL);
  reap(0);
}

bool Child::running() {
  reap(WNOHANG);
  return !ended_;
}

void Child::send(int signal) const {
  if (!ended_) kill(id_, signal);
}

int Child::wait() {
  reap(0);
  return code_;
}

bool Child::wait_unless_stopped(const std::function<void()>& meanwhile) {
  while (running()) {
    if (stop_signal() != 0) {
      send(SIGTERM);
      wait();
      return false;
    }
    meanwhile();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return true;
}

void Child::reap(int options) {
  int status = 0;
  pid_t found = 0;
  while (!ended_ && (found = waitpid(id_, &status, options)) < 0 && errno == EINTR) {
  }
  if (ended_ || found != id_) return;
  ended_ = true;
  code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string last_words(const std::filesystem::path& log, const std::string& program) {
  std::ifstream file(log);
  std::stringstream text;
  text << file.rdbuf();
  const std::string all = text.str(), mark = program + ": error: ";
  const std::size_t at = all.rfind(mark);
  constexpr std::size_t enough = 1000;
  std::string words =
      at == std::string::npos ? all.substr(all.size() - std::min(all.size(), enough)) : all.substr(at + mark.size());
  words.resize(std::min(words.size(), enough));
  words.erase(words.find_last_not_of(" \n") + 1);
  return words;
}

}  // namespace microtome
