#include "tools/cli/arguments.h"

#include "engine/check.h"
#include "tools/process.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

/// One option of each type, as a program declares them.
struct Sample {
  std::string path, mode = "full";
  int count = 3;
  double rate = 0.5;
  std::uint64_t seed = 0;
  bool shuffle = true, fast = false;
  Arguments arguments{"sample", "A sample.", "[options]", {"sample --count 4"}};

  Sample() {
    using Kept = Option::Kept;
    arguments.add({.name = "path", .help = "where", .kept = Kept::free}, path);
    arguments.add({.name = "mode", .help = "how", .kept = Kept::fixed}, mode, {"full", "transfer"});
    arguments.add({.name = "count", .letter = 'b', .help = "how many", .unit = "images", .kept = Kept::fixed}, count, {1, 9});
    arguments.add({.name = "rate", .help = "how fast", .kept = Kept::fixed}, rate, {.lowest = 0});
    arguments.add({.name = "seed", .help = "which", .kept = Kept::fixed}, seed);
    arguments.add_switch({.name = "shuffle", .help = "whether", .kept = Kept::fixed}, shuffle);
    arguments.add_flag({.name = "fast", .help = "quickly", .kept = Kept::free}, fast);
  }

  bool parse(std::vector<const char*> words) {
    words.insert(words.begin(), "sample");
    return arguments.parse(static_cast<int>(words.size()), words.data());
  }
};

Error error_of(std::vector<const char*> words) {
  try {
    Sample().parse(std::move(words));
  } catch (const Error& error) {
    return error;
  }
  throw std::logic_error("no error");
}

TEST(ArgumentsTest, DefaultsStandWhereNothingIsGiven) {
  Sample s;
  ASSERT_TRUE(s.parse({}));
  EXPECT_EQ(s.count, 3);
  EXPECT_FALSE(s.arguments.given("count"));
}

TEST(ArgumentsTest, ValuesComeWithASpaceOrAnEqualsSignOrALetter) {
  Sample s;
  ASSERT_TRUE(
      s.parse({"--rate=1e-3", "-b", "7", "--shuffle", "off", "--fast", "--seed", "18446744073709551615", "--mode=transfer"}));
  EXPECT_EQ(s.rate, 1e-3);
  EXPECT_EQ(s.count, 7);
  EXPECT_FALSE(s.shuffle);
  EXPECT_TRUE(s.fast);
  EXPECT_EQ(s.seed, 18446744073709551615u);
  EXPECT_EQ(s.mode, "transfer");
}

TEST(ArgumentsTest, TheLastOfTwoValuesCounts) {
  Sample s;
  ASSERT_TRUE(s.parse({"--count", "2", "--count", "5"}));
  EXPECT_EQ(s.count, 5);
}

TEST(ArgumentsTest, WrongValuesAreUsageErrorsThatSayWhatIsExpected) {
  for (const auto& [words, expected] :
       std::vector<std::pair<std::vector<const char*>, std::string>>{{{"--count", "0"}, "1 to 9"},
                                                                     {{"--count", "10"}, "1 to 9"},
                                                                     {{"--count", "4x"}, "1 to 9"},
                                                                     {{"--count", "1,5"}, "1 to 9"},
                                                                     {{"--rate", "-1"}, "at least 0"},
                                                                     {{"--rate", "nan"}, "at least 0"},
                                                                     {{"--seed", "-1"}, "0 to 2^64 - 1"},
                                                                     {{"--shuffle", "yes"}, "on, off"},
                                                                     {{"--mode", "half"}, "full, transfer"}}) {
    const Error error = error_of(words);
    EXPECT_EQ(error.code(), ExitCode::usage) << words[1];
    EXPECT_EQ(error.report().expected, expected) << words[1];
    EXPECT_EQ(error.report().found, words[1]);
  }
}

TEST(ArgumentsTest, AnUnknownOptionNamesTheNearest) {
  const Error error = error_of({"--cuont", "3"});
  EXPECT_EQ(error.code(), ExitCode::usage);
  EXPECT_STREQ(error.what(), "unknown option --cuont");
  EXPECT_EQ(error.report().next, "did you mean --count?");
}

TEST(ArgumentsTest, AMissingValueIsAUsageError) {
  const Error error = error_of({"--count"});
  EXPECT_EQ(error.code(), ExitCode::usage);
  EXPECT_STREQ(error.what(), "--count needs a value");
}

