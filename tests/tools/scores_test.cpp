#include "tools/scores.h"

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

TEST(ScoresTest, AnEvaluationKeepsTheLossFromLogits) {
  const Evaluation evaluation{.loss = 3.25, .accuracy = 0.5, .scores = {0.75f, 0.25f}};
  const std::vector<std::uint8_t> labels{1, 0};
  const Verdict verdict = judge(evaluation, labels);
  EXPECT_EQ(verdict.loss, 3.25);
  EXPECT_EQ(verdict.auc, 1.0);
  EXPECT_EQ(verdict.positives, 1);
}

TEST(ScoresTest, TheFirstThresholdIsNullInJson) {
  const nlohmann::ordered_json json = to_json(roc_curve(std::vector<std::uint8_t>{0, 1}, std::vector<double>{0.25, 0.75}));
  EXPECT_TRUE(json.front()[2].is_null());
  EXPECT_EQ(json.back(), (nlohmann::ordered_json{1.0, 1.0, 0.25}));
}

}  // namespace
}  // namespace microtome
