#include "tools/report/scores.h"

#include "data/csv.h"
#include "engine/check.h"
#include "tools/cli/json.h"
#include "tools/process.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <source_location>

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
  write_text(folder / "scores.csv", "id,label,score,group\n" + csv_field("a,b/1.png") + ",1,0.5,a\nc/2.png,0,0.25,b\n");
  const LabelledScores read = read_scores(folder / "scores.csv");
  EXPECT_EQ(read.ids, (std::vector<std::string>{"a,b/1.png", "c/2.png"}));
  EXPECT_EQ(read.groups, (std::vector<std::string>{"a", "b"}));
  write_text(folder / "scores.csv", "label,score,group\n1,0.5,\n");
  EXPECT_TRUE(read_scores(folder / "scores.csv").groups.empty()) << "none is known";
}

TEST(ScoresTest, WhatSpreadsheetsAndHandsMakeOfAFileIsRead) {
  const TemporaryFolder folder;
  write_text(folder / "scores.csv", "\xef\xbb\xbflabel,score,group\r\n1,0.5,a\r\n\r\n0,0.25,b,,\r\n");
  const LabelledScores read = read_scores(folder / "scores.csv");
  EXPECT_EQ(read.labels, (std::vector<std::uint8_t>{1, 0}));
  EXPECT_EQ(read.groups, (std::vector<std::string>{"a", "b"}));
  write_text(folder / "scores.csv", "label,score,what\n1,0.5,7\n0,0.25,8\n");
  EXPECT_TRUE(read_scores(folder / "scores.csv").ids.empty()) << "no column has that name";
  EXPECT_TRUE(read_scores(folder / "scores.csv").groups.empty());
}

/// The refusal of a file of this text.
Error refusal(const std::string& text, Scale scale = Scale::as_named) {
  const TemporaryFolder folder;
  write_text(folder / "scores.csv", text);
  try {
    read_scores(folder / "scores.csv", scale);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::data);
    return error;
  }
  ADD_FAILURE() << "read: " << text;
  return Error(ExitCode::done, "", {}, std::source_location::current());
}

LabelledScores read_text(const std::string& text, Scale scale = Scale::as_named) {
  const TemporaryFolder folder;
  write_text(folder / "scores.csv", text);
  return read_scores(folder / "scores.csv", scale);
}

TEST(ScoresTest, ColumnsHaveTheNamesThatOthersGiveThem) {
  for (const std::string header :
       {"y_true,y_pred", "label,prediction", "Label,Probability", "target,y_score", "\"Ground truth\",proba"}) {
    const LabelledScores read = read_text(header + "\n1,0.75\n0,0.5\n");
    EXPECT_EQ(read.labels, (std::vector<std::uint8_t>{1, 0})) << header;
    EXPECT_EQ(read.scores, (std::vector<double>{0.75, 0.5})) << header;
    EXPECT_TRUE(read.notes.empty()) << header;
  }
  EXPECT_EQ(read_text("prediction,label,probability\n1,1,0.75\n0,0,0.5\n").scores, (std::vector<double>{0.75, 0.5}))
      << "what is called a probability is rather the score than what is called a prediction";
  const LabelledScores calls = read_text("label,prediction\n1,1\n0,1\n");
  EXPECT_EQ(calls.notes,
            std::vector<std::string>{"prediction holds calls, 0 or 1, and no scores: the AUC is that of a single threshold"});
}

TEST(ScoresTest, SemicolonsTabsAndDecimalCommasAreRead) {
  for (const std::string text : {"label;score;group\n1;0,75;a\n0;0,5;b\n", "label\tscore\tgroup\n1\t0.75\ta\n0\t0,5\tb\n",
                                 "label,score,group\n1,\"0,75\",a\n0,\"0,5\",b\n"}) {
    const LabelledScores read = read_text(text);
    EXPECT_EQ(read.scores, (std::vector<double>{0.75, 0.5})) << text;
    EXPECT_EQ(read.groups, (std::vector<std::string>{"a", "b"})) << text;
  }
  const Error error = refusal("label,score\n1,0,75\n");
  EXPECT_STREQ(error.what(), "a line of the scores has more fields than there are columns");
  EXPECT_NE(error.report().next.find("semicolons"), std::string::npos) << error.report().next;
}

TEST(ScoresTest, LabelsMayBeWords) {
  EXPECT_EQ(read_text("label,score\nTrue,0.5\nFALSE,0.25\n1.0,0.75\n").labels, (std::vector<std::uint8_t>{1, 0, 1}));
  const Error error = refusal("label,score\n1,0.5\ntumour,0.25\n");
  EXPECT_EQ(error.report().expected, "0 or 1, or False or True, under label");
  EXPECT_EQ(error.report().found, "tumour,0.25");
}

