#include "tools/cli/program.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

namespace microtome {
namespace {

struct Told {
  int code;
  std::string message;
};

Told told(const std::function<int()>& body) {
  testing::internal::CaptureStderr();
  const int code = run_program("sample", body);
  return {code, testing::internal::GetCapturedStderr()};
}

TEST(ProgramTest, WhatTheBodyReturnsIsTheExitCode) {
  const Told seven = told([] { return 7; });
  EXPECT_EQ(seven.code, 7);
  EXPECT_EQ(seven.message, "");
}

TEST(ProgramTest, WhatNobodyForesawIsABugOfOurs) {
  const Told bug = told([]() -> int { throw std::logic_error("the sky is green"); });
  EXPECT_EQ(bug.code, 1);
  EXPECT_EQ(bug.message.rfind("sample: error: the sky is green", 0), 0u) << bug.message;
  const Told broken = told([]() -> int {
    require(false, "two and two are ", 5);
    return 0;
  });
  EXPECT_EQ(broken.code, 1);
  EXPECT_NE(broken.message.find("two and two are 5"), std::string::npos) << broken.message;
  EXPECT_EQ(told([]() -> int { throw std::system_error(EIO, std::generic_category()); }).code, 1);
}

TEST(ProgramTest, AnErrorBringsItsOwnCode) {
  for (const ExitCode code : {ExitCode::usage, ExitCode::data, ExitCode::not_finite, ExitCode::machine}) {
    const Told error = told([=]() -> int { fail(code, "it is so", {.next = "do this"}); });
    EXPECT_EQ(error.code, static_cast<int>(code));
    EXPECT_NE(error.message.find("do this"), std::string::npos) << error.message;
  }
}

TEST(ProgramTest, NoMoreMemoryOrDiskIsFive) {
  const Told memory = told([]() -> int { throw std::bad_alloc(); });
  EXPECT_EQ(memory.code, 5);
  EXPECT_NE(memory.message.find("out of memory"), std::string::npos) << memory.message;
  EXPECT_EQ(told([]() -> int { throw std::system_error(ENOSPC, std::generic_category()); }).code, 5);
}

}  // namespace
}  // namespace microtome
