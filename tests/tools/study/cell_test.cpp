// The files of a study and its cells, whole and damaged.
#include "tools/study/cell.h"

#include "engine/check.h"
#include "tools/process.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

const Cell cell{
    .net = "b6", .data = "idc", .mode = "full", .preprocess = "paper", .augment = "none", .seed = 18446744073709551615u};

TEST(CellTest, APlanComesBackAsItWasWritten) {
  const TemporaryFolder folder;
  Cell child = cell;
  child.mode = "transfer";
  const StudyPlan plan{
      .epochs = 3, .views = true, .cells = {{.cell = cell, .parent = ""}, {.cell = child, .parent = cell.name()}}};
  write_plan(folder / "", plan);
  EXPECT_EQ(read_plan(folder / ""), plan);
}

TEST(CellTest, APlanThatNamesNoWordsOrNumbersIsDamaged) {
  const TemporaryFolder folder;
  write_plan(folder / "", {.epochs = 3, .views = true, .cells = {{.cell = cell, .parent = ""}}});
  const std::string sound = text_of(folder / "cells.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = sound;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    return text.replace(at, from.size(), to);
  };
  for (const std::string& text :
       {with("\"b6\"", "\"../../b6\""), with("\"b6\"", "\"" + std::string(300, 'b') + "\""), with("\"b6\"", "\"\""),
        with("\"b6\"", "\"a\\u0000b\""), with("\"b6\"", "6"), with("18446744073709551615", "-1"),
        with("18446744073709551615", "1e300"), with(": 3", ": 3.5"), with(": 3", ": 1e300"), with(": 3", ": 3000000000"),
        with("true", "1"), std::string("[]"), std::string()}) {
    write_text(folder / "cells.json", text);
    try {
      read_study(folder / "");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::data) << text;
      EXPECT_NE(to_text(error, "test").find("cells.json"), std::string::npos) << to_text(error, "test");
    }
  }
}

TEST(CellTest, AFailureThatIsDamagedIsOneStill) {
  const TemporaryFolder folder;
  write_failure(folder / "", {.exit_code = 5, .what = "no memory"});
  EXPECT_EQ(read_failure(folder / "")->exit_code, 5);
  for (const char* text :
       {R"({"exit_code": "5", "what": "x"})", R"({"exit_code": 5, "what": 7})", R"({"exit_code": null})", "[]", ""}) {
    write_text(folder / "failed.json", text);
    const std::optional<Failure> failure = read_failure(folder / "");
    ASSERT_TRUE(failure) << text;
    EXPECT_EQ(failure->exit_code, 3) << text;
  }
}

}  // namespace
}  // namespace microtome