TEST(ScoresTest, LogitsAreAskedForOrNamed) {
  const Error error = refusal("y_true,y_pred\n1,2.5\n0,-3\n");
  EXPECT_EQ(error.report().expected, "a score from 0 to 1 under y_pred");
  EXPECT_NE(error.report().next.find("--logits"), std::string::npos) << error.report().next;
  const LabelledScores asked = read_text("y_true,y_pred\n1,2.5\n0,-3\n", Scale::logits);
  EXPECT_TRUE(asked.logits);
  EXPECT_EQ(asked.scores, (std::vector<double>{2.5, -3}));
  EXPECT_TRUE(read_text("label,logit\n1,2.5\n0,-3\n").logits) << "its name says so";
  const std::string both = "label,score,logit\n1,0.5,0\n";
  EXPECT_FALSE(read_text(both).logits);
  EXPECT_EQ(read_text(both, Scale::logits).scores, std::vector<double>{0});
  EXPECT_EQ(refusal("label,logit\n1,inf\n").report().expected, "a finite number under logit");
}

TEST(ScoresTest, ColumnsThatCouldEachBeMeantMustAgree) {
  for (const auto& [text, taken, other] :
       std::vector<std::array<std::string, 3>>{{"y_true,label,score\n0,0,.1\n1,0,.9\n", "label", "y_true"},
                                               {"class,label,score\n0,0,.1\n1,0,.9\n", "label", "class"},
                                               {"y,label,score\n0,0,.1\n1,0,.9\n", "label", "y"},
                                               {"label,probability,score\n0,.1,.1\n1,.8,.9\n", "score", "probability"},
                                               {"label,probability,logit\n0,.5,0\n1,.8,-1\n", "probability", "logit"},
                                               {"label,score,patient,group\n0,.1,a,x\n1,.8,a,y\n", "group", "patient"},
                                               {"label,score,patient,slide\n0,.1,a,x\n1,.8,b,x\n", "patient", "slide"}}) {
    const Error error = refusal(text);
    EXPECT_TRUE(std::string(error.what()).ends_with("differ, and either could be meant")) << error.what();
    EXPECT_TRUE(error.report().where.ends_with("line 3")) << error.report().where;
    EXPECT_EQ(error.report().next, "rename " + taken + " or " + other + ", or leave it out") << text;
  }
  EXPECT_EQ(refusal("y_true,label,score\n1,0,.9\n").report().found, "label 0, y_true 1");
  for (const std::string text :
       {"y_true,label,score\n0,0,.1\n1,1,.9\n", "label,score,probability,logit\n0,.5,.5,0\n1,.8808,.8808,2\n",
        "label,score,patient,slide\n0,.1,a,x\n1,.8,b,y\n", "label,score,group,patient\n0,.1,,x\n1,.8,,y\n"})
    EXPECT_EQ(read_text(text).labels, (std::vector<std::uint8_t>{0, 1})) << text;
  for (const std::string text : {"label,class,score\n0,benign,.1\n1,tumour,.9\n", "x,y,label,score\n5,1,0,.1\n7,20,1,.9\n",
                                 "label,y_pred,y_prob\n0,1,.1\n1,0,.9\n"})
    EXPECT_EQ(read_text(text).scores, (std::vector<double>{.1, .9})) << "what no label or score can be is none: " << text;
}

TEST(ScoresTest, ProbabilitiesAreNoLogits) {
  const Error error = refusal("label,probability\n0,.1\n1,.9\n", Scale::logits);
  EXPECT_NE(std::string(error.what()).find("--logits"), std::string::npos) << error.what();
  EXPECT_EQ(error.report().found, "probability");
  EXPECT_EQ(read_text("label,probability,score\n0,.1,-2\n1,.9,2\n", Scale::logits).scores, (std::vector<double>{-2, 2}));
  EXPECT_EQ(refusal("label,score,y_pred\n0,-2,-3\n", Scale::logits).report().found, "score -2, y_pred -3");
}

TEST(ScoresTest, AnImageWithoutAPatientIsSaid) {
  const Error error = refusal("label,score,patient\n0,.1,a\n1,.9\n1,.8,b\n");
  EXPECT_STREQ(error.what(), "a line of the scores has fewer fields than there are columns");
  EXPECT_TRUE(error.report().where.ends_with("line 3")) << error.report().where;
  const LabelledScores read = read_text("label,score,patient\n0,.1,a\n1,.9,\n1,.8,\n");
  EXPECT_EQ(read.groups, (std::vector<std::string>{"a", "", ""}));
  EXPECT_EQ(read.notes,
            std::vector<std::string>{
                "patient is not known for 2 of 3 images, first in line 3: each counts as a patient or slide of its own"});
}

