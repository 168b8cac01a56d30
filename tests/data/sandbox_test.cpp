#include "data/sandbox.h"

#include "data/support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace microtome {
namespace {

const Sandbox sandbox{.code = ExitCode::weights, .where = "some.h5", .patience_ms = 200};

void nothing(Source&) {}

TEST(SandboxTest, BytesAndTextsArriveInOrderHoweverManyThereAre) {
  std::vector<int> numbers(3'000'000);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int>(i * i);
  std::vector<int> back(numbers.size());
  std::string text;
  read_in_child(
      sandbox,
      [&](Sink& sink) {
        sink.put(std::string("hello"));
        sink.write(std::as_bytes(std::span(numbers)));
      },
      [&](Source& source) {
        text = source.take_text();
        // In other pieces than they were sent.
        source.read(std::as_writable_bytes(std::span(back).first(1000)));
        source.read(std::as_writable_bytes(std::span(back).subspan(1000)));
      });
  EXPECT_EQ(text, "hello");
  EXPECT_EQ(back, numbers);
}

TEST(SandboxTest, WhatIsEmptyArrivesEmptyAndComesLastToo) {
  std::string text = "old";
  read_in_child(
      sandbox, [](Sink& sink) { sink.put(1), sink.put(std::string()); },
      [&](Source& source) { source.take<int>(), text = source.take_text(); });
  EXPECT_EQ(text, "");
}

TEST(SandboxTest, ARefusalCrossesWithItsReport) {
  const auto body = [](Sink& sink) {
    sink.put(1);
    fail(ExitCode::data, "the shape is wrong", {.expected = "four", .found = "five", .next = "count again"});
  };
  expect_refusal([&] { read_in_child(sandbox, body, [](Source& source) { source.take<int>(), source.take<int>(); }); },
                 ExitCode::weights, {"the shape is wrong", "some.h5", "four", "five", "count again"});
}

TEST(SandboxTest, ACrashIsARefusal) {
  for (const int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE}) {
    const auto body = [signal](Sink&) {
      ::signal(signal, SIG_DFL);
      ::raise(signal);
    };
    expect_refusal([&] { read_in_child(sandbox, body, nothing); }, ExitCode::weights,
                   {"crashes", fmt::format("signal {}", signal), "some.h5"});
  }
  expect_refusal(
      [&] {
        read_in_child(
            sandbox, [](Sink&) { ::_exit(0); }, nothing);
      },
      ExitCode::weights, {"ended early"});
}

TEST(SandboxTest, StandingStillIsARefusalAndLeavesNoProcess) {
  const auto before = std::chrono::steady_clock::now();
  pid_t child = 0;
  const auto body = [](Sink& sink) {
    sink.put(::getpid());
    for (;;) ::pause();
  };
  const auto consume = [&](Source& source) {
    child = source.take<pid_t>();
    source.take<int>();
  };
  expect_refusal([&] { read_in_child(sandbox, body, consume); }, ExitCode::weights, {"does not come forward"});
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
  EXPECT_EQ(::kill(child, 0), -1);
}

TEST(SandboxTest, GoingRoundInCirclesIsARefusal) {
  const auto body = [](Sink&) {
    for (volatile bool forever = true; forever;) {
    }
  };
  expect_refusal([&] { read_in_child({.where = "some.h5"}, body, nothing); }, ExitCode::data,
                 {"does not come forward", "2 s of work"});
}

/// qemu's emulation of a process says yes to a limit and does not keep it.
bool limits_are_kept() {
  rlimit before, after;
  if (::getrlimit(RLIMIT_AS, &before) != 0) return false;
  rlimit lower = before;
  lower.rlim_cur = std::min(before.rlim_cur, rlim_t{1} << 46);
  ::setrlimit(RLIMIT_AS, &lower);
  ::getrlimit(RLIMIT_AS, &after);
  ::setrlimit(RLIMIT_AS, &before);
  return after.rlim_cur == lower.rlim_cur;
}

TEST(SandboxTest, AHungryFileIsARefusal) {
  const auto body = [](Sink& sink) {
    std::vector<std::unique_ptr<char[]>> eaten;
    for (;;) eaten.push_back(std::make_unique_for_overwrite<char[]>(std::size_t{1} << 30)), sink.put(1);
  };
  const auto consume = [](Source& source) {
    for (;;) source.take<int>();
  };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer aborts where operator new would throw";
#endif
  if (!limits_are_kept()) GTEST_SKIP() << "nothing here limits a process's memory";
  expect_refusal([&] { read_in_child({.where = "some.h5"}, body, consume); }, ExitCode::data, {"more memory"});
}