TEST(ArgumentsTest, TheCommandLineWinsOverTheFileAndTheFileOverTheDefault) {
  const TemporaryFolder folder;
  write_text(folder / "config.toml", "# a comment\ncount = 8  # eight\n\nrate = 0.25\nfast = true\n");
  const std::string file = (folder / "config.toml").string();
  Sample s;
  ASSERT_TRUE(s.parse({"--rate", "0.75", "--config", file.c_str()}));
  EXPECT_EQ(s.count, 8);
  EXPECT_EQ(s.rate, 0.75);
  EXPECT_TRUE(s.fast);
  EXPECT_EQ(s.mode, "full");
}

TEST(ArgumentsTest, WhatIsWrittenIsReadBackExactly) {
  for (const std::string path :
       {"plain", "with space", "a # b", "\"quoted\" and 'single'", "back\\slash\\", "new\nline", "[1, 2]", "ümlaut"}) {
    Sample one;
    ASSERT_TRUE(one.parse({"--path", path.c_str(), "--rate", "0.1", "--shuffle", "off", "--seed", "7"}));
    const TemporaryFolder folder;
    write_text(folder / "config.toml", one.arguments.config());
    const std::string file = (folder / "config.toml").string();
    Sample two;
    ASSERT_TRUE(two.parse({"--config", file.c_str()}));
    EXPECT_EQ(two.path, path);
    EXPECT_EQ(two.arguments.config(), one.arguments.config());
  }
}

TEST(ArgumentsTest, AnEmptyValueIsOfAVariableThatIsNotSet) {
  EXPECT_STREQ(error_of({"--path", ""}).what(), "--path is empty");
}

TEST(ArgumentsTest, TomlsEscapesAndQuotedNamesAreRead) {
  const TemporaryFolder folder;
  const std::string file = (folder / "config.toml").string();
  write_text(folder / "config.toml", R"("count" = 8
path = "a\tb\\\"\u00fc\U0001F52C" # so
)");
  Sample s;
  ASSERT_TRUE(s.parse({"--config", file.c_str()}));
  EXPECT_EQ(s.count, 8);
  EXPECT_EQ(s.path, "a\tb\\\"ü🔬");
  for (const char* wrong :
       {R"(path = "\q")", R"(path = "\u12")", R"(path = "\ud800")", R"(path = "open\")", "path = [\"a\"]", "path = {a = 1}"}) {
    write_text(folder / "config.toml", wrong);
    EXPECT_STREQ(error_of({"--config", file.c_str()}).what(), "cannot read the configuration") << wrong;
  }
}

TEST(ArgumentsTest, WhatIsTypedIsToldFromWhatAFileSays) {
  const TemporaryFolder folder;
  write_text(folder / "config.toml", "count = 8\n");
  const std::string file = (folder / "config.toml").string();
  Sample s;
  ASSERT_TRUE(s.parse({"--config", file.c_str(), "--rate", "0.5"}));
  EXPECT_TRUE(s.arguments.given("count") && !s.arguments.typed("count"));
  EXPECT_TRUE(s.arguments.typed("rate"));
}

TEST(ArgumentsTest, AByteOrderMarkBeforeAFileIsNoPartOfIt) {
  const TemporaryFolder folder;
  write_text(folder / "config.toml",
             "\xef\xbb\xbf"
             "count = 8\n");
  const std::string file = (folder / "config.toml").string();
  Sample s;
  ASSERT_TRUE(s.parse({"--config", file.c_str()}));
  EXPECT_EQ(s.count, 8);
}

TEST(ArgumentsTest, AnOptionOfAnExampleIsToldFromAnUnknownOne) {
  Arguments arguments("sample", "A sample.", "[options]", {"sample", "sample diff a b --gate 3%"});
  const char* const words[] = {"sample", "--gate", "3%"};
  try {
    arguments.parse(3, words);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "unknown option --gate here");
    EXPECT_EQ(error.report().next, "sample diff a b --gate 3%");
  }
}

TEST(ArgumentsTest, AWrongFileNamesItsLine) {
  const TemporaryFolder folder;
  const std::string file = (folder / "config.toml").string();
  for (const auto& [text, line] : std::vector<std::pair<std::string, int>>{
           {"count = 3\ncuont = 4\n", 2}, {"count 3\n", 1}, {"\n\nmode = \"open\nrate = 1\n", 3}, {"count = 99\n", 1}}) {
    write_text(file, text);
    const Error error = error_of({"--config", file.c_str()});
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(error.report().where.find("line " + std::to_string(line)), std::string::npos) << text << error.report().where;
  }
  EXPECT_EQ(error_of({"--config", "/nowhere/config.toml"}).code(), ExitCode::usage);
}

