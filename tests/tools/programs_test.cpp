// What scripts and people rely on: files, JSON keys, columns, exit codes and messages, seen from outside.
#include "tools/process.h"

#include "data/checkpoint.h"
#include "data/pcam.h"
#include "tools/cli/json.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>

namespace fs = std::filesystem;

namespace microtome {
namespace {

std::set<std::string> keys_of(const Json& json) {
  std::set<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.insert(key);
  return keys;
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

/// One small data set and one run on it, for all tests of a suite.
class ProgramsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TemporaryFolder>();
    data = (*folder / "data").string();
    out = (*folder / "run").string();
    write_small_pcam(data);
    const Ended trained = run(
        {"train", "--net", "b2", "--data", data, "--device", "cpu", "--epochs", "2", "--log-steps", "--json", "--out", out});
    ASSERT_EQ(trained.code, 0) << trained.err;
    printed = trained.out;
  }
  static void TearDownTestSuite() { folder.reset(); }

  static std::string fresh(const std::string& name) { return (*folder / name).string(); }
  static std::string weights() { return out + "/best.weights.h5"; }

  static std::unique_ptr<TemporaryFolder> folder;
  static std::string data, out, printed;
};
std::unique_ptr<TemporaryFolder> ProgramsTest::folder;
std::string ProgramsTest::data, ProgramsTest::out, ProgramsTest::printed;

TEST_F(ProgramsTest, TrainWritesItsFolder) {
  for (const char* name : {"config.toml", "log.jsonl", "metrics.csv", "steps.csv", "result.json", "best.weights.h5",
                           "last.checkpoint", "roc.csv", "scores.csv", "report.html"}) {
    EXPECT_GT(fs::file_size(fs::path(out) / name), 0u) << name;
  }
  EXPECT_EQ(lines_of(out + "/metrics.csv").front(),
            "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,seconds,images_per_second");
  EXPECT_EQ(lines_of(out + "/metrics.csv").size(), 1u + 2);
  EXPECT_EQ(lines_of(out + "/steps.csv").front(), "step,loss");
  EXPECT_EQ(lines_of(out + "/steps.csv").size(), 1u + 2 * 3);  // 80 images in batches of 32
  for (const std::string& line : lines_of(out + "/log.jsonl")) EXPECT_TRUE(Json::parse(line).contains("event")) << line;

  const Json result = Json::parse(text_of(out + "/result.json"));
  EXPECT_EQ(Json::parse(printed), result);
  for (const char* key :
       {"net", "mode", "device", "precision", "graph", "batch_size", "epochs", "best_epoch", "images_per_second",
        "seconds_per_epoch", "peak_memory_bytes", "validation", "test", "versions", "commit"}) {
    EXPECT_TRUE(result.contains(key)) << key;
  }
  for (const char* split : {"validation", "test"}) {
    for (const char* key : {"loss", "accuracy", "auc"}) EXPECT_TRUE(result[split][key].is_number()) << split << key;
  }
  EXPECT_GT(result["peak_memory_bytes"], 1'000'000);

  const std::string page = text_of(out + "/report.html");
  EXPECT_TRUE(contains(page, has_gnuplot() ? "<svg" : "gnuplot was not found"));
  EXPECT_FALSE(contains(page, "src=\"http") || contains(page, "href=\"http")) << "the page needs the network";
}

TEST_F(ProgramsTest, ConfigReproducesTheRun) {
  const std::string again = fresh("again");
  const Ended outcome = run({"train", "--config", out + "/config.toml", "--out", again});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(lines_of(again + "/steps.csv"), lines_of(out + "/steps.csv"));
  EXPECT_TRUE(text_of(again + "/best.weights.h5") == text_of(weights()));
}

TEST_F(ProgramsTest, StepsRunOpByOpGiveTheSameLosses) {
  const std::string unrecorded = fresh("unrecorded");
  const Ended outcome = run({"train", "--config", out + "/config.toml", "--graph", "off", "--out", unrecorded});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(lines_of(unrecorded + "/steps.csv"), lines_of(out + "/steps.csv"));
  EXPECT_EQ(Json::parse(text_of(unrecorded + "/result.json"))["graph"], "off");
}

TEST_F(ProgramsTest, WhatChoosesAmongAGpusEnginesChangesNothingOnTheCpu) {
  const std::string chosen = fresh("chosen");
  const Ended plain = run({"train", "--config", out + "/config.toml", "--out", fresh("plain")});
  const Ended outcome =
      run({"train", "--config", out + "/config.toml", "--deterministic", "--autotune", "off", "--out", chosen});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(lines_of(chosen + "/steps.csv"), lines_of(out + "/steps.csv"));
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), std::count(plain.err.begin(), plain.err.end(), '\n'));
  for (const char* setting : {"deterministic = true", "autotune = \"off\""})
    EXPECT_TRUE(contains(text_of(chosen + "/config.toml"), setting)) << setting;
}