TEST(SandboxTest, TheChildWritesNoFiles) {
  const TemporaryFolder folder;
  const std::string name = (folder / "file").string();
  const auto body = [&](Sink& sink) {
    ::signal(SIGXFSZ, SIG_IGN);
    const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT, 0600);
    sink.put(::write(fd, "x", 1));
  };
  ssize_t written = 0;
  read_in_child(sandbox, body, [&](Source& source) { written = source.take<ssize_t>(); });
  EXPECT_EQ(written, -1);
}

TEST(SandboxTest, ManyThreadsReadAtOnce) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a child that is forked while a thread allocates waits for AddressSanitizer's own lock for ever";
#endif
  std::vector<std::jthread> threads;
  std::vector<int> sums(8, 0);
  for (std::size_t t = 0; t < sums.size(); ++t) {
    threads.emplace_back([t, &sums] {
      for (int i = 0; i < 20; ++i) {
        read_in_child(
            {.where = "x"}, [i](Sink& sink) { sink.put(i), sink.put(std::string(1000, 'a')); },
            [&](Source& source) { sums[t] += source.take<int>() + static_cast<int>(source.take_text().size()); });
      }
    });
  }
  threads.clear();
  for (const int sum : sums) EXPECT_EQ(sum, 20 * 1000 + 190);
}

/// Adds up what it is given, or does what a number below 0 asks for.
void add_up(std::span<std::byte> memory) {
  auto* const numbers = reinterpret_cast<int*>(memory.data());
  if (numbers[0] == -1) __builtin_trap();
  if (numbers[0] == -2) {
    for (volatile bool forever = true; forever;) {
    }
  }
  if (numbers[0] == -3) throw std::runtime_error("unforeseen");
  if (numbers[0] == -4) {
    numbers[1] = ::open("/dev/null", O_RDONLY) >= 0, numbers[2] = ::socket(AF_INET, SOCK_STREAM, 0) >= 0;
    numbers[3] = ::kill(::getppid(), 0) == 0;
    return;
  }
  numbers[2] = numbers[0] + numbers[1];
}

std::span<int> numbers_of(const Worker& worker) {
  return {reinterpret_cast<int*>(worker.memory().data()), 4};
}

TEST(WorkerTest, ServesRequestAfterRequest) {
  Worker worker(4096, add_up);
  for (int i = 0; i < 1000; ++i) {
    numbers_of(worker)[0] = i, numbers_of(worker)[1] = 7;
    ASSERT_TRUE(worker.request(2));
    ASSERT_EQ(numbers_of(worker)[2], i + 7);
  }
}

TEST(WorkerTest, ServesThreadsThatDidNotStartItAndOutlivesTheOneThatDid) {
  std::optional<Worker> worker;
  std::jthread([&] { worker.emplace(4096, add_up); }).join();
  std::jthread([&] {
    numbers_of(*worker)[0] = 3, numbers_of(*worker)[1] = 4;
    EXPECT_TRUE(worker->request(2));
  }).join();
  EXPECT_EQ(numbers_of(*worker)[2], 7);
}

TEST(WorkerTest, ACrashIsToldOnceAndForAll) {
#ifdef __aarch64__
  const char* const trapped = "signal 5";
#else
  const char* const trapped = "signal 4";
#endif
  for (const auto& [asked, said] : {std::pair(-1, trapped), std::pair(-3, "ended early"), std::pair(-2, "1 s of work")}) {
    Worker worker(4096, add_up);
    numbers_of(worker)[0] = asked;
    EXPECT_FALSE(worker.request(1));
    const Error error = worker.error(ExitCode::weights, "some.png");
    EXPECT_EQ(error.code(), ExitCode::weights);
    const std::string text = to_text(error, "test");
    EXPECT_NE(text.find(said), text.npos) << text;
    EXPECT_NE(text.find("some.png"), text.npos) << text;
  }
}

TEST(WorkerTest, TheChildHasNoFilesAndReachesNothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer asks the system for more than a filter lets through";
#endif
  if (::prctl(PR_GET_SECCOMP) < 0) GTEST_SKIP() << "this kernel filters no system calls";
  Worker worker(4096, add_up);
  numbers_of(worker)[0] = -4;
  ASSERT_TRUE(worker.request(2));
  EXPECT_EQ(numbers_of(worker)[1], 0) << "it opened a file";
  EXPECT_EQ(numbers_of(worker)[2], 0) << "it made a socket";
  EXPECT_EQ(numbers_of(worker)[3], 0) << "it sent a signal";
}

std::string children() {
  std::string ids;
  std::getline(std::ifstream("/proc/thread-self/children"), ids);
  return ids;
}

TEST(WorkerTest, TheChildGoesWithTheWorker) {
  const std::string before = children();
  {
    Worker worker(4096, add_up);
    ASSERT_TRUE(worker.request(2));
    EXPECT_NE(children(), before);
  }
  EXPECT_EQ(children(), before);
}

}  // namespace
}  // namespace microtome
