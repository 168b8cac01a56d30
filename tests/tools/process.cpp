#include "tools/process.h"

#include "data/pcam.h"
#include "engine/random.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace fs = std::filesystem;

namespace microtome {
namespace {

fs::path make_folder() {
  std::string name = (fs::temp_directory_path() / "microtome-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
  return name;
}

void redirect(const fs::path& file, int to) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(fd, to);
  ::close(fd);
}

}  // namespace

Process::Process(const std::vector<std::string>& words, std::optional<std::size_t> file_size_limit,
                 const std::function<void()>& before)
    : folder_(make_folder()) {
  std::string program = std::string(MICROTOME_PROGRAMS) + "/" + words[0];
  std::vector<std::string> copies(words.begin() + 1, words.end());
  std::vector<char*> arguments{program.data()};
  for (std::string& word : copies) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const fs::path out = folder_ / "out", err = folder_ / "err";
  child_ = fork();
  if (child_ != 0) return;
  redirect(out, STDOUT_FILENO);
  redirect(err, STDERR_FILENO);
  if (file_size_limit) {
    const rlimit limit{*file_size_limit, *file_size_limit};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  if (before) before();
  execv(program.c_str(), arguments.data());
  _exit(127);
}

Process::~Process() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  fs::remove_all(folder_);
}

void Process::send(int signal) const {
  kill(child_, signal);
}

Ended Process::wait() {
  int status = 0;
  waitpid(child_, &status, 0);
  child_ = 0;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, text_of(folder_ / "out"), text_of(folder_ / "err")};
}

Ended run(const std::vector<std::string>& words, std::optional<std::size_t> file_size_limit,
          const std::function<void()>& before) {
  return Process(words, file_size_limit, before).wait();
}

pid_t child_of(const Process& process) {
  std::ifstream children("/proc/" + std::to_string(process.id()) + "/task/" + std::to_string(process.id()) + "/children");
  pid_t child = 0;
  children >> child;
  return child;
}

bool has_gnuplot() {
  return std::system("command -v gnuplot >/dev/null 2>&1") == 0;
}

bool wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 30000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

TemporaryFolder::TemporaryFolder() : path_(make_folder()) {}
TemporaryFolder::~TemporaryFolder() {
  fs::remove_all(path_);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

void write_text(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void write_small_pcam(const fs::path& folder, std::uint64_t seed) {
  constexpr int side = 36, bytes = side * side * 3;
  fs::create_directories(folder);
  std::uint64_t index = 0;
  for (const auto& [split, count] : {std::pair("train", 80), std::pair("valid", 24), std::pair("test", 24)}) {
    PcamWriter writer(folder, split, {count, side, side, 3});
    for (int i = 0; i < count; ++i, ++index) {
      const std::uint8_t label = i % 2;
      std::vector<std::uint8_t> pixels(bytes);
      for (int j = 0; j < bytes; ++j) {
        const std::uint32_t noise = random_word(seed, stream::synthetic, index * bytes + static_cast<std::uint64_t>(j)) >> 25;
        pixels[static_cast<std::size_t>(j)] = static_cast<std::uint8_t>(60 + noise + 6 * label);
      }
      writer.append(pixels, {&label, 1});
    }
    writer.finish();
  }
}

}  // namespace microtome
