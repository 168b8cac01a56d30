#include "tools/cli/json.h"
#include "tools/process.h"

#include <gtest/gtest.h>

#include <csignal>

namespace microtome {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> words(const std::string& data, const std::string& out, const std::string& space) {
  return {"tune", "--net",        "b6", "--data",   data, "--device", "cpu", "--space",
          space,  "--max-epochs", "2",  "--factor", "2",  "--out",    out,   "-q"};
}

std::vector<std::string> with(std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(TuneTest, TrialsAreRunsWhosePromotedGoOnFromTheirParentsAndTheBestTrains) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  const Ended tuned = run(with(words(data, out, "lr=1e-4..1e-2:log, dense-units=8|16"), {"--json"}));
  ASSERT_EQ(tuned.code, 0) << tuned.err;
  const Json result = Json::parse(tuned.out);
  ASSERT_EQ(result["trials"].size(), 5u);  // two rounds of 2 and 1, then 2
  double best = 0;
  for (const Json& trial : result["trials"]) {
    EXPECT_EQ(trial["status"], "completed");
    best = std::max(best, trial["score"].get<double>());
    const std::string run = out + "/trials/000" + std::to_string(trial["id"].get<int>());
    const Json of_run = Json::parse(text_of(run + "/result.json"));
    EXPECT_EQ(of_run["validation"]["accuracy"], trial["score"]);
    EXPECT_EQ(of_run["learning_rate"], trial["values"]["lr"]);
    EXPECT_EQ(lines_of(run + "/metrics.csv").size(), 1u + trial["epochs"].get<int>() - trial["initial_epoch"].get<int>());
    if (trial["parent"] != 0) {
      EXPECT_EQ(lines_of(run + "/metrics.csv")[1].substr(0, 2), "2,") << "the epoch after its parent's";
      EXPECT_NE(text_of(run + ".toml").find("weights = \"" + out + "/trials/000"), std::string::npos);
    }
  }
  EXPECT_EQ(result["best"]["score"], best);
  EXPECT_EQ(lines_of(out + "/trials.csv").size(), 1u + 5);
  const Ended trained =
      run({"train", "--config", out + "/best.toml", "--epochs", "1", "--out", folder / "trained", "-q", "--json"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_EQ(Json::parse(trained.out)["learning_rate"], result["best"]["values"]["lr"]);
}

TEST(TuneTest, ADivergedTrialIsRecordedAndTheSearchGoesOn) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  const Ended tuned = run(with(words(data, out, "lr=1e-3|1e38|3e37|1e-2|2e-3"), {"--json"}));
  ASSERT_EQ(tuned.code, 0) << tuned.err;
  int diverged = 0, completed = 0;
  const Json result = Json::parse(tuned.out);
  for (const Json& trial : result["trials"]) {
    diverged += trial["status"] == "diverged" && trial["score"].is_null() && trial["values"]["lr"] > 1;
    completed += trial["status"] == "completed" && trial["values"]["lr"] < 1;
  }
  EXPECT_GT(diverged, 0);
  EXPECT_GT(completed, 0);
  EXPECT_EQ(diverged + completed, static_cast<int>(lines_of(out + "/trials.jsonl").size()));
}

TEST(TuneTest, AStoppedSearchGoesOnInsideItsTrial) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  Process stopped(words(data, out, "lr=1e-4..1e-2:log"));
  const std::string trial = out + "/trials/0004";  // of two epochs from scratch
  ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(trial + "/last.checkpoint"); }));
  stopped.send(SIGTERM);
  EXPECT_EQ(stopped.wait().code, 143);
  const bool within = !std::filesystem::exists(trial + "/result.json");
  EXPECT_EQ(run(words(data, out, "lr=1e-4..1e-2:log")).code, 2) << "without --resume";
  EXPECT_EQ(run({"tune", "--resume", "--out", out, "-q", "--factor", "3"}).code, 2) << "another search";
  const Ended resumed = run({"tune", "--resume", "--out", out, "-q", "--json"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  const Json trials = Json::parse(resumed.out)["trials"];
  ASSERT_EQ(trials.size(), 5u);
  for (std::size_t i = 0; i < trials.size(); ++i) EXPECT_EQ(trials[i]["id"], i + 1);
  if (!within) GTEST_SKIP() << "the trial ended before the signal came";
  int starts = 0, first_epochs = 0;
  for (const std::string& line : lines_of(trial + "/log.jsonl")) {
    const Json event = Json::parse(line);
    starts += event["event"] == "start";
    first_epochs += event["event"] == "epoch" && event["epoch"] == 1;
  }
  EXPECT_EQ(starts, 2);
  EXPECT_EQ(first_epochs, 1) << "the trial went on and did not begin anew";
}

TEST(TuneTest, WholeNumbersOnALogarithmicScaleAreWhatIsTrained) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  const Ended tuned = run({"tune", "--net", "b2", "--data", data, "--device", "cpu", "--space", "batch-size=4..32:log",
                           "--max-epochs", "1", "--factor", "2", "--iterations", "3", "--out", out, "-q", "--json"});
  ASSERT_EQ(tuned.code, 0) << tuned.err;
  const Json result = Json::parse(tuned.out);
  EXPECT_EQ(result["trials"].size(), 3u);
  for (const Json& trial : result["trials"])
    EXPECT_EQ(Json::parse(text_of(out + "/trials/000" + std::to_string(trial["id"].get<int>()) + "/result.json"))["batch_size"],
              trial["values"]["batch-size"]);
}