TEST(ArgumentsTest, ASettingThatIsChangedTwiceIsRefused) {
  const TemporaryFolder folder;
  const std::string file = (folder / "config.toml").string();
  write_text(file, "count = 3\nrate = 0.25\ncount = 4\n");
  const Error error = error_of({"--config", file.c_str()});
  EXPECT_EQ(error.code(), ExitCode::usage);
  EXPECT_STREQ(error.what(), "count is set twice");
  EXPECT_NE(error.report().where.find("line 3"), std::string::npos) << error.report().where;
  EXPECT_NE(error.report().expected.find("line 1"), std::string::npos) << error.report().expected;
  write_text(file, "count = 4\ncount = 4\n");
  Sample s;
  ASSERT_TRUE(s.parse({"--config", file.c_str()}));
  EXPECT_EQ(s.count, 4);
}

TEST(ArgumentsTest, WhatBeganIsComparedByItsValuesNotByItsLines) {
  const TemporaryFolder folder;
  const std::string file = (folder / "config.toml").string();
  Sample s;
  ASSERT_TRUE(s.parse({"--count", "4", "--mode", "transfer"}));
  std::string crlf;
  for (const char c : "# Go on\n" + s.arguments.config()) crlf += c == '\n' ? "\r\n" : std::string(1, c);
  write_text(file, crlf);
  s.arguments.require_same(file, "a search");
  Sample other;
  ASSERT_TRUE(other.parse({"--count", "5", "--mode", "transfer"}));
  try {
    other.arguments.require_same(file, "a search");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "--count cannot change when a search is resumed");
    EXPECT_EQ(error.report().expected, "count = \"4\"");
    EXPECT_EQ(error.report().found, "count = \"5\"");
  }
}

TEST(ArgumentsTest, AnOptionsFormerNameIsReadFromFilesAndWrittenNoMore) {
  const TemporaryFolder folder;
  const std::string file = (folder / "config.toml").string();
  write_text(file, "lanes = 7\n");
  Arguments arguments("sample", "A sample.", "[options]", {});
  int streams = 5;
  arguments.add({.name = "streams", .kept = Option::Kept::fixed, .formerly = "lanes"}, streams, {1, 16});
  arguments.read_config(file);
  EXPECT_EQ(streams, 7);
  EXPECT_EQ(arguments.config(), "streams = 7\n");
  arguments.require_same(file, "a search");
}

TEST(ArgumentsTest, OnlyFixedOptionsBelongToARunsIdentity) {
  Sample s;
  ASSERT_TRUE(s.parse({"--path", "x", "--count", "4"}));
  EXPECT_EQ(s.arguments.fixed_config(), "mode = \"full\"\ncount = 4\nrate = 0.5\nseed = 0\nshuffle = \"on\"\n");
}

TEST(ArgumentsTest, HelpOpensWithExamplesAndGivesDefaultUnitAndRange) {
  const std::string help = Sample().arguments.help();
  EXPECT_EQ(help.find("A sample.\n\nExamples\n  sample --count 4\n"), 0u);
  EXPECT_NE(help.find("-b, --count N"), std::string::npos);
  EXPECT_NE(help.find("[default 3 images; 1 to 9]"), std::string::npos);
  EXPECT_NE(help.find("--mode full|transfer"), std::string::npos);
}

TEST(ArgumentsTest, HelpSaysADefaultInWordsOrAsAValueAndNeverBoth) {
  Arguments arguments{"sample", "A sample.", "[options]", {"sample"}};
  int size = 96;
  arguments.add({.name = "size", .help = "a side", .unit = "pixels", .preset = "what the file says"}, size, {1, 4096});
  EXPECT_NE(arguments.help().find("a side [default: what the file says; pixels; 1 to 4096]"), std::string::npos)
      << arguments.help();
  std::vector<const char*> nothing{"sample"};
  ASSERT_TRUE(arguments.parse(1, nothing.data()));
  EXPECT_EQ(size, 96);
}

TEST(ArgumentsTest, HelpSaysWithWhatARequiredOptionIsNotRequired) {
  Arguments arguments{"sample", "A sample.", "[options]", {"sample"}};
  std::string net, file;
  arguments.required_unless("resume");
  arguments.add({.name = "net", .help = "which", .required = true, .kept = Option::Kept::fixed}, net);
  arguments.add({.name = "file", .help = "where", .required = true}, file);
  EXPECT_NE(arguments.help().find("which [required without --resume or --config]"), std::string::npos) << arguments.help();
  EXPECT_NE(arguments.help().find("where [required without --resume]"), std::string::npos) << arguments.help();
}

}  // namespace
}  // namespace microtome
