#include "tools/study/report.h"

#include "engine/check.h"
#include "tools/process.h"
#include "tools/study/comparisons.h"
#include "tools/study/figures.h"
#include "tools/study/layer_counts.h"
#include "tools/study/published_results.h"
#include "tools/study/tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace microtome {
namespace {

struct Image {
  int label;
  double score;
};

/// Four times, for as many as an interval and a test take.
std::vector<Image> often(const std::vector<Image>& images) {
  std::vector<Image> all;
  for (int i = 0; i < 4; ++i) all.insert(all.end(), images.begin(), images.end());
  return all;
}

/// AUC 7/9: of three positives one beats one of three negatives.
const std::vector<Image> seven_ninths = often({{0, .1}, {0, .4}, {0, .5}, {1, .3}, {1, .8}, {1, .9}});
const std::vector<Image> six_ninths = often({{0, .1}, {0, .4}, {0, .6}, {1, .3}, {1, .5}, {1, .9}});
const std::vector<Image> perfect = often({{0, .1}, {0, .2}, {0, .3}, {1, .7}, {1, .8}, {1, .9}});

/// Cells of a study in a folder that goes with it.
class StudyReportTest : public testing::Test {
 protected:
  CellState& add(const Cell& cell, double auc, const std::vector<Image>& images = {}, const std::string& groups = "") {
    CellState state{
        .cell = cell, .status = CellStatus::done, .why = "", .epochs_done = 15, .result = {}, .tta = {}, .folder = {}};
    state.folder =
        folder_ / fmt::format("{}-{}-{}-{}-{}-{}", cell.data, cell.net, cell.mode, cell.preprocess, cell.augment, cell.seed);
    state.result = {{"net", cell.net},
                    {"images_per_second", 100.0},
                    {"train_images", 1000},
                    {"device_description", "a machine"},
                    {"epochs", 15},
                    {"best_epoch", 3},
                    {"test",
                     {{"n", 24},
                      {"positives", 12},
                      {"loss", 0.5},
                      {"accuracy", 0.75},
                      {"auc", auc},
                      {"auc_ci95", {auc - .05, auc + .05}}}}};
    std::filesystem::create_directories(state.folder);
    if (!images.empty()) write_scores(state.folder / "scores.csv", images, groups);
    states_.push_back(state);
    return states_.back();
  }

  static void write_scores(const std::filesystem::path& file, const std::vector<Image>& images,
                           const std::string& groups = "") {
    std::string csv = "id,label,score,group\n";
    for (std::size_t i = 0; i < images.size(); ++i)
      csv += fmt::format("{},{},{},{}\n", i, images[i].label, images[i].score,
                         groups.empty() ? "" : groups.substr(i % groups.size(), 1));
    write_text(file, csv);
  }

  std::string written(const std::string& name) {
    write_report(states_, folder_ / "report");
    return text_of(folder_ / "report/" / name);
  }