TEST(TuneTest, WhatIsDamagedIsNamedOrMadeAgain) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned", list = out + "/trials.jsonl";
  write_small_pcam(data);
  const std::vector<std::string> search = with(words(data, out, "lr=1e-4..1e-2:log"), {"--json", "--resume"});
  const Ended tuned = run(search);
  ASSERT_EQ(tuned.code, 0) << tuned.err;
  const std::vector<std::string> lines = lines_of(list);
  ASSERT_EQ(lines.size(), 5u);
  for (const std::string& second :
       {std::string("{}"), std::string("null"), std::string("[]"), std::string("{\"id\": 2}"), lines[0], lines[2]}) {
    write_text(list, lines[0] + "\n" + second + "\n");
    const Ended refused = run(search);
    EXPECT_EQ(refused.code, 3) << second;
    EXPECT_NE(refused.err.find(list + ", line 2"), std::string::npos) << refused.err;
  }
  write_text(list, lines[0] + "\n");
  const std::string result = text_of(out + "/trials/0002/result.json");
  write_text(out + "/trials/0002/result.json", result.substr(0, 50));
  const Ended again = run(search);
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(Json::parse(text_of(out + "/trials/0002/result.json"))["test"], Json::parse(result)["test"]);
  for (std::size_t i = 0; i < lines.size(); ++i)
    EXPECT_EQ(Json::parse(again.out)["trials"][i]["score"], Json::parse(lines[i])["score"]);
  // A fault behind the last trial leaves the tables of the one before.
  for (const char* name : {"/trials.csv", "/best.toml", "/report.html"}) {
    const std::string whole = text_of(out + name);
    write_text(out + name, "of an earlier trial");
    EXPECT_EQ(run(search).code, 0);
    EXPECT_EQ(text_of(out + name), whole) << name;
  }
}

TEST(TuneTest, AListThatItsTrialsContradictIsRefused) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned", list = out + "/trials.jsonl";
  write_small_pcam(data);
  const std::vector<std::string> search = with(words(data, out, "lr=1e-4..1e-2:log, dense-units=8|16"), {"--resume"});
  ASSERT_EQ(run(search).code, 0);
  const std::string sound = text_of(list), best = text_of(out + "/best.toml");
  const Json second = Json::parse(lines_of(list)[1]);
  const auto expect_refused = [&](const std::string& pointer, const Json& value, const std::string& says) {
    Json changed = second;
    changed[Json::json_pointer(pointer)] = value;
    std::string text = lines_of(list)[0] + "\n" + changed.dump() + "\n";
    write_text(list, text);
    const Ended refused = run(search);
    EXPECT_EQ(refused.code, 3) << pointer << refused.err;
    for (const std::string& part : {list + ", line 2", std::string("contradicts a trial"), says})
      EXPECT_NE(refused.err.find(part), std::string::npos) << part << " in\n" << refused.err;
    EXPECT_EQ(text_of(out + "/best.toml"), best);
    EXPECT_EQ(text_of(list), text);
    write_text(list, sound);
  };
  expect_refused("/score", 0.9999, "trials/0002/result.json");
  expect_refused("/score", nullptr, "trials/0002/result.json");
  expect_refused("/values/lr", 5, "lr = ");
  expect_refused("/values/dense-units", 512, "dense-units = ");
  EXPECT_EQ(run(search).code, 0);

  // Another trial's result is none of the second's: it ends again.
  write_text(list, lines_of(list)[0] + "\n");
  const std::string result = text_of(out + "/trials/0002/result.json");
  write_text(out + "/trials/0002/result.json", text_of(out + "/trials/0001/result.json"));
  ASSERT_EQ(run(search).code, 0);
  EXPECT_EQ(Json::parse(text_of(out + "/trials/0002/result.json"))["test"], Json::parse(result)["test"]);
}