TEST_F(ProgramsTest, WhatBatchNormsAndDropoutAreToDoReachesTheRun) {
  struct Run {
    std::vector<std::string> steps;
    Json validation;
    std::string err;
  };
  const auto train = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> words{"train", "--net",    "b6", "--data",      data,    "--device",
                                   "cpu",   "--epochs", "1",  "--log-steps", "--out", fresh(name)};
    words.insert(words.end(), more.begin(), more.end());
    const Ended ended = run(words);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return Run{lines_of(fresh(name) + "/steps.csv"), Json::parse(text_of(fresh(name) + "/result.json"))["validation"],
               ended.err};
  };
  const std::string notice = "--statistics moving takes them all the same";
  const Run automatic = train("automatic", {}), population = train("population", {"--statistics", "population"}),
            moving = train("moving", {"--statistics", "moving"}),
            keras3 = train("keras3", {"--statistics", "moving", "--moving-variance", "keras3"}),
            dropless = train("dropless", {"--statistics", "moving", "--dropout", "off"});
  EXPECT_TRUE(contains(automatic.err, notice)) << automatic.err;
  EXPECT_EQ(automatic.validation, population.validation) << "an epoch is short";
  for (const Run* asked_for : {&population, &moving}) EXPECT_FALSE(contains(asked_for->err, notice)) << asked_for->err;
  for (const Run* same : {&population, &moving, &keras3}) EXPECT_EQ(same->steps, automatic.steps) << "training is the same";
  EXPECT_NE(moving.validation, population.validation);
  EXPECT_NE(keras3.validation, moving.validation);
  EXPECT_NE(dropless.steps, moving.steps);
}

TEST_F(ProgramsTest, DenseUnitsFirstEpochAndVerbosityReachTheRun) {
  const std::string later = fresh("later");
  const Ended ended = run({"train", "--net", "b6", "--data", data, "--device", "cpu", "--dense-units", "8", "--epochs", "3",
                           "--first-epoch", "2", "--verbose", "--json", "--out", later});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const std::int64_t of_study =
      Json::parse(run({"describe", "--net", "b6", "--size", "36", "--json"}).out)["parameters"]["total"];
  const std::int64_t fewer = of_study - Json::parse(ended.out)["parameters"].get<std::int64_t>();
  EXPECT_EQ(fewer % (256 - 8), 0) << "the study has 256 units";
  EXPECT_GT(fewer / (256 - 8), 128) << "parameters a unit: of all cells of 128 channels";
  const std::vector<std::string> epochs = lines_of(later + "/metrics.csv");
  ASSERT_EQ(epochs.size(), 1u + 1);
  EXPECT_EQ(epochs[1].substr(0, 2), "3,");
  EXPECT_TRUE(contains(ended.err, "checkpoint after step ")) << ended.err;
  EXPECT_FALSE(
      contains(run({"train", "--config", later + "/config.toml", "--out", fresh("less-said")}).err, "checkpoint after"));
}

TEST_F(ProgramsTest, TheRocIsWrittenWhereItIsAskedFor) {
  const std::string roc = fresh("roc.csv");
  const Ended ended =
      run({"evaluate", "--net", "b2", "--data", data, "--device", "cpu", "--weights", weights(), "--roc", roc, "-q"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(lines_of(roc), lines_of(out + "/roc.csv")) << "as train left it";
}

TEST_F(ProgramsTest, AugmentationIsPartOfTheRun) {
  const std::string augmented = fresh("augmented");
  const Ended outcome = run(
      {"train", "--config", out + "/config.toml", "--augment", "d4,shift=2", "--epochs", "1", "--json", "--out", augmented});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["augment"], "d4,shift=2");
  EXPECT_NE(lines_of(augmented + "/steps.csv")[1], lines_of(out + "/steps.csv")[1]);
  const Ended other = run({"train", "--resume", "--out", augmented, "--augment", "none", "--epochs", "2"});
  EXPECT_EQ(other.code, 4) << other.err;
  EXPECT_TRUE(contains(other.err, "--augment cannot change")) << other.err;
}

TEST_F(ProgramsTest, TheMemoryPlanIsPrintedAndNothingElseHappens) {
  const std::vector<std::string> words{"train",         "--net", "b2", "--data",   data,  "--out",
                                       fresh("unmade"), "-b",    "16", "--device", "cpu", "--memory-plan"};
  const Ended text = run(words);
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* part : {"weights ", "gradients ", "Adam's moments", "activations ", "scratch ", "images ", "total ",
                           "a batch of 80 would fit, all training images in one", "forward only", "kept", "conv2d"})
    EXPECT_TRUE(contains(text.out, part)) << part << " in\n" << text.out;
  std::vector<std::string> more = words;
  more.push_back("--json");
  const Ended json = run(more);
  ASSERT_EQ(json.code, 0) << json.err;
  const Json plan = Json::parse(json.out);
  EXPECT_EQ(plan["batch_size"], 16);
  EXPECT_EQ(plan["gradients_bytes"].get<std::int64_t>() * 2, plan["moments_bytes"].get<std::int64_t>());
  EXPECT_LT(plan["arena_bytes"], plan["arena_unshared_bytes"]);
  std::int64_t total = 0, rows = 0;
  for (const char* key : {"weights_bytes", "gradients_bytes", "moments_bytes", "low_precision_weights_bytes", "arena_bytes",
                          "scratch_bytes", "kept_bytes", "images_bytes", "features_bytes", "saving_bytes"})
    total += plan.at(key).get<std::int64_t>();
  EXPECT_EQ(plan["total_bytes"], total);
  for (const Json& row : plan["rows"])
    for (const char* key : {"forward_only_bytes", "kept_bytes", "gradients_bytes"}) rows += row[key].get<std::int64_t>();
  EXPECT_LE(rows, plan["arena_unshared_bytes"].get<std::int64_t>());
  EXPECT_GT(rows, plan["arena_unshared_bytes"].get<std::int64_t>() * 9 / 10);
  EXPECT_EQ(plan["largest_batch"], 80) << "all images fit";
  EXPECT_FALSE(fs::exists(fresh("unmade")));
}

