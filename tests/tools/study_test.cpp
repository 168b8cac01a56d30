#include "data/pcam.h"
#include "tools/process.h"
#include "tools/study/cell.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>

namespace microtome {
namespace {

namespace fs = std::filesystem;

class StudyTest : public testing::Test {
 protected:
  StudyTest() {
    write_small_pcam(pcam);
    write_idc(idc);
  }

  static void write_idc(const std::string& to) {
    ASSERT_EQ(run({"synthesize", "idc", "--out", to, "--train", "60", "--valid", "20", "--test", "20", "-q"}).code, 0);
  }

  /// One epoch on the CPU.
  std::vector<std::string> words(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"study", "--out", out, "--device", "cpu", "--epochs", "1", "-q"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  std::string file(const std::string& cell, const std::string& name) const { return out + "/cells/" + cell + "/" + name; }

  /// Of each cell, in the order of the study.
  std::vector<std::string> statuses() const {
    std::vector<std::string> all;
    for (const CellState& o : read_study(out)) all.emplace_back(name_of(o.status));
    return all;
  }

  int starts(const std::string& cell) const {
    int count = 0;
    for (const std::string& line : lines_of(file(cell, "log.jsonl"))) count += Json::parse(line)["event"] == "start";
    return count;
  }

  const TemporaryFolder folder;
  const std::string pcam = folder / "pcam", idc = folder / "idc", out = folder / "study";
};

using Words = std::vector<std::string>;

TEST_F(StudyTest, CellsAreRunsTransferBeginsWithItsParentAndAReportLiesBeside) {
  const Ended ended = run(words({"--pcam", pcam, "--idc", idc, "--nets", "b2,mn", "--weights", "other", "--preprocess",
                                 "native", "--tta", "d4", "--json"}));
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Json document = Json::parse(ended.out);
  ASSERT_EQ(document["cells"].size(), 6u);
  EXPECT_EQ(document["done"], 6);
  for (const Json& cell : document["cells"]) {
    const std::string name = cell["name"];
    const Json result = Json::parse(text_of(file(name, "result.json")));
    EXPECT_EQ(result["net"], cell["net"]);
    EXPECT_EQ(result["mode"], cell["mode"]);
    EXPECT_EQ(result["preprocess"], "native");
    EXPECT_EQ(result["weights"].is_null(), cell["mode"] == "full");
    EXPECT_EQ(cell["test"], result["test"]);
    EXPECT_EQ(Json::parse(text_of(file(name, "tta.json")))["auc"], cell["tta_auc"]);
    EXPECT_EQ(lines_of(file(name, "scores_tta.csv")).size(), lines_of(file(name, "scores.csv")).size());
    EXPECT_EQ(starts(name), 1);
  }
  const std::string base = file("pcam-mobilenet-full-native-none-0", "pcam-mobilenet-base.weights.h5");
  EXPECT_NE(text_of(out + "/cells/idc-mobilenet-transfer-native-none-0.toml").find("weights = \"" + base), std::string::npos);
  const Ended headless = run({"evaluate", "--net", "mn", "--weights", base, "--data", idc, "-q"});
  EXPECT_NE(headless.err.find("the weights are those of the base alone"), std::string::npos) << headless.err;
  EXPECT_NE(text_of(out + "/report.html").find("6 of 6"), std::string::npos);

  const Ended status = run({"study", "status", "--out", out});
  EXPECT_EQ(status.code, 0);
  EXPECT_EQ(std::ranges::count(status.out, '\n'), 1 + 6) << status.out;
  const Ended reported = run({"study", "report", "--out", out, "--json"});
  EXPECT_EQ(Json::parse(reported.out), document);
  const Ended again = run({"study", "resume", "--out", out, "-q"});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(starts("pcam-b2-full-native-none-0"), 1) << "what is done is not done again";
}

TEST_F(StudyTest, DamagedResultsAreMadeAgain) {
  ASSERT_EQ(run(words({"--idc", idc, "--nets", "b2", "--tta", "d4"})).code, 0);
  const std::string cell = "idc-b2-full-paper-none-0", result = text_of(file(cell, "result.json"));
  const Json tta = Json::parse(text_of(file(cell, "tta.json")));
  write_text(file(cell, "result.json"), result.substr(0, 100));
  write_text(file(cell, "tta.json"), "");
  EXPECT_EQ(statuses(), Words{"stopped"});
  EXPECT_EQ(run({"study", "report", "--out", out}).code, 0) << "which tells of the rest";
  ASSERT_EQ(run({"study", "resume", "--out", out, "-q"}).code, 0);
  EXPECT_EQ(Json::parse(text_of(file(cell, "result.json")))["test"], Json::parse(result)["test"]);
  EXPECT_EQ(Json::parse(text_of(file(cell, "tta.json"))), tta);
}

TEST_F(StudyTest, WhatIsNoResultIsMadeAgainAndWhatIsNoPlanIsNamed) {
  ASSERT_EQ(run(words({"--idc", idc, "--nets", "b2"})).code, 0);
  const std::string cell = "idc-b2-full-paper-none-0", result = text_of(file(cell, "result.json"));
  EXPECT_EQ(read_study(out)[0].split_by, "patient");
  EXPECT_EQ(read_study(out)[0].statistics, "auto");
  Json without_interval = Json::parse(result);
  without_interval["test"]["auc_ci95"] = {nullptr, "high"};
  write_text(file(cell, "result.json"), without_interval.dump());
  EXPECT_EQ(run({"study", "report", "--out", out}).code, 0);
  for (const char* damaged : {"[]", R"({"test": {"auc": 0.7}})", R"({"test": {"auc": 0.7, "accuracy": 0.5, "loss": null}})"}) {
    write_text(file(cell, "result.json"), damaged);
    EXPECT_EQ(statuses(), Words{"stopped"}) << damaged;
    EXPECT_EQ(run({"study", "report", "--out", out}).code, 0) << damaged;
  }
  ASSERT_EQ(run({"study", "resume", "--out", out, "-q"}).code, 0);
  EXPECT_EQ(Json::parse(text_of(file(cell, "result.json")))["test"], Json::parse(result)["test"]);

  Json plan = Json::parse(text_of(out + "/cells.json"));
  plan["cells"][0]["parent"] = "pcam-b2-full-native-none-0";
  for (const std::string& damaged : {std::string(), std::string("{"), std::string("{\"epochs\": 1}"), plan.dump()}) {
    write_text(out + "/cells.json", damaged);
    const Ended status = run({"study", "status", "--out", out});
    EXPECT_EQ(status.code, 3) << damaged;
    EXPECT_NE(status.err.find("the list of the study's cells is damaged"), std::string::npos) << status.err;
  }
}

TEST_F(StudyTest, AResultIsThatOfItsCellAndItsFiguresArePossible) {
  ASSERT_EQ(run(words({"--idc", idc, "--nets", "b2", "--seeds", "0,1", "--tta", "d4"})).code, 0);
  const std::string cell = "idc-b2-full-paper-none-0";
  const Json result = Json::parse(text_of(file(cell, "result.json"))), tta = Json::parse(text_of(file(cell, "tta.json")));
  const auto with = [](Json json, const std::string& pointer, const Json& value) {
    json[Json::json_pointer(pointer)] = value;
    return json.dump();
  };
  const auto expect_stopped = [&](const std::string& name, const std::string& text, const std::string& why) {
    const std::string before = text_of(file(cell, name));
    write_text(file(cell, name), text);
    const CellState state = read_study(out)[0];
    EXPECT_EQ(name_of(state.status), "stopped") << text;
    EXPECT_EQ(state.why, why);
    write_text(file(cell, name), before);
  };
  expect_stopped("result.json", with(result, "/test/auc", 7), "result.json is damaged: auc cannot be 7");
  expect_stopped("result.json", with(result, "/test/accuracy", -0.5), "result.json is damaged: accuracy cannot be -0.5");
  expect_stopped("result.json", with(result, "/test/loss", -1), "result.json is damaged: loss cannot be -1");
  expect_stopped("result.json", with(result, "/net", "b6"), "result.json is another cell's: its net is \"b6\"");
  expect_stopped("result.json", with(result, "/mode", "transfer"), "result.json is another cell's: its mode is \"transfer\"");
  expect_stopped("result.json", text_of(file("idc-b2-full-paper-none-1", "result.json")),
                 "result.json is another cell's: its seed is 1");
  expect_stopped("tta.json", with(tta, "/auc", 1.5), "tta.json is damaged: auc cannot be 1.5");
  expect_stopped("tta.json", with(tta, "/n", 7), "tta.json is another cell's: its n is 7");
  expect_stopped("tta.json", with(tta, "/same_data", false), "tta.json is of other images than the run's");
  write_text(file(cell, "result.json"), with(result, "/seed", 5));
  ASSERT_EQ(run({"study", "resume", "--out", out, "-q"}).code, 0);
  EXPECT_EQ(Json::parse(text_of(file(cell, "result.json")))["test"], result["test"]) << "made again from its own checkpoint";
}

TEST_F(StudyTest, CellsOfTwoDataSetsAreNoStudy) {
  const Words study{"--idc", idc, "--nets", "b2", "--seeds", "0,1"};
  ASSERT_EQ(run(words(study)).code, 0);
  const std::string first = "idc-b2-full-paper-none-0", second = "idc-b2-full-paper-none-1";
  EXPECT_EQ(Json::parse(text_of(file(first, "result.json")))["split_digests"].size(), 3u);
  fs::rename(out + "/cells/" + second, folder / "taken");
  fs::rename(idc, folder / "former");
  ASSERT_EQ(
      run({"synthesize", "idc", "--out", idc, "--train", "60", "--valid", "20", "--test", "20", "--seed", "5", "-q"}).code, 0);
  const Ended refused = run({"study", "resume", "--out", out, "-q"});
  EXPECT_EQ(refused.code, 3) << refused.err;
  EXPECT_NE(refused.err.find("not those that the study's cells were trained on"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(out + "/cells/" + second));

  const std::string elsewhere = folder / "elsewhere";
  ASSERT_EQ(
      run({"study", "--out", elsewhere, "--device", "cpu", "--epochs", "1", "-q", "--idc", idc, "--nets", "b2", "--seeds", "1"})
          .code,
      0);
  fs::copy(elsewhere + "/cells/" + second, out + "/cells/" + second);
  const CellState mixed = read_study(out)[1];
  EXPECT_EQ(name_of(mixed.status), "failed");
  EXPECT_NE(mixed.why.find("its images are not those of " + first), std::string::npos) << mixed.why;
  const Ended said = run({"study", "resume", "--out", out, "-q"});
  EXPECT_EQ(said.code, 3);
  EXPECT_NE(said.err.find(second + "  failed: its images are not those of"), std::string::npos) << said.err;
  EXPECT_NE(text_of(out + "/report.md").find("its images are not those of"), std::string::npos);

  fs::remove_all(out + "/cells/" + second);
  fs::remove_all(idc);
  fs::rename(folder / "former", idc);
  EXPECT_EQ(run({"study", "resume", "--out", out, "-q"}).code, 0);
}

TEST_F(StudyTest, WhatTheInitialWeightsHadLearnedStandsBesideTheFigures) {
  ASSERT_EQ(run({"train", "--net", "mobilenet", "--data", idc, "--split-seed", "3", "--epochs", "1", "--device", "cpu", "--out",
                 folder / "run", "-q"})
                .code,
            0);
  fs::create_directory(folder / "weights");
  fs::copy(folder / "run/best.weights.h5", folder / "weights/mobilenet.weights.h5");
  const Ended ended = run(words({"--idc", idc, "--nets", "mn", "--modes", "transfer", "--weights", folder / "weights"}));
  ASSERT_EQ(ended.code, 0) << ended.err;
  const Json learned = Json::parse(text_of(file("idc-mobilenet-transfer-paper-none-0", "result.json")))["test_learned"];
  ASSERT_GT(learned["images"], 0);
  const std::string said = "The weights had learned from " + learned["images"].dump() + " of the test images";
  EXPECT_NE(ended.out.find(said), std::string::npos) << ended.out;
  for (const char* page : {"/report.md", "/report.html"}) EXPECT_NE(text_of(out + page).find(said), std::string::npos) << page;
  const std::vector<std::string> cells = lines_of(out + "/tables/cells.csv");
  EXPECT_NE(cells[0].find(",learned_images,learned_group_images,"), std::string::npos) << cells[0];
  const std::string counts = fmt::format(",{},{},", learned["images"].dump(), learned["group_images"].dump());
  EXPECT_NE(cells[1].find(counts), std::string::npos) << cells[1];
  const Ended status = run({"study", "status", "--out", out, "--json"});
  EXPECT_EQ(Json::parse(status.out)["cells"][0]["test_learned"], learned);
}

TEST_F(StudyTest, AFailedCellSaysWhyAndTheOthersGoOn) {
  PcamWriter writer(pcam, "test", {2, 36, 36, 3});  // a class missing
  const std::vector<std::uint8_t> black(2 * 36 * 36 * 3);
  writer.append(black, std::vector<std::uint8_t>{0, 0});
  writer.finish();
  const std::string small = folder / "small";  // no three splits of one patient
  fs::create_directory(small);
  fs::copy(fs::directory_iterator(idc)->path(), small / fs::path("patient"), fs::copy_options::recursive);
  const Ended ended = run(words({"--pcam", pcam, "--idc", small, "--nets", "b6", "--seeds", "0,1"}));
  EXPECT_EQ(ended.code, 3);
  for (const char* part : {"cell 1/4", "cell 4/4", "failed: "})
    EXPECT_NE(ended.err.find(part), std::string::npos) << "-q is quiet about what went well\n" << ended.err;
  EXPECT_EQ(statuses(), Words(4, "failed"));
  const std::vector<CellState> outcomes = read_study(out);
  EXPECT_NE(outcomes[0].why.find("class 1"), std::string::npos) << outcomes[0].why;
  EXPECT_NE(outcomes[1].why.find("patient"), std::string::npos) << outcomes[1].why;

  fs::remove_all(small);
  fs::copy(idc, small, fs::copy_options::recursive);
  EXPECT_EQ(run({"study", "resume", "--out", out, "-q"}).code, 3);
  EXPECT_EQ(statuses(), Words(4, "failed")) << "not tried again, unless told to";
  EXPECT_EQ(run({"study", "resume", "--out", out, "-q", "--retry-failed"}).code, 3);
  EXPECT_EQ(statuses(), (Words{"failed", "done", "failed", "done"}));
}

TEST_F(StudyTest, ACellWhoseParentFailedIsFailedToo) {
  fs::remove(pcam + "/camelyonpatch_level_2_split_valid_y.h5");
  EXPECT_EQ(run(words({"--pcam", pcam, "--idc", idc, "--nets", "mn", "--weights", "other", "--preprocess", "native"})).code, 3);
  EXPECT_EQ(statuses(), (Words{"failed", "done", "failed", "failed"}));
  EXPECT_EQ(read_study(out)[3].why, "pcam-mobilenet-full-native-none-0 failed, whose weights it begins with");
  EXPECT_NE(run({"study", "resume", "--out", out, "-q"}).err.find("idc-mobilenet-transfer-native-none-0  failed: "),
            std::string::npos);
}

TEST_F(StudyTest, AParentsDamagedWeightsFailTheCellsThatBeginWithThem) {
  const Words study = words({"--pcam", pcam, "--idc", idc, "--nets", "mn", "--weights", "other", "--preprocess", "native"});
  Process begun(study);
  const std::string parent = "pcam-mobilenet-full-native-none-0";
  ASSERT_TRUE(wait_until([&] { return fs::exists(file(parent, "result.json")); }));
  write_text(file(parent, "best.weights.h5"), "damaged");
  EXPECT_EQ(begun.wait().code, 4);
  EXPECT_EQ(statuses(), (Words{"done", "done", "done", "failed"}));
}

TEST_F(StudyTest, AStoppedStudyGoesOnInsideItsCell) {
  const Words study{"--idc", idc, "--nets", "b2", "--seeds", "0,1", "--epochs", "15"};
  Process stopped(words(study));
  const std::string cell = "idc-b2-full-paper-none-0";
  ASSERT_TRUE(wait_until([&] { return fs::exists(file(cell, "last.checkpoint")); }));
  EXPECT_EQ(statuses(), (Words{"running", "waiting"}));
  stopped.send(SIGTERM);
  EXPECT_EQ(stopped.wait().code, 143);
  EXPECT_EQ(statuses(), (Words{"stopped", "waiting"}));
  const Ended other = run(words({"--idc", idc, "--nets", "b2", "--seeds", "0,1", "--epochs", "16"}));
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.err.find("--epochs cannot change"), std::string::npos) << other.err;
  ASSERT_EQ(run({"study", "resume", "--out", out, "-q"}).code, 0);
  EXPECT_EQ(statuses(), (Words{"done", "done"}));
  EXPECT_EQ(starts(cell), 2);
  EXPECT_EQ(lines_of(file(cell, "metrics.csv")).size(), 1u + 15);
}

TEST_F(StudyTest, ProcessesShareAFolderAndRunNoCellTwice) {
  const Words study = words({"--idc", idc, "--nets", "b2,b6", "--seeds", "0,1,2"});
  Process first(study), second(study);
  const int codes[] = {first.wait().code, second.wait().code};
  EXPECT_TRUE(std::ranges::count(codes, 0) >= 1) << codes[0] << ", " << codes[1];
  EXPECT_TRUE(std::ranges::all_of(codes, [](int code) { return code == 0 || code == 9; })) << codes[0] << ", " << codes[1];
  EXPECT_EQ(statuses(), Words(6, "done"));
  for (const CellState& o : read_study(out)) EXPECT_EQ(starts(o.cell.name()), 1) << o.cell.name();
}

TEST_F(StudyTest, ARunDoesNotBeginInAStudysFolder) {
  ASSERT_EQ(run(words({"--idc", idc, "--nets", "b2"})).code, 0);
  const std::string config = text_of(out + "/config.toml");
  EXPECT_EQ(run({"train", "--net", "b2", "--data", idc, "--out", out, "-q"}).code, 2);
  EXPECT_EQ(text_of(out + "/config.toml"), config);
}

TEST_F(StudyTest, AShardRunsItsShareAlone) {
  const Words study = words({"--idc", idc, "--nets", "b6", "--seeds", "0,1,2,3"});
  for (const int shard : {1, 2}) {
    Words share = study;
    share.insert(share.end(), {"--shard", std::to_string(shard) + "/2"});
    ASSERT_EQ(run(share).code, 0);
    EXPECT_EQ(std::ranges::count(statuses(), "done"), 2 * shard);
  }
}

TEST_F(StudyTest, TunedHyperparametersReachTheirNetworksAlone) {
  const std::string tuned = folder / "tuned";
  fs::create_directory(tuned);
  write_text(tuned + "/b6.toml", "net = \"b6\"\nlr = 0.002\nbatch-size = 16\ndense-units = 8\nseed = 5\n");
  ASSERT_EQ(run(words({"--idc", idc, "--nets", "b6", "--hyperparameters", tuned})).code, 0);
  const Json result = Json::parse(text_of(file("idc-b6-full-paper-none-0", "result.json")));
  EXPECT_EQ(result["learning_rate"], 0.002);
  EXPECT_EQ(result["batch_size"], 16);
  EXPECT_EQ(result["seed"], 0);
  const auto of_two = [&] {
    return run({"study", "--idc", idc, "--nets", "b2,b6", "--hyperparameters", tuned, "--out", folder / "other"});
  };
  EXPECT_EQ(of_two().code, 2) << "b2 has not been tuned";
  fs::copy_file(tuned + "/b6.toml", tuned + "/b2.toml");
  const Ended others = of_two();
  EXPECT_EQ(others.code, 2);
  EXPECT_NE(others.err.find("another network's"), std::string::npos) << others.err;

  const Ended overridden = run({"study", "--idc", idc, "--nets", "b6", "--hyperparameters", tuned, "--lr", "0.5", "--epochs",
                                "1", "--device", "cpu", "--out", folder / "third"});
  EXPECT_NE(overridden.err.find("b6: lr 0.002 of --hyperparameters, not --lr 0.5"), std::string::npos) << overridden.err;
}

TEST_F(StudyTest, AResultThatWasChangedIsNone) {
  ASSERT_EQ(run(words({"--idc", idc, "--nets", "b2"})).code, 0);
  EXPECT_EQ(statuses(), Words{"done"});
  const std::string name = file("idc-b2-full-paper-none-0", "result.json");
  std::string text = text_of(name);
  const std::size_t at = text.find("\"seed\": 0") + 8;
  write_text(name, text.substr(0, at) + " " + text.substr(at));
  EXPECT_EQ(statuses(), Words{"done"}) << "other spaces";
  const std::size_t auc = text.find("\"auc\": 0.") + 9;
  text[auc] = text[auc] == '1' ? '2' : '1';
  write_text(name, text);
  EXPECT_EQ(statuses(), Words{"stopped"});
}

TEST_F(StudyTest, BadInputIsOneMessageAndWritesNothing) {
  const auto refused = [&](const Words& more) { return run(words(more)).code; };
  EXPECT_EQ(refused({}), 2) << "no data";
  EXPECT_EQ(refused({"--idc", idc, "--nets", "b3"}), 2);
  EXPECT_EQ(refused({"--idc", idc, "--nets", ""}), 2);
  EXPECT_EQ(refused({"--idc", idc, "--nets", "b2", "--shard", "3/2"}), 2);
  EXPECT_EQ(refused({"--idc", idc, "--nets", "b2", "--shard", "half"}), 2);
  EXPECT_EQ(refused({"--idc", pcam, "--nets", "b2"}), 3) << "the other data set";
  EXPECT_EQ(refused({"--idc", folder / "nowhere", "--nets", "b2"}), 3);
  EXPECT_EQ(refused({"--idc", idc, "--nets", "mn", "--weights", folder / "nowhere"}), 4);
  EXPECT_EQ(refused({"--idc", idc, "--nets", "mn", "--weights-folder", folder / "nowhere"}), 4);
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(run({"study", "status", "--out", out}).code, 3);
  EXPECT_EQ(run({"study", "resume", "--out", out}).code, 3);
  EXPECT_EQ(run({"study", "--idc", idc}).code, 2) << "no --out";
  fs::create_directory(out);
  write_text(out + "/config.toml", "net = \"b2\"\n");
  EXPECT_EQ(refused({"--idc", idc, "--nets", "b2"}), 2) << "a run's folder";
}

TEST_F(StudyTest, WithoutItsReportAStudyIsNotDone) {
  std::filesystem::create_directories(out + "/report.html");  // where a file should be
  const Ended ended = run(words({"--pcam", pcam, "--nets", "b2", "--modes", "full"}));
  EXPECT_EQ(statuses(), (std::vector<std::string>{"done"})) << ended.err;
  EXPECT_EQ(ended.code, 5) << ended.err;
  EXPECT_NE(ended.err.find("report.html"), std::string::npos) << ended.err;
  EXPECT_EQ(ended.out.find("report.html"), std::string::npos) << ended.out;
  const Ended failed =
      run(words({"--pcam", pcam, "--nets", "b2", "--modes", "full", "--lr", "1e30", "--out", folder / "diverged"}));
  EXPECT_EQ(failed.err.find("no report"), std::string::npos) << failed.err;
  fs::remove(folder / "diverged/report.html");
  fs::create_directory(folder / "diverged/report.html");
  const Ended both = run({"study", "resume", "--out", folder / "diverged", "-q"});
  EXPECT_EQ(both.code, 6) << both.err;
  EXPECT_NE(both.err.find("no report: "), std::string::npos) << both.err;
}

}  // namespace
}  // namespace microtome