TEST(ScoresTest, WhatIsMissingInTheHeaderIsSaid) {
  const Error lacking = refusal("label,certainty\n1,0.5\n"), nameless = refusal("1,0.5\n0,0.25\n"),
              twice = refusal("label,score,score\n1,0.5,0.5\n"), wide = refusal(std::string("\xff\xfel\0a\0", 6));
  EXPECT_NE(lacking.report().expected.find("y_true"), std::string::npos) << lacking.report().expected;
  EXPECT_EQ(lacking.report().found, "label,certainty");
  EXPECT_EQ(nameless.report().next, "put a line label,score above the others");
  EXPECT_STREQ(twice.what(), "two columns of the scores have one name");
  EXPECT_EQ(wide.report().found, "UTF-16");
}

TEST(ScoresTest, WhatStandsBeforeTheColumnsNamesIsReadOrSaid) {
  for (const char* text : {"sep=;\nlabel;score\n0;0,25\n1;0,5\n", "\n \nlabel|score\n0|0.25\n1|0.5\n",
                           "\xef\xbb\xbfSEP=;\r\nlabel;score\r\n0;0,25\r\n1;0,5\r\n"})
    EXPECT_EQ(read_text(text).scores, (std::vector<double>{0.25, 0.5})) << text;
  EXPECT_TRUE(refusal("sep=;\nlabel;score\n2;0,25\n").report().where.ends_with("line 3"));
  EXPECT_EQ(refusal("# by hand\nlabel,score\n").report().found, "a comment");
  EXPECT_EQ(refusal("label,score\r0,0.25\r1,0.5\r").report().found, "lines that end in CR alone, as on old Macs");
  EXPECT_EQ(refusal("{\"label\": [0]}").report().found, "JSON");
  EXPECT_EQ(refusal("").report().found, "an empty file");
  EXPECT_EQ(refusal("PK\3\4").report().found, "a zip file");
}

TEST(ScoresTest, ANameMayHoldALineBreak) {
  const LabelledScores read = read_text("id,label,score,group\n\"a\n.png\",0,.1,\"p\n1\"\nb,1,.9,c\n");
  EXPECT_EQ(read.ids, (std::vector<std::string>{"a\n.png", "b"}));
  EXPECT_EQ(read.groups, (std::vector<std::string>{"p\n1", "c"}));
  EXPECT_TRUE(refusal("id,label,score\n\"a\n\n\",0,.1\nb,2,.9\n").report().where.ends_with("line 5"));
  EXPECT_TRUE(refusal("id,label,score\n\"a,0,.1\nb,1,.9\n").report().where.ends_with("line 2")) << "never closed";
}

TEST(ScoresTest, WhatSaysThatNobodyKnowsIsNoPatient) {
  for (const char* unknown : {"NA", "nan", "None", "?", "N/A", ""}) {
    const LabelledScores read = read_text(fmt::format("label,score,subject_id\n0,.1,a\n1,.9,{0}\n1,.8,{0}\n", unknown));
    EXPECT_EQ(read.groups, (std::vector<std::string>{"a", "", ""})) << unknown;
    EXPECT_EQ(read.notes.size(), 1u) << unknown;
  }
}

TEST(ScoresTest, EveryColumnThatNamesImagesIsLookedAt) {
  const Error twice = refusal("id,filename,label,score\n0,f.png,1,0.5\n1,g.png,1,0.5\n2,./f.png,1,0.5\n");
  EXPECT_TRUE(twice.report().where.ends_with("lines 2 and 4")) << twice.report().where;
  EXPECT_EQ(refusal("file,label,score\nf.png,1,0.5\n./f.png,0,0.25\n").report().found, "./f.png");
  const LabelledScores of_slides = read_text("id,file,label,score\n0,a.svs,1,0.5\n1,a.svs,0,0.25\n");
  EXPECT_EQ(of_slides.ids, (std::vector<std::string>{"0", "1"}));
  EXPECT_EQ(of_slides.notes, std::vector<std::string>{"file says 1 names in 2 lines: lines are taken for images by id"});
  EXPECT_EQ(read_text("id,path,label,score\n0,/d/77/0/a.png,0,.25\n1,/d/78/1/b.png,1,.5\n").groups,
            (std::vector<std::string>{"77", "78"}));
}

