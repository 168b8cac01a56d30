#include "tools/cli/documents.h"

#include "engine/check.h"
#include "tools/process.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

namespace microtome {
namespace {

std::string nested(std::size_t depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

TEST(DocumentsTest, ThoseOfAnyDepthAreRefusedOrWrittenAgain) {
  EXPECT_EQ(parse_json(nested(32))->dump(), nested(32));
  for (const std::size_t depth : {33u, 1000u, 1000000u}) {
    std::string why;
    EXPECT_FALSE(parse_json("{\"a\": " + nested(depth) + "}", &why));
    EXPECT_NE(why.find("deep"), why.npos) << why;
  }
}

TEST(DocumentsTest, WhatIsNoDocumentSaysWhyInFewWords) {
  std::string long_word(100000, '7');
  long_word += "x";
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("{\"a\": 1} x"), long_word, std::string("\"\xff\"")}) {
    std::string why;
    EXPECT_FALSE(parse_json(text, &why));
    EXPECT_FALSE(why.empty());
    EXPECT_LT(why.size(), 300u);
  }
}

TEST(DocumentsTest, AFileThatIsMissingIsNoDocumentAndOneThatCannotBeReadIsAnError) {
  const TemporaryFolder folder;
  EXPECT_FALSE(read_json(folder / "none.json"));
  write_text(folder / "a.json", "{\"a\": [1, 2]}");
  EXPECT_EQ(read_json(folder / "a.json")->at("a").size(), 2u);
  std::filesystem::create_directory(folder / "b.json");
  try {
    read_json(folder / "b.json");
    ADD_FAILURE() << "a folder was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::data);
    EXPECT_NE(to_text(error, "test").find("b.json"), std::string::npos);
  }
}

TEST(DocumentsTest, AValueInAMessageIsShort) {
  EXPECT_EQ(brief(Json({{"a", {1, "x"}}})), R"({"a":[1,"x"]})");
  EXPECT_LT(brief(Json(std::string(100000, 'x'))).size(), 300u);
  EXPECT_NO_THROW(brief(Json("\xff")));
}

}  // namespace
}  // namespace microtome
