#include "data/lock.h"

#include "data/file.h"
#include "data/support.h"

#include <sys/wait.h>

#include <cerrno>
#include <csignal>

namespace microtome {
namespace {

/// On a file system that locks, and on those that answer flock() with one of the errors by which they say that they do not.
class LockTest : public testing::TestWithParam<int> {
 protected:
  LockTest() {
    if (GetParam() == 0) return;
    file_operations().flock = [](int, int) {
      errno = GetParam();
      return -1;
    };
  }
  ~LockTest() override { file_operations() = saved_; }

  /// Holds the lock in a process of its own until it is killed.
  pid_t hold() const {
    int ready[2];
    if (pipe(ready) != 0) return -1;
    const pid_t child = fork();
    if (child == 0) {
      const FileLock lock(file_);
      char held = lock.held() ? 'y' : 'n';
      if (::write(ready[1], &held, 1) != 1) _exit(1);
      for (;;) pause();
    }
    char held = 'n';
    EXPECT_EQ(::read(ready[0], &held, 1), 1);
    EXPECT_EQ(held, 'y');
    ::close(ready[0]), ::close(ready[1]);
    return child;
  }
  static void end(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }

  const FileOperations saved_ = file_operations();
  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_ / ".lock";
};
INSTANTIATE_TEST_SUITE_P(FileSystems, LockTest, testing::Values(0, ENOLCK, EOPNOTSUPP, ENOSYS, 524));

TEST_P(LockTest, OneProcessHasItUntilItLetsGo) {
  EXPECT_FALSE(is_locked(file_));
  {
    const FileLock lock(file_);
    ASSERT_TRUE(lock.held());
    EXPECT_TRUE(is_locked(file_));
    const FileLock other(file_);
    EXPECT_FALSE(other.held());
    EXPECT_EQ(other.error(), 0);
  }
  EXPECT_FALSE(is_locked(file_));
  EXPECT_TRUE(FileLock(file_).held());
}

TEST_P(LockTest, AnotherProcesssIsRespectedAndItsDeathEndsIt) {
  const pid_t child = hold();
  EXPECT_TRUE(is_locked(file_));
  {
    const FileLock lock(file_);
    EXPECT_FALSE(lock.held());
    if (GetParam() != 0) {
      EXPECT_NE(lock.owner().find(fmt::format("process {} on ", child)), std::string::npos) << lock.owner();
      EXPECT_NE(lock.remedy().find("rm " + owner_file(file_).string()), std::string::npos) << lock.remedy();
    }
  }
  end(child);  // by kill -9: it could clear nothing away
  EXPECT_FALSE(is_locked(file_));
  const FileLock lock(file_);
  EXPECT_TRUE(lock.held());
  EXPECT_TRUE(is_locked(file_));
}

TEST_P(LockTest, AProcessOfAnotherMachineIsBelievedAndSoIsOneThatIsNotNamed) {
  if (GetParam() == 0) GTEST_SKIP() << "flock() alone decides";
  const std::ofstream lock(file_);
  for (const std::string& text : {std::string("node7\nsome-boot/pid:[1]\n1\n5\n"), std::string("cut sho"), std::string()}) {
    std::ofstream(owner_file(file_), std::ios::trunc) << text;
    EXPECT_TRUE(is_locked(file_)) << text;
    EXPECT_FALSE(FileLock(file_).held()) << text;
    EXPECT_TRUE(std::filesystem::exists(owner_file(file_))) << "another's is not taken away";
  }
}

TEST_P(LockTest, ANumberGivenToAnotherProcessIsNotTakenForTheOneThatEnded) {
  if (GetParam() == 0) GTEST_SKIP() << "flock() alone decides";
  std::string mine;
  {
    const FileLock lock(file_);
    std::ifstream in(owner_file(file_));
    mine.assign(std::istreambuf_iterator<char>(in), {});
  }
  ASSERT_TRUE(mine.ends_with('\n'));
  mine.insert(mine.size() - 1, "7");  // another moment of its start
  std::ofstream(owner_file(file_)) << mine;
  EXPECT_FALSE(is_locked(file_));
  EXPECT_TRUE(FileLock(file_).held());
}

TEST_P(LockTest, WhereNothingCanBeWrittenTheReasonIsToldAndNotAnOwner) {
  const FileLock nowhere(folder_ / "missing" / ".lock");
  EXPECT_FALSE(nowhere.held());
  EXPECT_EQ(nowhere.error(), ENOENT);
  if (GetParam() == 0) return;
  const auto real = file_operations().write;
  file_operations().write = [](int, const void*, std::size_t) -> ssize_t {
    errno = ENOSPC;
    return -1;
  };
  const FileLock full(file_);
  file_operations().write = real;
  EXPECT_FALSE(full.held());
  EXPECT_EQ(full.error(), ENOSPC);
  EXPECT_TRUE(FileLock(file_).held()) << "nothing is left that says otherwise";
}

}  // namespace
}  // namespace microtome