TEST(TuneTest, ASearchWhoseSpaceIsUsedUpSaysSo) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  write_small_pcam(data);
  const Ended tuned = run({"tune", "--net", "b6", "--data", data, "--device", "cpu", "--space", "lr=1e-3", "--max-epochs", "2",
                           "--factor", "2", "--out", folder / "tuned"});
  ASSERT_EQ(tuned.code, 0) << tuned.err;
  EXPECT_NE(tuned.err.find("ends after 1 of 5 trials"), std::string::npos) << tuned.err;

  write_small_pcam(folder / "others", 1);
  const std::string config = text_of(folder / "tuned/config.toml");
  const Ended others = run({"tune", "--resume", "--out", folder / "tuned", "--data", folder / "others"});
  EXPECT_EQ(others.code, 3) << others.err;
  EXPECT_NE(others.err.find("not those that the search's trials were trained on"), std::string::npos) << others.err;
  EXPECT_EQ(text_of(folder / "tuned/config.toml"), config);
  fs::rename(data, folder / "moved");
  EXPECT_EQ(run({"tune", "--resume", "--out", folder / "tuned", "--data", folder / "moved"}).code, 0);
}

TEST(TuneTest, BadInputIsOneMessageAndLosesNothing) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  EXPECT_EQ(run(words(data, out, "")).code, 2) << "an empty space";
  EXPECT_EQ(run(words(data, out, "momentum=0.8|0.9")).code, 2);
  EXPECT_EQ(run(with(words(data, out, "lr=1e-3|1e-4"), {"--lr", "0.1"})).code, 2) << "searched, and given";
  EXPECT_EQ(run({"tune", "--net", "b6", "--data", folder / "nowhere", "--out", out, "-q"}).code, 3);
  EXPECT_EQ(run({"tune", "--net", "iv3", "--data", data, "--out", out, "-q"}).code, 2) << "too small an image";
  EXPECT_EQ(run({"tune", "--net", "b6", "--data", data, "--weights", folder / "none.h5", "--out", out, "-q"}).code, 4);
  for (const char* space : {"batch-size=0|16", "batch-size=8..64:0.5", "batch-size=16.5|32", "dense-units=1e9|8", "lr=-1|1e-3",
                            "lr=0|1e-3", "batch-size=0.5..64:log"})
    EXPECT_EQ(run(words(data, out, space)).code, 2) << space;
  EXPECT_FALSE(std::filesystem::exists(out)) << "nothing is written that a second try would meet";
  const Ended unknown = run({"tune", "--net", "b6", "--data", data, "--iteration", "2"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("--iterations"), std::string::npos) << unknown.err;
}

TEST(TuneTest, ABatchLargerThanTheDataIsNotTried) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  for (const char* space : {"batch-size=8|4096", "batch-size=16..4096:64", "batch-size=16..4096:log"}) {
    std::filesystem::remove_all(out);
    const Ended tuned = run({"tune", "--net", "b6", "--data", data, "--device", "cpu", "--space", space, "--max-epochs", "2",
                             "--factor", "2", "--out", out, "--json"});
    ASSERT_EQ(tuned.code, 0) << space << tuned.err;
    EXPECT_NE(tuned.err.find("no further than a batch of 80"), std::string::npos) << tuned.err;
    const Json trials = Json::parse(tuned.out)["trials"];
    EXPECT_FALSE(trials.empty());
    for (const Json& trial : trials) EXPECT_LE(trial["values"]["batch-size"], 80) << space;
    EXPECT_EQ(run({"tune", "--resume", "--out", out, "-q"}).code, 0) << space;
  }
  std::filesystem::remove_all(out);
  EXPECT_EQ(run(words(data, out, "batch-size=100|200")).code, 2) << "nothing is left";
  EXPECT_EQ(run(with(words(data, out, "lr=1e-3|1e-2"), {"-b", "81"})).code, 2);
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(TuneTest, AFullDiskEndsTheSearchAndIsNotTheTrialsFault) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  const std::vector<std::string> search = words(data, out, "lr=1e-4..1e-2:log");
  const Ended full = run(search, 60'000);  // less than a checkpoint takes
  EXPECT_EQ(full.code, 5) << full.err;
  EXPECT_NE(full.err.find("trial 1 failed with exit code 5"), std::string::npos) << full.err;
  EXPECT_FALSE(std::filesystem::exists(out + "/trials.jsonl")) << text_of(out + "/trials.jsonl");
  const Ended resumed = run(with(search, {"--resume", "--json"}));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  const Json result = Json::parse(resumed.out);
  for (const Json& trial : result.at("trials")) EXPECT_EQ(trial["status"], "completed");
}

TEST(TuneTest, AKilledChildEndsTheSearchWhichGoesOnWithIt) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "tuned";
  write_small_pcam(data);
  std::vector<std::string> search = words(data, out, "lr=1e-4..1e-2:log");
  search[10] = "100000", search[12] = "100";  // --max-epochs, --factor
  Process process(search);
  ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(out + "/trials/0001/log.jsonl"); }));
  pid_t child = 0;
  ASSERT_TRUE(wait_until([&] { return (child = child_of(process)) != 0; }));
  kill(child, SIGKILL);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 5) << ended.err;
  EXPECT_NE(ended.err.find("ended by signal 9"), std::string::npos) << ended.err;
  EXPECT_FALSE(std::filesystem::exists(out + "/trials.jsonl"));
}

}  // namespace
}  // namespace microtome
