#include "tools/report/scores.h"

#include "data/csv.h"
#include "engine/check.h"
#include "tools/process.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

TEST(ScoresTest, ColumnsAreFoundByName) {
  const TemporaryFolder folder;
  write_text(folder / "scores.csv", "id,\"score\", label\r\na,0.25,1\r\nb,1e-3,0\r\n");
  const LabelledScores read = read_scores(folder / "scores.csv");
  EXPECT_EQ(read.labels, (std::vector<std::uint8_t>{1, 0}));
  EXPECT_EQ(read.scores, (std::vector<double>{0.25, 1e-3}));
}

TEST(ScoresTest, IdsAndGroupsAreReadWhereTheyAre) {
  const TemporaryFolder folder;
  write_text(folder / "scores.csv", "id,label,score,group\n" + csv_field("a,b/1.png") + ",1,0.5,a\nc/2.png,0,0.25,\n");
  const LabelledScores read = read_scores(folder / "scores.csv");
  EXPECT_EQ(read.ids, (std::vector<std::string>{"a,b/1.png", "c/2.png"}));
  EXPECT_EQ(read.groups, (std::vector<std::string>{"a", ""}));
  write_text(folder / "scores.csv", "label,score,group\n1,0.5,\n");
  EXPECT_TRUE(read_scores(folder / "scores.csv").groups.empty()) << "none is known";
}

TEST(ScoresTest, WhatSpreadsheetsAndHandsMakeOfAFileIsRead) {
  const TemporaryFolder folder;
  write_text(folder / "scores.csv", "\xef\xbb\xbflabel,score,group\r\n1,0.5,a\r\n\r\n0,0.25\r\n");
  const LabelledScores read = read_scores(folder / "scores.csv");
  EXPECT_EQ(read.labels, (std::vector<std::uint8_t>{1, 0}));
  EXPECT_EQ(read.groups, (std::vector<std::string>{"a", ""})) << "a group for each image, though a line ends before it";
  write_text(folder / "scores.csv", "label,score\n1,0.5,7\n0,0.25\n");
  EXPECT_TRUE(read_scores(folder / "scores.csv").ids.empty()) << "no column has that name";
  EXPECT_TRUE(read_scores(folder / "scores.csv").groups.empty());
}

TEST(ScoresTest, AFileThatIsNoTableIsNotPrinted) {
  const TemporaryFolder folder;
  write_text(folder / "scores.csv", std::string(100'000, '\1') + "\n");
  try {
    read_scores(folder / "scores.csv");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.report().found, std::string(80, '?') + "…");
  }
}

TEST(ScoresTest, WhatIsWrittenComesBack) {
  const TemporaryFolder folder;
  const Images images{.shape = {3, 1, 1, 3},
                      .labels = {1, 0, 0},
                      .ids = {"p,1/1/a.png", "p,1/0/5\" b.png", "q/0/c.png"},
                      .groups = {"p,1", "p,1", "the \"q\""}};
  const std::vector<float> scores{0.1f, 1e-20f, 0.99999994f};
  write_text(folder / "scores.csv", scores_csv(images, scores));
  const LabelledScores read = read_scores(folder / "scores.csv");
  EXPECT_EQ(read.labels, images.labels);
  EXPECT_EQ(std::vector<float>(read.scores.begin(), read.scores.end()), scores);
  EXPECT_EQ(read.ids, images.ids);
  EXPECT_EQ(read.groups, images.groups);
}

TEST(ScoresTest, AWrongLineIsNamed) {
  const TemporaryFolder folder;
  for (const std::string line : {"2,0.5", "0,1.5", "1,x", "1", "1,nan", "-1,0.5", "0.5,0.5"}) {
    write_text(folder / "scores.csv", "label,score\n1,0.5\n" + line + "\n");
    try {
      read_scores(folder / "scores.csv");
      ADD_FAILURE() << line;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::data);
      EXPECT_NE(error.report().where.find("line 3"), std::string::npos) << error.report().where;
      EXPECT_EQ(error.report().found, line);
    }
  }
}

TEST(ScoresTest, ScoresOfOneClassAreRefusedWithTheirFile) {
  const TemporaryFolder folder;
  const std::string file = folder / "scores.csv";
  write_text(file, "label,score\n1,0.5\n1,0.25\n");
  const Ended ended = run({"evaluate", "--scores", file, "--json"});
  EXPECT_EQ(ended.code, 3);
  EXPECT_EQ(ended.out, "");
  EXPECT_NE(ended.err.find("where:    " + file), std::string::npos) << ended.err;
}

}  // namespace
}  // namespace microtome