TEST_F(ProgramsTest, NoEpochsEvaluateTheInitialWeights) {
  const std::string initial = fresh("initial");
  const Ended outcome = run(
      {"train", "--net", "b2", "--data", data, "--device", "cpu", "--epochs", "0", "--weights", weights(), "--out", initial});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json before = Json::parse(text_of(out + "/result.json")), now = Json::parse(text_of(initial + "/result.json"));
  EXPECT_EQ(now["test"], before["test"]);
  EXPECT_EQ(now["validation"], before["validation"]);
  EXPECT_EQ(now["best_epoch"], 0);
}

TEST_F(ProgramsTest, EvaluateAgreesWithTrainAndWithPredict) {
  const Json result = Json::parse(text_of(out + "/result.json"));
  const Ended evaluated =
      run({"evaluate", "--config", out + "/config.toml", "--weights", weights(), "--split", "test", "--json"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  const Json json = Json::parse(evaluated.out);
  for (const char* key : {"loss", "accuracy", "auc", "auc_ci95", "n", "positives", "confusion"})
    EXPECT_EQ(json[key], result["test"][key]) << key;
  EXPECT_EQ(json["roc"].front()[0], 0.0);
  EXPECT_EQ(json["roc"].back()[1], 1.0);

  const std::string scores = fresh("scores.csv");
  const std::string images = data + "/camelyonpatch_level_2_split_test_x.h5";
  const Ended predicted =
      run({"predict", "--net", "b2", "--weights", weights(), "--data", images, "--device", "cpu", "--out", scores});
  ASSERT_EQ(predicted.code, 0) << predicted.err;
  const std::vector<std::string> lines = lines_of(scores);
  ASSERT_EQ(lines.size(), 1u + 24);
  EXPECT_EQ(lines[0], "id,score");
  EXPECT_EQ(lines[24].substr(0, 3), "23,");

  std::string labelled = "label,score\n";  // write_small_pcam's labels alternate
  for (std::size_t i = 1; i < lines.size(); ++i)
    labelled += std::to_string((i - 1) % 2) + lines[i].substr(lines[i].find(',')) + "\n";
  write_text(fresh("labelled.csv"), labelled);
  const Ended judged = run({"evaluate", "--scores", fresh("labelled.csv"), "--json"});
  ASSERT_EQ(judged.code, 0) << judged.err;
  const Json verdict = Json::parse(judged.out);
  EXPECT_EQ(keys_of(verdict), (std::set<std::string>{"n", "positives", "loss", "accuracy", "auc", "auc_ci95"}));
  EXPECT_EQ(verdict["auc"], result["test"]["auc"]);
  EXPECT_EQ(verdict["accuracy"], result["test"]["accuracy"]);

  const Ended json_lines =
      run({"predict", "--net", "b2", "--weights", weights(), "--data", images, "--device", "cpu", "--format", "jsonl"});
  EXPECT_EQ(Json::parse(json_lines.out.substr(0, json_lines.out.find('\n'))).size(), 2u);
}

/// A copy of the data whose patches come from known slides, four a test slide.
std::string with_slides(const std::string& data, const std::string& to) {
  fs::copy(data, to);
  for (const auto& [split, count] : {std::pair("train", 80), std::pair("valid", 24), std::pair("test", 24)}) {
    std::string text = ",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi\n";
    for (int i = 0; i < count; ++i)
      text += std::to_string(i) + ",64,128,True,False," + split + "_slide_" + std::to_string(i / 4) + "\n";
    write_text(to + "/camelyonpatch_level_2_split_" + split + "_meta.csv", text);
  }
  return to;
}

TEST_F(ProgramsTest, OutputsNeverOverwriteWhatIsRead) {
  const std::string kept = fresh("kept.h5"), csv = fresh("kept.csv"), images = data + "/camelyonpatch_level_2_split_test_x.h5";
  fs::copy_file(weights(), kept);
  fs::copy_file(out + "/scores.csv", csv);
  const std::vector<std::string> judging{"evaluate", "--data", data, "--weights", kept, "--device", "cpu"},
      scoring{"predict", "--data", images, "--weights", kept, "--device", "cpu"};
  const auto with = [](std::vector<std::string> words, std::initializer_list<std::string> more) {
    words.insert(words.end(), more);
    return words;
  };
  for (const auto& words : {with(judging, {"--roc", kept}),
                            with(judging, {"--save-scores", kept}),
                            with(judging, {"--save-scores", images}),
                            with(judging, {"--save-scores", fresh("one.csv"), "--roc", fresh("one.csv")}),
                            with(scoring, {"--out", kept}),
                            with(scoring, {"--out", images}),
                            {"evaluate", "--scores", csv, "--roc", csv},
                            {"convert", kept, kept}}) {
    const std::string before = text_of(kept) + text_of(csv) + text_of(images);
    const Ended refused = run(words);
    EXPECT_EQ(refused.code, 2) << words.back();
    EXPECT_TRUE(contains(refused.err, "would overwrite what")) << refused.err;
    EXPECT_TRUE(text_of(kept) + text_of(csv) + text_of(images) == before) << words.back();
  }
}

TEST_F(ProgramsTest, ScoresAreSavedAndJudgedAgainWithTheirSlides) {
  const std::string known = with_slides(data, fresh("known")), saved = fresh("saved.csv");
  const auto evaluated = [&](const std::string& from) {
    return run({"evaluate", "--net", "b2", "--data", from, "--device", "cpu", "--weights", weights(), "--save-scores", saved,
                "--json"});
  };
  const Ended unknown = evaluated(data);
  ASSERT_EQ(unknown.code, 0) << unknown.err;
  EXPECT_EQ(lines_of(saved), lines_of(out + "/scores.csv")) << "as train left them";
  EXPECT_EQ(lines_of(saved)[0], "id,label,score,group");
  EXPECT_TRUE(lines_of(saved)[24].starts_with("23,1,0.") && lines_of(saved)[24].ends_with(",")) << lines_of(saved)[24];
  EXPECT_FALSE(Json::parse(unknown.out).contains("auc_ci95_clustered"));

  const Ended grouped = evaluated(known);
  ASSERT_EQ(grouped.code, 0) << grouped.err;
  EXPECT_TRUE(lines_of(saved)[24].ends_with(",test_slide_5")) << lines_of(saved)[24];
  const Ended again = run({"evaluate", "--scores", saved, "--json"});
  const Json first = Json::parse(grouped.out), second = Json::parse(again.out);
  EXPECT_EQ(first["groups"], 6);
  for (const char* key : {"n", "positives", "accuracy", "auc", "auc_ci95", "groups", "auc_ci95_clustered"})
    EXPECT_EQ(first[key], second[key]) << key;
  EXPECT_LE(first["auc_ci95_clustered"][0], first["auc"]);
  EXPECT_GE(first["auc_ci95_clustered"][1], first["auc"]);
  EXPECT_NE(first["auc_ci95_clustered"], first["auc_ci95"]);
  EXPECT_TRUE(contains(run({"evaluate", "--scores", saved}).out, "drawing 6 patients or slides as wholes"));
}

TEST_F(ProgramsTest, EightViewsAreAveraged) {
  const std::string saved = fresh("averaged.csv"), predicted = fresh("predicted.csv");
  const Ended evaluated = run({"evaluate", "--net", "b2", "--data", data, "--device", "cpu", "--weights", weights(), "--tta",
                               "d4", "--save-scores", saved, "--json"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  const Json averaged = Json::parse(evaluated.out);
  EXPECT_EQ(averaged["tta"], "d4");
  EXPECT_NE(averaged["loss"], Json::parse(text_of(out + "/result.json"))["test"]["loss"]);
  const Json judged = Json::parse(run({"evaluate", "--scores", saved, "--json"}).out);
  EXPECT_NEAR(judged["loss"].get<double>(), averaged["loss"].get<double>(), 5e-9) << "a score's digits in the file are nine";
  for (const char* key : {"accuracy", "auc"}) EXPECT_EQ(judged[key], averaged[key]) << key;

  const std::string images = data + "/camelyonpatch_level_2_split_test_x.h5";
  ASSERT_EQ(run({"predict", "--net", "b2", "--weights", weights(), "--data", images, "--device", "cpu", "--tta", "d4", "--out",
                 predicted})
                .code,
            0);
  for (std::size_t i = 1; i <= 24; ++i) {
    const std::string line = lines_of(predicted)[i], score = line.substr(line.find(','));
    EXPECT_TRUE(contains(lines_of(saved)[i], score + ",")) << i;
  }
}

TEST_F(ProgramsTest, EvaluateReadsCheckpointsToo) {
  const Ended outcome =
      run({"evaluate", "--net", "b2", "--data", data, "--device", "cpu", "--weights", out + "/last.checkpoint", "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const Ended other =
      run({"evaluate", "--net", "b6", "--data", data, "--device", "cpu", "--weights", out + "/last.checkpoint"});
  EXPECT_EQ(other.code, 4) << other.err;
}

TEST_F(ProgramsTest, DescribeKeepsItsContract) {
  const Ended b6 = run({"describe", "--net", "b6", "--size", "50", "--json"});
  ASSERT_EQ(b6.code, 0) << b6.err;
  const Json json = Json::parse(b6.out);
  EXPECT_EQ(keys_of(json), (std::set<std::string>{"net", "input", "parameters", "macs", "layers", "rows"}));
  EXPECT_EQ(json["input"], (Json{50, 50, 3}));
  EXPECT_EQ(json["parameters"], (Json{{"total", 420609}, {"trainable", 419265}, {"non_trainable", 1344}}));
  EXPECT_EQ(json["layers"]["keras_layers"], 28);
  std::int64_t parameters = 0, macs = 0;
  for (const Json& row : json["rows"]) {
    EXPECT_EQ(keys_of(row), (std::set<std::string>{"name", "kind", "output", "parameters", "macs", "weights"}));
    parameters += row["parameters"].get<std::int64_t>();
    macs += row["macs"].get<std::int64_t>();
  }
  EXPECT_EQ(parameters, 420609);
  EXPECT_EQ(macs, json["macs"].get<std::int64_t>());
  EXPECT_EQ(json["rows"][0]["weights"]["kernel"], (Json{3, 3, 3, 32}));

  const Json all = Json::parse(run({"describe", "--all", "--json"}).out);
  ASSERT_GE(all.size(), 2u);
  EXPECT_FALSE(all[0].contains("rows"));
  EXPECT_EQ(all[0]["layers"]["keras_layers"], 10);
  EXPECT_EQ(run({"describe", "--net", "b2", "--head", "imagenet"}).code, 2);
}

TEST_F(ProgramsTest, TransferTrainsTheHeadOnAKeptBase) {
  const auto train = [](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> words{"train",    "--net", "mobilenet", "--data",    data,
                                   "--device", "cpu",   "--out",     fresh(name), "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Ended outcome = run(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome;
  };
  train("base", {"--epochs", "0"});
  const std::string base = fresh("base") + "/best.weights.h5";
  const std::vector<std::string> options{"--mode", "transfer", "--weights", base, "--epochs", "1", "--log-steps"};
  const Json kept = Json::parse(train("kept", options).out);
  EXPECT_EQ(kept["mode"], "transfer");
  EXPECT_EQ(kept["features"], "kept");
  EXPECT_EQ(kept["parameters"], 3'491'521);
  EXPECT_EQ(kept["trainable_parameters"], 262'657);  // dense 256 and dense 1 on 1024 features
  std::vector<std::string> again = options;
  again.insert(again.end(), {"--features", "recompute"});
  EXPECT_EQ(Json::parse(train("recomputed", again).out)["features"], "recomputed");
  const auto kept_steps = lines_of(fresh("kept") + "/steps.csv"), steps = lines_of(fresh("recomputed") + "/steps.csv");
  ASSERT_EQ(kept_steps.size(), 1u + 3);
  ASSERT_EQ(steps.size(), kept_steps.size());
  for (std::size_t i = 1; i < steps.size(); ++i) {
    const auto loss = [](const std::string& line) { return std::stod(line.substr(line.find(',') + 1)); };
    EXPECT_NEAR(loss(steps[i]), loss(kept_steps[i]), 1e-5) << steps[i];
  }
  again.insert(again.end(), {"--preprocess", "native"});
  train("native", again);
  EXPECT_NE(lines_of(fresh("native") + "/steps.csv"), steps);
}

TEST_F(ProgramsTest, AFullDiskUnderSynthesizeIsOneMessageOfOurs) {
  const std::string made = fresh("full");
  const Ended ended =
      run({"synthesize", "pcam", "--out", made, "--train", "60", "--valid", "20", "--test", "20", "--quiet"}, 100'000);
  EXPECT_EQ(ended.code, 5) << ended.err;
  EXPECT_EQ(ended.err, "synthesize: error: an HDF5 file could not be written\n  where:    " + made +
                           "/camelyonpatch_level_2_split_train_x.h5\n  found:    File too large\n"
                           "  next:     make room on the disk, or name another folder\n");
  EXPECT_EQ(files_in(made), std::vector<fs::path>{fs::path(made) / ".unfinished"}) << "no part is left";
}

TEST_F(ProgramsTest, VerifyPrintsAllThatIsWrong) {
  const std::string broken = fresh("broken");
  fs::copy(data, broken);
  const std::string x = broken + "/camelyonpatch_level_2_split_train_x.h5",
                    y = broken + "/camelyonpatch_level_2_split_test_y.h5";
  write_text(x, "<html></html>");
  const Ended once = run({"data", "verify", "--data", broken});
  EXPECT_EQ(once.code, 3);
  EXPECT_FALSE(contains(once.err, "things are wrong")) << "one message is enough";
  write_text(y, "");
  for (const bool json : {false, true}) {
    const Ended ended = json ? run({"data", "verify", "--data", broken, "--json"}) : run({"data", "verify", "--data", broken});
    EXPECT_EQ(ended.code, 3);
    EXPECT_TRUE(contains(ended.err, x)) << ended.err;
    EXPECT_TRUE(contains(ended.err, y)) << ended.err;
    EXPECT_TRUE(contains(ended.err, "data: error: 2 things are wrong with " + broken)) << ended.err;
    if (!json) {
      EXPECT_EQ(ended.out, "");
      continue;
    }
    const Json document = Json::parse(ended.out);
    EXPECT_EQ(document["sound"], false);
    ASSERT_EQ(document["problems"].size(), 2u);
    EXPECT_EQ(document["problems"][0]["where"], x);
    EXPECT_EQ(document["problems"][1]["found"], "an empty file");
    EXPECT_EQ(document["valid"]["images"], 24);
  }
}

TEST_F(ProgramsTest, WhateverAFoldersNameHoldsMessagesKeepTheirLines) {
  const std::string odd = fresh("a\nb");
  fs::create_directory(odd);
  const Ended ended = run({"data", "verify", "--data", odd});
  EXPECT_EQ(ended.code, 3);
  EXPECT_TRUE(contains(ended.err, "a\\nb\n  expected: ")) << ended.err;
}

TEST_F(ProgramsTest, SynthesizeWritesBothFormatsAndVerifyReadsThem) {
  for (const std::string format : {"pcam", "idc"}) {
    const std::string made = fresh("made-" + format);
    const std::vector<std::string> words{"synthesize", format, "--out",  made, "--train", "60",
                                         "--valid",    "20",   "--test", "20", "--seed",  "3"};
    ASSERT_EQ(run(words).code, 0);
    const Ended verified = run({"data", "verify", "--data", made, "--json"});
    ASSERT_EQ(verified.code, 0) << verified.err;
    const Json json = Json::parse(verified.out);
    EXPECT_EQ(json["format"], format);
    EXPECT_GE(json["train"]["images"].get<int>() + json["valid"]["images"].get<int>() + json["test"]["images"].get<int>(), 100);
    EXPECT_EQ(run(words).code, 9) << "the folder is not empty";
  }
}

TEST_F(ProgramsTest, AuditSaysWhatLeaksAndItsGateFails) {
  const std::string known = with_slides(data, fresh("audited"));
  const Ended sound = run({"data", "audit", "--data", known, "--gate", "--json"});
  ASSERT_EQ(sound.code, 0) << sound.err;
  const Json apart = Json::parse(sound.out);
  EXPECT_EQ(apart["leaks"], false);
  EXPECT_EQ(apart["splits"]["train"]["groups"], 20);
  EXPECT_EQ(apart["sizes"], Json({{"36x36", 128}}));
  EXPECT_TRUE(apart["duplicates"].empty());

  for (const char what : {'x', 'y'}) {
    const std::string name = known + "/camelyonpatch_level_2_split_";
    fs::copy(name + "test_" + what + ".h5", name + "valid_" + what + ".h5", fs::copy_options::overwrite_existing);
  }
  const Ended text = run({"data", "audit", "--data", known});
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char* part : {"24 of test are in valid too", "crosses: valid:0 (0) = test:0 (0)", "none is in two splits",
                           "valid_meta.csv: MD5 ", "LEAKS: "})
    EXPECT_TRUE(contains(text.out, part)) << part << " in\n" << text.out;
  const Ended gated = run({"data", "audit", "--data", known, "--gate", "--json"});
  EXPECT_EQ(gated.code, 7);
  EXPECT_EQ(Json::parse(gated.out)["shared"]["test"]["valid"], 24);
  EXPECT_EQ(Json::parse(gated.out)["duplicates"].size(), 24u);
}

TEST_F(ProgramsTest, FoldersThatSayASplitAreBelievedByEveryProgram) {
  const fs::path made = fresh("made-to-deal"), dealt = fresh("dealt");
  ASSERT_EQ(run({"synthesize", "idc", "--out", made, "--train", "60", "--valid", "20", "--test", "20"}).code, 0);
  std::vector<fs::path> patients = files_in(made);
  std::ranges::sort(patients);
  ASSERT_EQ(patients.size(), 10u);
  // As tutorials deal them: SPLIT/CLASS/PATIENT_idx5_…, with what macOS leaves beside.
  for (std::size_t i = 0; i < patients.size(); ++i) {
    const fs::path split = dealt / (i < 6 ? "training" : i < 8 ? "validation" : "testing");
    for (const char* label : {"0", "1"}) {
      fs::create_directories(split / label);
      for (const fs::path& file : files_in(patients[i] / label)) {
        fs::rename(file, split / label / file.filename());
        write_text(split / label / ("._" + file.filename().string()), "AppleDouble");
      }
    }
  }
  const Ended verified = run({"data", "verify", "--data", dealt, "--json"});
  ASSERT_EQ(verified.code, 0) << verified.err;
  EXPECT_EQ(Json::parse(verified.out)["train"]["images"], 60);
  EXPECT_EQ(Json::parse(verified.out)["test"]["images"], 20);
  EXPECT_TRUE(contains(verified.out, "100 hidden files or folders left out")) << verified.out;
  EXPECT_TRUE(contains(verified.out, "training to train, validation to valid, testing to test")) << verified.out;
  EXPECT_EQ(run({"data", "audit", "--data", dealt, "--gate"}).code, 0);

  const std::string run_folder = fresh("dealt-run");
  const Ended trained = run({"train", "--net", "b2", "--data", dealt, "--device", "cpu", "--epochs", "1", "--out", run_folder});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_TRUE(contains(trained.err, "splits as folders say")) << trained.err;
  std::set<std::string> tested;
  for (const std::string& line : lines_of(run_folder + "/scores.csv")) {
    if (line.starts_with("testing/")) tested.insert(line.substr(line.rfind(',') + 1));
  }
  EXPECT_EQ(tested, (std::set<std::string>{patients[8].filename(), patients[9].filename()}));
  const Ended scored = run({"predict", "--net", "b2", "--weights", run_folder + "/best.weights.h5", "--data", dealt / "testing",
                            "--size", "50", "--device", "cpu"});
  EXPECT_EQ(scored.code, 0) << scored.err;
  EXPECT_TRUE(contains(scored.err, "note: 20 hidden files or folders left out")) << scored.err;

  const std::vector<fs::path> files = files_in(dealt / "training/0");
  const fs::path patch = *std::ranges::max_element(files);
  fs::rename(patch, dealt / "testing/0" / patch.filename());
  const Ended leaking = run({"data", "audit", "--data", dealt, "--gate"});
  EXPECT_EQ(leaking.code, 7) << leaking.out;
  EXPECT_TRUE(contains(leaking.out, " in several splits: ")) << leaking.out;
}

TEST_F(ProgramsTest, DataThatCannotBeSplitOrJudgedIsRefusedWithWhatHelps) {
  const auto refused = [&](const std::string& from, const std::vector<std::string>& says,
                           const std::string& split_by = "patient") {
    const std::string never = fresh("never-split");
    const Ended outcome =
        run({"train", "--net", "b2", "--data", from, "--device", "cpu", "--split-by", split_by, "--out", never});
    EXPECT_EQ(outcome.code, 3) << outcome.err;
    for (const std::string& part : says) EXPECT_TRUE(contains(outcome.err, part)) << part << " in\n" << outcome.err;
    EXPECT_FALSE(fs::exists(never + "/last.checkpoint"));
    fs::remove_all(never);
  };
  fs::create_directories(fresh("empty"));
  refused(fresh("empty"), {"holds no data set", "an empty folder"});

  const std::string lacking = fresh("lacking");
  fs::copy(data, lacking);
  for (const char what : {'x', 'y'}) fs::remove(lacking + "/camelyonpatch_level_2_split_test_" + what + ".h5");
  const std::vector<std::uint8_t> pixels(2 * 36 * 36 * 3), labels(2, 1);
  PcamWriter writer(lacking, "test", {2, 36, 36, 3});
  writer.append(pixels, labels);
  writer.finish();
  refused(lacking,
          {"the test split has one class only", "0 of class 0, 2 of class 1", "images of both classes into every split"});

  const std::string idc = fresh("idc");
  ASSERT_EQ(run({"synthesize", "idc", "--out", idc, "--train", "40", "--valid", "10", "--test", "10"}).code, 0);
  std::vector<fs::path> patients;
  for (const fs::directory_entry& entry : fs::directory_iterator(idc)) patients.push_back(entry.path());
  std::ranges::sort(patients);
  ASSERT_GE(patients.size(), 3u);
  for (const fs::path& patient : patients) fs::remove_all(patient / "1");
  refused(idc, {"has one class only", "of class 1", "another --split-seed, or --split-by patch"});
  for (std::size_t i = 2; i < patients.size(); ++i) fs::remove_all(patients[i]);
  refused(idc, {"too few patients", "expected: 3 patients or more", "found:    2", "--split-by patch"});
  refused(idc, {"has one class only"}, "patch");
}

struct BadCall {
  int code;
  std::vector<std::string> words;
  std::string says;
};

TEST_F(ProgramsTest, BadCallsSayWhatIsWrong) {
  const std::string x = fresh("never");
  for (const BadCall& bad : std::vector<BadCall>{
           {2, {"train", "--nett", "b2"}, "did you mean --net?"},
           {2, {"train", "--data", data}, "--net is missing"},
           {2, {"train", "--net", "b7", "--data", data, "--out", x}, "b2"},
           {2, {"train", "--net", "b2", "--data", data, "--mode", "transfer"}, "no frozen base"},
           {2, {"train", "--net", "b2", "--data", data, "--device", "tpu", "--out", x}, "auto"},
           {2,
            {"train", "--net", "b2", "--data", data, "--device", "cpu", "--batch-size", "81", "--out", x},
            "--batch-size at most 80"},
           {2, {"train", "--net", "b2", "--data", data, "--graph", "epoch", "--out", x}, "step, off"},
           {2, {"predict", "--net", "b2", "--autotune", "yes"}, "on, off"},
           {2, {"train", "--net", "b2", "--data", data, "--augment", "flip,rotate9", "--out", x}, "did you mean rotate90?"},
           {2, {"train", "--net", "b2", "--data", data, "--augment", "shift=-3", "--out", x}, "shift=PIXELS, 0 to 4096"},
           {2, {"train", "--net", "b2", "--data", data, "--augment", "shift=1.5", "--out", x}, "whole number"},
           {2, {"train", "--net", "b2", "--data", data, "--augment", "zoom", "--out", x}, "zoom=FRACTION"},
           {2, {"train", "--net", "b2", "--data", data, "--augment", "flip=1", "--out", x}, "takes no number"},
           {2,
            {"train", "--net", "mobilenet", "--data", data, "--mode", "transfer", "--augment", "flip", "--out", x},
            "--features recompute"},
           {2,
            {"train", "--net", "b2", "--data", data, "--device", "cpu", "-b", "81", "--memory-plan"},
            "--batch-size at most 80"},
           {2, {"train", "--resume"}, "--resume needs --out"},
           {2, {"describe"}, "--net is missing"},
           {2, {"synthesize", "tiff", "--out", x}, "pcam, idc"},
           {2, {"data", "verify"}, "--data is missing"},
           {3, {"train", "--net", "b2", "--data", x}, "error: "},
           {3, {"data", "verify", "--data", out}, "error: "},
           {3, {"data", "audit", "--data", out}, "PCam's six files"},
           {2, {"data", "verify", "--data", data, "--gate"}, "--gate belongs to audit"},
           {3, {"evaluate", "--scores", x}, "cannot read the scores"},
           {3, {"evaluate", "--scores", fresh(std::string(300, 'a'))}, "File name too long"},
           {2, {"profile", "--gate", "3%"}, "unknown option --gate here\n  next:     profile diff "},
           {2, {"evaluate", "--logits"}, "--scores"},
           {2, {"evaluate", "--scores", out + "/scores.csv", "--tta", "d4"}, "--tta needs a network"},
           {2, {"evaluate", "--scores", out + "/scores.csv", "--save-scores", x}, "--save-scores needs a network"},
           {2, {"evaluate", "--scores", out + "/scores.csv", "--weights", x, "--data", x}, "--weights needs a network"},
           {2, {"evaluate", "--scores", out + "/scores.csv", "--split", "train"}, "--split needs a network"},
           {2, {"predict", "--net", "b2", "--tta", "d8"}, "none, d4"},
           {3, {"predict", "--net", "b2", "--weights", weights(), "--data", x, "--device", "cpu"}, "error: "},
           {4, {"evaluate", "--net", "b6", "--data", data, "--weights", weights(), "--device", "cpu"}, "error: "},
           {4, {"evaluate", "--net", "b2", "--data", data, "--weights", x, "--device", "cpu"}, "error: "},
           {4, {"evaluate", "--net", "b2", "--data", data, "--weights", out + "/config.toml", "--device", "cpu"}, "error: "},
           {6,
            {"train", "--net", "b2", "--data", data, "--device", "cpu", "--lr", "1e30", "--epochs", "3", "--out", fresh("nan")},
            "first not finite: "},
           {8, {"train", "--net", "b2", "--data", data, "--device", "cuda:63", "--out", x}, "error: "},
           {8,
            {"train", "--net", "b2", "--data", data, "--device", "cpu", "--precision", "bf16", "--out", x},
            "--precision f32"}}) {
    const Ended outcome = run(bad.words);
    std::string call;
    for (const std::string& word : bad.words) call += word + " ";
    EXPECT_EQ(outcome.code, bad.code) << call << "\n" << outcome.err;
    EXPECT_TRUE(contains(outcome.err, bad.words[0] + ": error: ")) << call << "\n" << outcome.err;
    EXPECT_TRUE(contains(outcome.err, bad.says)) << call << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "") << call;
  }
}

TEST_F(ProgramsTest, MissingPublishedWeightsSayWhereToGetThem) {
  const Ended outcome = run({"train", "--net", "resnet50", "--data", data, "--weights", "imagenet", "--weights-folder",
                             fresh("nothing"), "--device", "cpu", "--out", fresh("none")});
  EXPECT_EQ(outcome.code, 4);
  for (const char* part : {"resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "https://", "nothing"})
    EXPECT_TRUE(contains(outcome.err, part)) << part << " in\n" << outcome.err;
}

TEST_F(ProgramsTest, DamagedDataIsRefusedBeforeAnythingIsMade) {
  const std::string name = "camelyonpatch_level_2_split_train_x.h5";
  const auto refused = [&](const std::string& how, const std::function<void(const fs::path&)>& damage) {
    const std::string damaged = fresh("damaged-" + how);
    fs::copy(data, damaged);
    damage(fs::path(damaged) / name);
    const Ended outcome =
        run({"train", "--net", "b2", "--data", damaged, "--device", "cpu", "--epochs", "1", "--out", fresh("never-" + how)});
    EXPECT_EQ(outcome.code, 3) << how << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "where: ")) << how << outcome.err;
    EXPECT_FALSE(fs::exists(fresh("never-" + how) + "/last.checkpoint"));
  };
  refused("missing", [](const fs::path& file) { fs::remove(file); });
  refused("gzipped", [](const fs::path& file) { fs::rename(file, file.string() + ".gz"); });
  refused("truncated", [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); });
  refused("no-hdf5", [](const fs::path& file) { write_text(file, "<html>not found</html>"); });
  refused("labels", [](const fs::path& file) {
    fs::copy(file.parent_path() / "camelyonpatch_level_2_split_test_y.h5",
             file.parent_path() / "camelyonpatch_level_2_split_train_y.h5",
             fs::copy_options::overwrite_existing);  // 24 labels for 80 images
  });
}

TEST_F(ProgramsTest, HelpIsOnStdoutAndOpensWithExamples) {
  for (const char* program : {"train", "evaluate", "predict", "describe", "synthesize", "data", "convert"}) {
    const Ended outcome = run({program, "--help"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.err, "");
    const std::size_t examples = outcome.out.find("Examples\n  " + std::string(program) + " ");
    EXPECT_LT(examples, 200u) << program;
    const std::vector<std::string> words{"Usage", "--help"};
    for (const std::string& word : words) EXPECT_TRUE(contains(outcome.out, word)) << program << word;
  }
}

TEST_F(ProgramsTest, HelpSaysADefaultOnceAndWithWhatAnOptionIsNotRequired) {
  const auto help_of = [](const char* program) {
    return std::regex_replace(run({program, "--help"}).out, std::regex("\n +"), " ");  // lines are broken anywhere
  };
  const std::string judge = help_of("evaluate"), score = help_of("predict"), train = help_of("train");
  for (const std::string* help : {&judge, &score}) {
    EXPECT_FALSE(contains(*help, "default paper")) << *help;
    EXPECT_FALSE(contains(*help, "default 256")) << *help;
  }
  EXPECT_FALSE(contains(score, "default 0")) << score;
  EXPECT_TRUE(contains(judge, "[required without --scores]")) << judge;
  EXPECT_FALSE(contains(judge, "[required]")) << judge;
  EXPECT_TRUE(contains(train, "[required without --resume or --config]")) << train;
  EXPECT_FALSE(contains(train, "[required]")) << train;
}

TEST_F(ProgramsTest, NumbersDoNotDependOnTheLocale) {
  setenv("LC_ALL", "de_DE.UTF-8", 1);
  write_text(fresh("locale.csv"), "label,score\n0,0.25\n1,0.75\n");
  const Ended good = run({"evaluate", "--scores", fresh("locale.csv"), "--json"});
  unsetenv("LC_ALL");
  EXPECT_EQ(Json::parse(good.out)["auc"], 1.0);
}

TEST_F(ProgramsTest, QuietSaysNothingButResults) {
  const Ended outcome = run({"evaluate", "--net", "b2", "--data", data, "--weights", weights(), "--device", "cpu", "-q"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_TRUE(contains(outcome.out, "AUC"));
}

}  // namespace
}  // namespace microtome