  TemporaryFolder folder_;
  std::vector<CellState> states_;
};

/// The values of the first line that begins with these.
std::vector<std::string> line(const Table& table, const std::vector<std::string>& begin) {
  for (const Table::Line& l : table.lines) {
    std::vector<std::string> texts;
    for (const Value& value : l.values) texts.push_back(to_text(value));
    if (std::equal(begin.begin(), begin.end(), texts.begin())) return texts;
  }
  ADD_FAILURE() << "no line " << testing::PrintToString(begin) << " in " << table.key;
  return {};
}

using Texts = std::vector<std::string>;

TEST_F(StudyReportTest, OneSeedStandsBesideThePaper) {
  add({"resnet50", "pcam", "transfer", "paper", "none", 0}, 0.812);
  const Table table = table_3_or_4(Study(states_), "pcam").tables[0];
  EXPECT_EQ(line(table, {"RN50"}),
            (Texts{"RN50", "1", "0.500", "0.52", "0.750", "0.74", "0.812", "", "0.762", "0.862", "images", "0.82"}));
  EXPECT_EQ(line(table, {"MN"}), (Texts{"MN", "–", "", "0.46", "", "0.79", "", "", "", "", "", "0.88"}));
  EXPECT_EQ(table.lines.size(), 22u) << "the paper's rows, whether run or not";
}

TEST_F(StudyReportTest, RowsStandInThePapersOrder) {
  add({"b6", "idc", "full", "paper", "none", 0}, 0.9);
  const Table table = table_3_or_4(Study(states_), "idc").tables[0];
  Texts full;
  for (const Table::Line& l : table.lines)
    if (l.group == "Full training") full.push_back(to_text(l.values[0]));
  EXPECT_EQ(full, (Texts{"B2", "B6", "VGG19", "RN50", "MN", "DN121", "ENB2", "DN201", "ENB0", "ENB1", "DN169"}));
}

TEST_F(StudyReportTest, SeveralSeedsAreAMeanAndItsSpread) {
  add({"b6", "pcam", "full", "paper", "none", 0}, 7 / 9.0, seven_ninths);
  add({"b6", "pcam", "full", "paper", "none", 1}, 6 / 9.0, six_ninths);
  CellState waiting{.cell = {"b6", "pcam", "full", "paper", "none", 2}};
  states_.push_back(waiting);
  const Study study(states_);
  const Estimate& e = study.arms()[0].estimate;
  EXPECT_EQ(e.runs, 2);
  EXPECT_DOUBLE_EQ(e.auc, 6.5 / 9);
  EXPECT_NEAR(*e.deviation, 1 / 9.0 / std::sqrt(2), 1e-15);
  ASSERT_TRUE(e.auc_ci95);
  EXPECT_LT(e.auc_ci95->first, e.auc);
  EXPECT_EQ(line(table_3_or_4(study, "pcam").tables[0], {"B6"})[1], "2 of 3");
}

TEST_F(StudyReportTest, IntervalsDrawPatientsWholeWhereTheyAreKnown) {
  add({"b6", "idc", "full", "paper", "none", 0}, 7 / 9.0, seven_ninths, "abcdefg");
  add({"b2", "idc", "full", "paper", "none", 0}, 7 / 9.0, seven_ninths);
  add({"vgg19", "idc", "transfer", "paper", "none", 0}, 7 / 9.0, seven_ninths, "ab");
  const Table table = table_3_or_4(Study(states_), "idc").tables[0];
  EXPECT_EQ(line(table, {"B6"})[10], "7 groups");
  EXPECT_FALSE(line(table, {"B6"})[8].empty());
  EXPECT_EQ(line(table, {"B2"})[10], "images");
  EXPECT_EQ(line(table, {"VGG19"})[10], "2 groups: too few");
  EXPECT_EQ(line(table, {"VGG19"})[8], "") << "no interval";
  EXPECT_EQ(table.notes.back(), "Too few groups: less than 5 hold images of one of the classes.");
}

TEST_F(StudyReportTest, ATestOfTooFewImagesGivesNoFigure) {
  const std::vector<Image> few(seven_ninths.begin(), seven_ninths.begin() + 12);
  for (const char* mode : {"full", "transfer"}) {
    CellState& state = add({"resnet50", "pcam", mode, "paper", "none", 0}, 7 / 9.0, few);
    state.result["test"]["n"] = 12;
  }
  const Table table = full_against_transfer(Study(states_)).tables[1];
  const Texts texts = line(table, {"PCam", "RN50"});
  EXPECT_EQ(texts[10], "too few images");
  for (const std::size_t column : {6, 7, 9, 11}) EXPECT_EQ(texts[column], "") << column;
  EXPECT_NE(joined(table.notes, " ").find("less than 10 of a class"), std::string::npos);
}

TEST_F(StudyReportTest, FiveGroupsOfBothClassesAreEnoughForAnInterval) {
  std::vector<Image> images;
  for (int i = 0; i < 24; ++i) images.push_back({i / 12, i / 24.0});
  const auto drawn = [&](int count) {
    states_.clear();
    std::string groups;
    for (int i = 0; i < count; ++i) groups += static_cast<char>('a' + i);
    add({"b6", "idc", "full", "paper", "none", 0}, 0.5, images, groups);
    return line(table_3_or_4(Study(states_), "idc").tables[0], {"B6"})[10];
  };
  EXPECT_EQ(drawn(4), "4 groups: too few");
  EXPECT_EQ(drawn(5), "5 groups");
}

TEST_F(StudyReportTest, OtherNetworksAndPreprocessingStandBelow) {
  add({"b6", "pcam", "full", "paper", "none", 0}, 0.9);
  add({"b6", "pcam", "full", "paper", "d4", 0}, 0.93);
  add({"of_another_paper", "pcam", "full", "paper", "none", 0}, 0.97);
  const Table table = table_3_or_4(Study(states_), "pcam").tables[0];
  EXPECT_EQ(table.lines[22].group, "Past the paper");
  EXPECT_EQ(line(table, {"B6, full, paper, d4"})[6], "0.930");
  EXPECT_EQ(line(table, {"of_another_paper, full, paper"})[6], "0.970");
  EXPECT_EQ(table.lines.size(), 24u);
}

TEST_F(StudyReportTest, WelchsTestOfThePapersColumnsIsThePapers) {
  add({"b6", "pcam", "full", "paper", "none", 0}, 0.9);
  add({"b6", "idc", "full", "paper", "none", 0}, 0.9);
  for (const char* file : {"report.html", "report.md"}) {
    const std::string text = written(file);
    for (const char* figure : {"-2.5527", "16.285", "0.02108", "-3.5998", "8.4843", "0.006335"})
      EXPECT_NE(text.find(figure), std::string::npos) << figure << " in " << file;
  }
  const Table table = full_against_transfer(Study(states_)).tables[0];
  const Texts paired = line(table, {"PCam", "paper", "Paired"});
  EXPECT_EQ(paired[3], "10");
  EXPECT_EQ(paired[10], "-3.1453");
  EXPECT_EQ(paired[12], "0.01183");
}

TEST_F(StudyReportTest, TooFewNetworksForATestAreSaidInWords) {
  add({"b6", "pcam", "full", "paper", "none", 0}, 0.9);
  const Section section = full_against_transfer(Study(states_));
  EXPECT_EQ(section.tables.size(), 1u);
  EXPECT_EQ(section.tables[0].lines.size(), 2u) << "the paper's own";
  std::string said;
  for (const std::string& text : section.said) said += text + "\n";
  EXPECT_NE(said.find("Welch's test on PCam, of our own AUCs: not possible with 0 of transfer and 1 of full training"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("none has been trained in both modes"), std::string::npos) << said;
}

TEST_F(StudyReportTest, OurNetworksAreTestedPairedAndNotThoseOfOtherPapers) {
  const double full[] = {.91, .92, .95}, transfer[] = {.90, .89, .91};
  const char* nets[] = {"resnet50", "mobilenet", "vgg19"};
  for (int i = 0; i < 3; ++i) {
    add({nets[i], "pcam", "full", "paper", "none", 0}, full[i]);
    add({nets[i], "pcam", "transfer", "paper", "none", 0}, transfer[i]);
  }
  add({"of_another_paper", "pcam", "full", "paper", "none", 0}, 0.99);
  const Texts paired = line(full_against_transfer(Study(states_)).tables[0], {"PCam", "here", "Paired"});
  // Differences -0.01, -0.03, -0.04: mean -8/300, variance (25 + 1 + 16) / 9 / 2 * 1e-4.
  EXPECT_EQ(paired[3], "3");
  EXPECT_EQ(paired[4], "3");
  EXPECT_EQ(paired[7], "-0.0267");
  EXPECT_EQ(paired[10], fmt::format("{:.5g}", -8 / 300.0 / std::sqrt(42 / 18.0 * 1e-4 / 3)));
}

TEST_F(StudyReportTest, NetworksAreComparedOnTheSameTestImages) {
  add({"resnet50", "pcam", "full", "paper", "none", 0}, 7 / 9.0, seven_ninths);
  add({"resnet50", "pcam", "transfer", "paper", "none", 0}, 6 / 9.0, six_ninths);
  add({"mobilenet", "pcam", "full", "paper", "none", 0}, 0.9);
  add({"mobilenet", "pcam", "transfer", "paper", "none", 0}, 0.8);
  const Section section = full_against_transfer(Study(states_));
  ASSERT_EQ(section.tables.size(), 2u);
  const Texts resnet = line(section.tables[1], {"PCam", "RN50"}), mobile = line(section.tables[1], {"PCam", "MN"});
  EXPECT_EQ(resnet[5], "0.1111");
  EXPECT_FALSE(resnet[10].empty()) << "p";
  EXPECT_EQ(resnet[10], resnet[11]) << "Holm's of a single p";
  EXPECT_EQ(mobile[5], "0.1000");
  EXPECT_TRUE(mobile[10].empty()) << "no scores.csv";
}

TEST_F(StudyReportTest, OnlySharedSeedsAreCompared) {
  add({"resnet50", "pcam", "transfer", "paper", "none", 0}, 0.8);
  add({"resnet50", "pcam", "transfer", "paper", "none", 1}, 0.7);
  add({"resnet50", "pcam", "transfer", "native", "none", 1}, 0.9);
  const Section section = past_the_paper(Study(states_));
  ASSERT_EQ(section.tables.size(), 1u);
  EXPECT_EQ(section.tables[0].key, "preprocess");
  const Texts texts = line(section.tables[0], {"PCam", "RN50"});
  EXPECT_EQ(texts[3], "1");
  EXPECT_EQ(texts[6], "0.2000");
}

TEST_F(StudyReportTest, EightViewsAreComparedSeedBySeed) {
  for (const std::uint64_t seed : {0, 1, 2}) {
    CellState& state = add({"b6", "pcam", "full", "paper", "none", seed}, 7 / 9.0, seven_ninths);
    state.tta = {{"auc", 7 / 9.0 + 0.01 * static_cast<double>(seed + 1)}};
  }
  states_[0].tta = {{"auc", 1.0}};
  write_scores(states_[0].folder / "scores_tta.csv", perfect);
  const Section section = past_the_paper(Study(states_));
  ASSERT_EQ(section.tables.size(), 2u);
  const Texts mean = line(section.tables[0], {"PCam", "B6"}),
              first = line(section.tables[1], {"PCam", "B6", "full, paper", "0"});
  EXPECT_EQ(mean[3], "3");
  EXPECT_EQ(mean[6], fmt::format("{:.4f}", (2 / 9.0 + .02 + .03) / 3));
  EXPECT_FALSE(mean[7].empty()) << "Student's interval over three seeds";
  EXPECT_EQ(first[6], "0.2222");
  EXPECT_FALSE(first[7].empty()) << "DeLong's";
  EXPECT_TRUE(line(section.tables[1], {"PCam", "B6", "full, paper", "1"})[7].empty()) << "no scores_tta.csv";
}

TEST_F(StudyReportTest, SecondsAreScaledToThePapersEpoch) {
  add({"b2", "pcam", "full", "paper", "none", 0}, 0.9);
  const Table table = table_2(Study(states_)).tables[0];
  EXPECT_EQ(line(table, {"B2"}), (Texts{"B2", "full", "PCam", "100", "1,000", "10.00", "2,621", "", "325", "70", "47", "26"}));
  EXPECT_EQ(line(table, {"IV3", "transfer"})[8], "468") << "the paper's, though not run here";
}

TEST_F(StudyReportTest, TheRateIsTheMedianOverSeeds) {
  const double rates[] = {100, 400, 130};
  const auto rate_of = [&](int seeds) {
    states_.clear();
    for (int seed = 0; seed < seeds; ++seed)
      add({"b2", "pcam", "full", "paper", "none", static_cast<std::uint64_t>(seed)}, 0.9).result["images_per_second"] =
          rates[seed];
    return line(table_2(Study(states_)).tables[0], {"B2"})[3];
  };
  EXPECT_EQ(rate_of(2), "250");
  EXPECT_EQ(rate_of(3), "130");
}

TEST_F(StudyReportTest, FiguresOfImagesThatWereLearnedFromAreSaidToBe) {
  add({"b2", "pcam", "full", "paper", "none", 0}, 0.9);
  EXPECT_EQ(written("report.md").find("had learned"), std::string::npos);
  add({"mobilenet", "pcam", "transfer", "paper", "none", 0}, 0.9).result["test_learned"] = {
      {"images", 3}, {"groups", 1}, {"group_images", 5}};
  const Texts notes{
      "pcam-mobilenet-transfer-paper-none-0: The weights had learned from 3 of the test images and from 1 of the test split's "
      "patients or slides, by name (5 images): figures on these are too good."};
  const Table table = table_3_or_4(Study(states_), "pcam").tables[0], cells = cells_section(Study(states_)).tables[0];
  EXPECT_NE(std::ranges::find(table.notes, notes[0]), table.notes.end());
  EXPECT_EQ(cells.notes, notes);
  const Texts of_cell = line(cells, {"MN"});
  EXPECT_EQ(Texts(of_cell.begin() + 11, of_cell.end()), (Texts{"3", "5", "done"}));
  EXPECT_NE(written("report.md").find("The weights of 1 of the cells had learned from test images"), std::string::npos);
  states_.back().result["test_learned"] = {{"images", "three"}, {"groups", -1}};
  EXPECT_EQ(written("report.md").find("had learned"), std::string::npos) << "what is no number is none";
}

TEST_F(StudyReportTest, TableOneCountsOneWay) {
  const Table table = table_1(Study(states_)).tables[0];
  EXPECT_EQ(line(table, {"VGG19"}),
            (Texts{"VGG19", "18", "25", "25", "all, as Keras counts", "20,155,969", "131,585", "143.7", "143.67"}));
  EXPECT_EQ(line(table, {"ENB2"})[4], "neither: a slip");
  EXPECT_EQ(line(table, {"IV3"})[4], "with weights, of 1000 classes");
}

TEST_F(StudyReportTest, APartialStudySaysSo) {
  add({"b6", "pcam", "full", "paper", "none", 0}, 0.9);
  states_.push_back(
      {.cell = {"b2", "idc", "full", "paper", "none", 0}, .status = CellStatus::failed, .why = "out of <memory>"});
  states_.push_back({.cell = {"b2", "pcam", "full", "paper", "none", 0}, .status = CellStatus::stopped, .epochs_done = 7});
  const std::string html = written("report.html");
  EXPECT_NE(html.find("A partial study: 1 of 3 cells are done, 1 failed, 1 stopped."), std::string::npos);
  EXPECT_NE(html.find("failed: out of &lt;memory&gt;"), std::string::npos);
  EXPECT_EQ(html.find("<memory>"), std::string::npos);
  EXPECT_NE(html.find("stopped after 7 epochs"), std::string::npos);
  EXPECT_NE(html.find("No network has been fully trained on IDC yet."), std::string::npos);
}

TEST_F(StudyReportTest, TheLeadCountsTheNetworksThatAreThere) {
  const auto lead = [&] { return lines_of(folder_ / "report/report.md")[2]; };
  add({"p4m_densenet", "pcam", "full", "paper", "none", 0}, 0.9);
  written("report.md");
  EXPECT_TRUE(lead().starts_with("P4M, which the paper had not, beside")) << lead();
  add({"b2", "pcam", "full", "paper", "none", 0}, 0.9);
  add({"b2", "idc", "full", "paper", "none", 0}, 0.9);
  written("report.md");
  EXPECT_TRUE(lead().starts_with("1 of the paper's twelve networks, and P4M, beside")) << lead();
  states_.erase(states_.begin());
  for (const PaperNetwork& network : paper_networks()) states_.push_back({.cell = {std::string(network.net), "idc", "full"}});
  EXPECT_NE(written("report.html").find("The paper's twelve networks, beside"), std::string::npos) << lead();
  EXPECT_NE(lead().find("A partial study: 2 of 14 cells are done"), std::string::npos) << lead();
}

TEST_F(StudyReportTest, ANetworkThatThePaperHadNotStandsBesideTheOthers) {
  add({"p4m_densenet", "pcam", "full", "paper", "none", 0}, 1, perfect);
  EXPECT_EQ(line(table_1(Study(states_)).tables[0], {"P4M"})[3], "") << "no depth was printed";
  EXPECT_NE(joined(figure_4(Study(states_)).said, " ").find("None of the paper's networks has been trained on PCam"),
            std::string::npos);
  add({"b6", "pcam", "full", "paper", "none", 0}, 7 / 9.0, seven_ninths);
  add({"resnet50", "pcam", "transfer", "paper", "none", 0}, 7 / 9.0, seven_ninths);
  const Study study(states_);
  EXPECT_EQ(line(table_3_or_4(study, "pcam").tables[0], {"P4M, full, paper"})[6], "1.000");
  EXPECT_NE(figure_3(study, "pcam").figures[1].script.find("set label 'P4M'"), std::string::npos);
  const Table tests = past_the_paper(study).tables.back();
  EXPECT_EQ(tests.key, "other_networks");
  ASSERT_EQ(tests.lines.size(), 1u) << "full training alone";
  const Texts first = line(tests, {"PCam", "P4M", "B6", "1", "1.000", "0.778", "0.2222"});
  EXPECT_FALSE(first[10].empty()) << "p";
}

TEST_F(StudyReportTest, NetworksWithoutABaseStandInTheirRowsUnderEitherPreprocessing) {
  add({"b6", "pcam", "full", "native", "none", 0}, 0.9);  // of native,paper the grid gives it the first
  add({"resnet50", "pcam", "full", "native", "none", 0}, 0.8);
  add({"resnet50", "pcam", "full", "paper", "none", 0}, 0.7);
  const Study study(states_);
  const Table table = table_3_or_4(study, "pcam").tables[0];
  EXPECT_EQ(line(table, {"B6"})[6], "0.900");
  EXPECT_EQ(line(table, {"RN50"})[6], "");
  EXPECT_EQ(line(table, {"RN50", "1"})[6], "0.700");
  EXPECT_EQ(line(table, {"RN50, full, native"})[6], "0.800");
  EXPECT_EQ(table.lines.size(), 23u);
  EXPECT_EQ(line(table_2(study).tables[0], {"B6"})[3], "100");
}

TEST_F(StudyReportTest, BasesFromCellsAreNamedOnce) {
  for (const std::uint64_t seed : {0, 1})
    for (const std::string net : {"resnet50", "mobilenet"})
      add({net, "pcam", "transfer", "native", "none", seed}, 0.9).result["weights"] =
          fmt::format("/x/cells/idc-{0}-full-native-none-{1}/idc-{0}-base.weights.h5", net, seed);
  const auto facts = facts_of(Study(states_));
  const auto weights = std::ranges::find(facts, "initial weights", &std::pair<std::string, std::string>::first);
  ASSERT_NE(weights, facts.end());
  EXPECT_EQ(weights->second, "transfer: idc-<network>-full-native-none-<seed>/idc-<network>-base.weights.h5");
}

TEST_F(StudyReportTest, AStudyWithNothingDoneIsAReportToo) {
  states_.push_back({.cell = {"b2", "idc", "full", "paper", "none", 0}});
  EXPECT_NE(written("report.md").find("0 of 1 cells are done, 1 waiting"), std::string::npos);
}

TEST_F(StudyReportTest, ScoresThatCannotBeReadAreLeftOutAndNamed) {
  CellState& state = add({"b6", "pcam", "full", "paper", "none", 0}, 0.9);
  write_text(state.folder / "scores.csv", "id,label,score\n0,2,0.5\n");
  const std::string markdown = written("report.md");
  EXPECT_NE(markdown.find("pcam-b6-full-paper-none-0/scores.csv, line 2 is left out: a line of the scores cannot be used"),
            std::string::npos)
      << markdown;
  EXPECT_EQ(markdown.find(folder_ / ""), std::string::npos) << "a path of the machine";
  EXPECT_NE(markdown.find("| B6 | 1 | 0.500 |"), std::string::npos) << "its result.json stands";
  write_scores(state.folder / "scores.csv", {seven_ninths.begin(), seven_ninths.end() - 1});
  EXPECT_NE(written("report.md").find("scores.csv is left out: it lacks test images, or is of others (23 of 24)"),
            std::string::npos)
      << "cut short between two lines";
}

TEST_F(StudyReportTest, ThePageNeedsNoNetworkAndTheTablesHoldItsFigures) {
  for (const char* net : {"resnet50", "mobilenet", "b6"}) add({net, "pcam", "full", "paper", "none", 0}, 0.9125, seven_ninths);
  const std::string html = written("report.html");
  for (const char* reference : {"src=", "href=\"http", "url(http", "@import", "<script", "<link"})
    EXPECT_EQ(html.find(reference), std::string::npos) << reference;
  const std::vector<std::string> lines = lines_of(folder_ / "report/tables/table3.csv");
  EXPECT_EQ(lines.front(),
            "group,network,seeds,loss,paper_loss,accuracy,paper_accuracy,auc,auc_sd,auc_low,auc_high,interval_over,paper_auc");
  EXPECT_TRUE(std::ranges::any_of(
      lines, [](const std::string& l) { return l.starts_with("Full training,RN50,1,0.5,0.57,0.75,0.82,0.9125,"); }));
  for (const char* table : {"table1", "table2", "figure3_pcam", "figure4", "full_against_transfer", "cells"})
    EXPECT_TRUE(std::filesystem::exists(folder_ / fmt::format("report/tables/{}.csv", table))) << table;
}

TEST_F(StudyReportTest, LabelsOfFigureThreeDoNotOverlap) {
  for (const PaperScore& score : paper_scores("pcam"))
    add({std::string(score.net), "pcam", std::string(score.mode), "paper", "none", 0}, score.auc - 0.01);
  for (const Figure& figure : figure_3(Study(states_), "pcam").figures) {
    std::vector<std::array<double, 3>> labels;  // pixels: centre, half a width
    for (std::size_t at = 0; (at = figure.script.find("set label '", at)) != std::string::npos; ++at) {
      const std::size_t begin = at + 11, end = figure.script.find('\'', begin);
      double x = 0, y = 0;
      ASSERT_EQ(std::sscanf(figure.script.c_str() + end, "' at screen %lf, screen %lf", &x, &y), 2);
      labels.push_back({x * 1030, y * 470, 3.8 * static_cast<double>(end - begin)});
    }
    ASSERT_EQ(labels.size(), 12u);
    for (std::size_t i = 0; i < labels.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        EXPECT_TRUE(std::abs(labels[i][0] - labels[j][0]) >= labels[i][2] + labels[j][2] ||
                    std::abs(labels[i][1] - labels[j][1]) >= 12)
            << figure.heading << ": " << i << " and " << j;
  }
}

TEST_F(StudyReportTest, WhatDiffersIsSaidOfTheseCellsAlone) {
  const auto said = [&] { return joined(differences_from_the_paper(Study(states_)).said, "\n"); };
  add({"b6", "pcam", "full", "paper", "none", 0}, 0.9);
  EXPECT_NE(said().find("PCam is a sample here"), std::string::npos);
  EXPECT_EQ(said().find("IDC is split"), std::string::npos);
  EXPECT_EQ(said().find("frozen bases"), std::string::npos);
  add({"resnet50", "idc", "transfer", "paper", "none", 0}, 0.9).result["weights"] = "/somewhere/pcam-resnet50/best.weights.h5";
  states_.back().split_by = "patient";
  EXPECT_NE(said().find("IDC is split by patient"), std::string::npos);
  EXPECT_NE(said().find("are not ImageNet's"), std::string::npos);
  EXPECT_EQ(said().find("Batch-norm"), std::string::npos);
  states_[0].result.update({{"weights", nullptr}, {"batch_size", 32}, {"parameters", 9}, {"trainable_parameters", 8}});
  states_[0].statistics = "auto";
  EXPECT_NE(said().find("Batch-norm: where an epoch has less than 1,000 steps"), std::string::npos);
  states_[0].result["trainable_parameters"] = 9;
  EXPECT_EQ(said().find("Batch-norm"), std::string::npos) << "it has none";
  EXPECT_EQ(said().find("batches of 32"), std::string::npos);
  states_[0].result["batch_size"] = 64;
  EXPECT_NE(said().find("batches of 32"), std::string::npos);
  EXPECT_EQ(said().find("Native"), std::string::npos);
  add({"resnet50", "idc", "full", "native", "none", 0}, 0.9);
  EXPECT_NE(said().find("Native preprocessing feeds"), std::string::npos);
  const std::string html = written("report.html");
  EXPECT_NE(html.find("transfer: pcam-&lt;network&gt;/best.weights.h5"), std::string::npos);
  EXPECT_EQ(html.find("/somewhere"), std::string::npos) << "a path of the machine";
}

TEST(PaperTest, ThePapersRowsAreOfOurNetworks) {
  for (const PaperNetwork& network : paper_networks()) EXPECT_EQ(find_network(network.net).name, network.net);
  EXPECT_EQ(paper_scores("pcam").size(), 22u);
  EXPECT_EQ(paper_scores("idc").size(), 20u);
  for (const char* data : {"pcam", "idc"}) {
    std::set<std::pair<std::string_view, std::string_view>> rows;
    for (const PaperScore& score : paper_scores(data)) {
      EXPECT_TRUE(paper_network(score.net)) << score.net;
      EXPECT_TRUE(rows.emplace(score.net, score.mode).second) << score.net << " twice";
    }
  }
}

}  // namespace
}  // namespace microtome