TEST(ScoresTest, ANameThatSaysAnotherClassIsNoticed) {
  const LabelledScores read = read_text("file,label,score\n8_idx5_x51_y1251_class0.png,1,.5\n9_idx5_x1_y2_class1.png,1,.5\n");
  EXPECT_EQ(read.notes[0], "file says another class than label of 1 of 2 images");
}

TEST(ScoresTest, FileNamesSayPatients) {
  const LabelledScores read =
      read_text("filename,y_true,y_pred\n8863_idx5_x51_y1251_class0.png,0,0.25\nd/9_idx5_x1_y2_class1.png,1,0.5\n");
  EXPECT_EQ(read.groups, (std::vector<std::string>{"8863", "9"}));
  EXPECT_EQ(read.notes,
            std::vector<std::string>{"patients are those that filename says: 8863 of 8863_idx5_x51_y1251_class0.png"});
  EXPECT_EQ(read_text("path,label,score\n/data/77/0/a.png,0,0.25\n/data/78/1/b.png,1,0.5\n").groups,
            (std::vector<std::string>{"77", "78"}));
  const LabelledScores partly = read_text("file,label,score\n8863_idx5_x51_y1251_class0.png,0,0.25\nother.png,1,0.5\n");
  EXPECT_TRUE(partly.groups.empty());
  EXPECT_EQ(partly.notes, std::vector<std::string>{"patients are not known: file says them of 1 images and not of 1"});
  EXPECT_EQ(read_text("file,label,score,patient\n8863_idx5_x51_y1251_class0.png,0,0.25,a\n").groups,
            std::vector<std::string>{"a"})
      << "a column of patients comes first";
}

TEST(ScoresTest, ImagesThatAreThereTwiceOrNotAreNoticed) {
  const Error twice = refusal("id,label,score\na,1,0.5\nb,0,0.25\na,1,0.5\n");
  EXPECT_TRUE(twice.report().where.ends_with("lines 2 and 4")) << twice.report().where;
  EXPECT_EQ(twice.report().found, "a");
  const Error gap = refusal("id,label,score,group\n0,1,0.5,\n1,0,0.5,\n3,0,0.25,\n");
  EXPECT_EQ(gap.report().found, "none for 2; 3 lines in all");
  EXPECT_EQ(gap.report().expected, "a line for each id from 0 to 3");
  EXPECT_EQ(read_text("id,label,score\n3,1,0.5\n7,0,0.25\n").ids.size(), 2u) << "others may number as they like";
  const Error cut = refusal("id,label,score,group\n0,1,0.5,\n1,0,0.2");
  EXPECT_STREQ(cut.what(), "the scores are cut short");

  const TemporaryFolder folder;
  write_text(folder / "scores.csv", "id,label,score,group\n0,1,0.5,\n1,0,0.25,\n");
  write_text(folder / "result.json", "{\"test\": {\"n\": 3}}");
  const auto compared = [&] {
    LabelledScores scores = read_scores(folder / "scores.csv");
    compare_with_result(folder / "scores.csv", scores);
    return scores.notes;
  };
  EXPECT_THROW(compared(), Error);
  write_text(folder / "result.json", "{\"test\": {\"n\": 2}}");
  EXPECT_TRUE(compared().empty());
  write_text(folder / "result.json", "{\"test\": {\"n\": 2}, \"scores_digest\": \"00\"}");
  EXPECT_EQ(compared().size(), 1u);
  write_text(folder / "result.json", "{");
  EXPECT_TRUE(compared().empty());
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

TEST(ScoresTest, LogitsAreJudgedByTheProgram) {
  const TemporaryFolder folder;
  const std::string file = folder / "logits.csv";
  write_text(file, "y_true;y_pred\nTrue;50,5\nFalse;-1\nFalse;50\nTrue;2\n");
  const Ended refused = run({"evaluate", "--scores", file, "--json"}),
              judged = run({"evaluate", "--scores", file, "--logits", "--json"});
  EXPECT_EQ(refused.code, 3);
  ASSERT_EQ(judged.code, 0) << judged.err;
  const Json json = Json::parse(judged.out);
  EXPECT_EQ(json["auc"], 0.75) << "50 is less than 50.5, though both probabilities are 1";
  EXPECT_EQ(json["accuracy"], 0.75);
  EXPECT_NEAR(json["loss"].get<double>(), (std::log1p(std::exp(-1.0)) + 50 + std::log1p(std::exp(-2.0))) / 4, 1e-12);
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
