// A run that is stopped, refused a write or told to save, and goes on, ends where an undisturbed one does.
#include "data/checkpoint.h"
#include "tools/process.h"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>

namespace fs = std::filesystem;

namespace microtome {
namespace {

class ResumeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TemporaryFolder>();
    data = (*folder / "data").string();
    undisturbed = (*folder / "undisturbed").string();
    write_small_pcam(data);
    const Ended outcome = run(train(undisturbed));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  static void TearDownTestSuite() { folder.reset(); }

  static std::vector<std::string> train(const std::string& out, const std::string& epochs = "4") {
    return {"train",    "--net", "b2", "--data", data,          "--device", "cpu",
            "--epochs", epochs,  "-b", "16",     "--log-steps", "--out",    out};
  }
  static std::string fresh(const std::string& name) { return (*folder / name).string(); }

  static void expect_undisturbed(const fs::path& out) { expect_same(out, undisturbed, 4); }
  static void expect_same(const fs::path& out, const fs::path& other, std::size_t epochs) {
    const Snapshot expected = read_checkpoint(other / "last.checkpoint").snapshot;
    const Snapshot found = read_checkpoint(out / "last.checkpoint").snapshot;
    EXPECT_EQ(found.state.step, expected.state.step);
    EXPECT_EQ(found.weights.get(), expected.weights.get());
    EXPECT_EQ(found.first_moments.get(), expected.first_moments.get());
    EXPECT_EQ(found.second_moments.get(), expected.second_moments.get());
    EXPECT_TRUE(text_of(out / "best.weights.h5") == text_of(other / "best.weights.h5"));
    EXPECT_EQ(lines_of(out / "steps.csv"), lines_of(other / "steps.csv"));
    EXPECT_EQ(lines_of(out / "metrics.csv").size(), 1u + epochs);
  }

  static std::unique_ptr<TemporaryFolder> folder;
  static std::string data, undisturbed;
};
std::unique_ptr<TemporaryFolder> ResumeTest::folder;
std::string ResumeTest::data, ResumeTest::undisturbed;

TEST_F(ResumeTest, TheUndisturbedRunIsComplete) {
  EXPECT_EQ(lines_of(fs::path(undisturbed) / "steps.csv").size(), 1u + 4 * 5);
  EXPECT_EQ(lines_of(fs::path(undisturbed) / "metrics.csv").size(), 1u + 4);
}

TEST_F(ResumeTest, StopsAfterSavingAndGoesOnBitForBit) {
  for (const auto& [signal, code] : {std::pair(SIGTERM, 143), std::pair(SIGINT, 130), std::pair(SIGHUP, 129),
                                     std::pair(SIGXCPU, 152), std::pair(SIGUSR2, 140)}) {
    const std::string out = fresh("stopped-" + std::to_string(code));
    Process process(train(out, "1000"));
    ASSERT_TRUE(wait_until([&] { return text_of(fs::path(out) / "log.jsonl").find("\"epoch\":1,") != std::string::npos; }));
    process.send(signal);
    const Ended stopped = process.wait();
    ASSERT_EQ(stopped.code, code) << stopped.err;
    EXPECT_NE(stopped.err.find("train --resume --out " + out), std::string::npos);
    const std::size_t done = read_checkpoint(fs::path(out) / "last.checkpoint").snapshot.history.size();
    const std::size_t epochs = std::max<std::size_t>(4, done);  // of a fast machine more than the undisturbed run's
    const Ended resumed = run({"train", "--resume", "--out", out, "--epochs", std::to_string(epochs)});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    if (done <= 4) {
      expect_undisturbed(out);
    } else {
      const std::string longer = fresh("longer-" + std::to_string(code));
      ASSERT_EQ(run(train(longer, std::to_string(epochs))).code, 0);
      expect_same(out, longer, epochs);
    }
  }
}

TEST_F(ResumeTest, AHangUpThatNohupIgnoresIsIgnored) {
  const std::string out = fresh("nohup");
  Process process(train(out, "100000"), {}, [] { std::signal(SIGHUP, SIG_IGN); });
  ASSERT_TRUE(wait_until([&] { return fs::exists(fs::path(out) / "last.checkpoint"); }));
  process.send(SIGHUP);
  const std::size_t epochs = lines_of(fs::path(out) / "metrics.csv").size();
  EXPECT_TRUE(wait_until([&] { return lines_of(fs::path(out) / "metrics.csv").size() > epochs + 1; })) << "it goes on";
  process.send(SIGTERM);
  EXPECT_EQ(process.wait().code, 143);
}

TEST_F(ResumeTest, TheLimitOnProcessorTimeSavesAndItsRepetitionDoesNotEndTheSaving) {
  const std::string out = fresh("processor-time");
  Process process(train(out, "1000000"), {}, [] {
    const rlimit limit{2, 600};
    setrlimit(RLIMIT_CPU, &limit);
  });
  const Ended stopped = process.wait();
  EXPECT_EQ(stopped.code, 152) << stopped.err;
  EXPECT_TRUE(fs::exists(fs::path(out) / "last.checkpoint"));
  const std::vector<std::string> log = lines_of(fs::path(out) / "log.jsonl");
  EXPECT_NE(log.back().find("\"stop\""), std::string::npos) << log.back();
}

TEST_F(ResumeTest, StepsThatCannotBeReadAreNotTakenForNone) {
  const std::string out = fresh("unreadable");
  fs::copy(undisturbed, out);
  fs::remove(fs::path(out) / "steps.csv");
  fs::create_directory(fs::path(out) / "steps.csv");
  const Ended outcome = run({"train", "--resume", "--out", out});
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_NE(outcome.err.find("steps.csv"), std::string::npos) << outcome.err;
}

TEST_F(ResumeTest, TheSecondSignalEndsAtOnce) {
  Process process(train(fresh("twice"), "100000"));
  ASSERT_TRUE(wait_until([&] { return fs::exists(fs::path(fresh("twice")) / "last.checkpoint"); }));
  process.send(SIGTERM);
  process.send(SIGTERM);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 143) << ended.err;
}

TEST_F(ResumeTest, SavesWhenToldAndGoesOn) {
  const std::string out = fresh("told");
  const fs::path log = fs::path(out) / "log.jsonl";
  Process process(train(out, "100000"));
  const auto within_epoch = [&] {
    for (const std::string& line : lines_of(log)) {
      if (line.find("\"checkpoint\"") != std::string::npos && nlohmann::json::parse(line)["batch"] != 0) return true;
    }
    process.send(SIGUSR1);
    return false;
  };
  ASSERT_TRUE(wait_until([&] { return fs::exists(fs::path(out) / "last.checkpoint"); }));
  EXPECT_TRUE(wait_until(within_epoch));
  process.send(SIGTERM);
  const Ended ended = process.wait();
  EXPECT_EQ(ended.code, 143) << ended.err;
}

TEST_F(ResumeTest, AFullDiskLeavesTheOldCheckpoint) {
  const std::string out = fresh("full");
  ASSERT_EQ(run(train(out, "2")).code, 0);
  const std::string before = text_of(fs::path(out) / "last.checkpoint");
  const Ended full = run({"train", "--resume", "--out", out, "--epochs", "4"}, 100'000);
  EXPECT_EQ(full.code, 5) << full.err;
  EXPECT_NE(full.err.find("train: error: "), std::string::npos);
  EXPECT_TRUE(text_of(fs::path(out) / "last.checkpoint") == before);
  const Ended resumed = run({"train", "--resume", "--out", out, "--epochs", "4"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  expect_undisturbed(out);
}

TEST_F(ResumeTest, AnOptionThatWouldAlterTheResultIsRefused) {
  for (const auto& [option, value] : {std::pair("lr", "0.5"), std::pair("batch-size", "8"), std::pair("seed", "9"),
                                      std::pair("shuffle", "off"), std::pair("dropout", "off"), std::pair("net", "b6")}) {
    const Ended outcome = run({"train", "--resume", "--out", undisturbed, std::string("--") + option, value});
    EXPECT_EQ(outcome.code, 4) << option << outcome.err;
    if (option != std::string("net")) {
      EXPECT_NE(outcome.err.find(std::string("--") + option + " cannot change"), std::string::npos) << outcome.err;
    }
  }
  const std::string other = fresh("other-data");
  write_small_pcam(other, 5);
  const Ended outcome = run({"train", "--resume", "--out", undisturbed, "--data", other});
  EXPECT_EQ(outcome.code, 4);
  EXPECT_NE(outcome.err.find("--data cannot change"), std::string::npos) << outcome.err;
}

TEST_F(ResumeTest, WhatIsAnotherInTheCheckpointIsSaid) {
  const std::string other = fresh("larger");
  ASSERT_EQ(run({"synthesize", "pcam", "--out", other, "--train", "16", "--valid", "4", "--test", "4", "-q"}).code, 0);
  const Ended size = run({"train", "--resume", "--out", undisturbed, "--data", other}),
              units = run({"train", "--resume", "--out", undisturbed, "--dense-units", "8"});
  for (const Ended* refused : {&size, &units}) EXPECT_EQ(refused->code, 4) << refused->err;
  EXPECT_NE(size.err.find("images of another size"), std::string::npos) << size.err;
  EXPECT_NE(size.err.find("give images of 36x36"), std::string::npos) << size.err;
  EXPECT_NE(units.err.find("ask for --dense-units 256"), std::string::npos) << units.err;

  const fs::path copy = fresh("converted");
  fs::copy(undisturbed, copy);
  EXPECT_EQ(run({"convert", copy / "best.weights.h5", copy / "last.checkpoint", "-q"}).code, 2) << "it is the run's";
  ASSERT_EQ(run({"convert", copy / "best.weights.h5", copy / "a.checkpoint", "-q"}).code, 0);
  fs::rename(copy / "a.checkpoint", copy / "last.checkpoint");
  const Ended converted = run({"train", "--resume", "--out", copy});
  EXPECT_EQ(converted.code, 4) << converted.err;
  EXPECT_NE(converted.err.find("convert writes such a file"), std::string::npos) << converted.err;
}

TEST_F(ResumeTest, DataMayMove) {
  const std::string moved = fresh("moved");
  fs::copy(data, moved);
  const Ended outcome = run({"train", "--resume", "--out", undisturbed, "--data", moved});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  expect_undisturbed(undisturbed);
}

TEST_F(ResumeTest, WithoutACheckpointItBeginsAtTheBeginning) {
  const std::string out = fresh("early");
  fs::create_directories(out);
  write_text(fs::path(out) / "steps.csv", "step,loss\n1,0.5\n2,0.");
  std::vector<std::string> words = train(out);
  words.push_back("--resume");
  const Ended outcome = run(words);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  expect_undisturbed(out);
}

TEST_F(ResumeTest, StepsThatWereLostAreSaidAndTheHeaderComesBack) {
  for (const char* left : {"", "step,loss\n1,0.5\n2,0."}) {
    const std::string out = fresh(fmt::format("lost{}", std::string_view(left).size()));
    ASSERT_EQ(run(train(out, "2")).code, 0);
    if (*left == 0)
      fs::remove(fs::path(out) / "steps.csv");
    else
      write_text(fs::path(out) / "steps.csv", left);
    fs::remove(fs::path(out) / "result.json");
    const Ended outcome = run({"train", "--resume", "--out", out, "--epochs", "4"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_NE(outcome.err.find("steps.csv lacks some of the 10 steps"), std::string::npos) << outcome.err;
    const std::vector<std::string> lines = lines_of(fs::path(out) / "steps.csv");
    EXPECT_EQ(lines[0], "step,loss");
    EXPECT_TRUE(lines[*left == 0 ? 1 : 2].starts_with("11,")) << lines[1];
  }
}

TEST_F(ResumeTest, WhateverTheFoldersNameHoldsTheRunGoesOn) {
  const std::string out = fresh("a\nb");
  ASSERT_EQ(run(train(out, "1")).code, 0);
  const Ended outcome = run({"train", "--resume", "--out", out, "--epochs", "4"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  expect_undisturbed(out);
}

TEST_F(ResumeTest, WhereNothingIsThereIsNothingToGoOnWith) {
  for (const char* program : {"train", "tune"}) {
    const Ended outcome = run({program, "--resume", "--out", fresh("nowhere")});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_NE(outcome.err.find("to go on with"), std::string::npos) << outcome.err;
    EXPECT_FALSE(fs::exists(fresh("nowhere")));
  }
}

TEST_F(ResumeTest, ADamagedCheckpointIsRefused) {
  const std::string out = fresh("damaged");
  fs::copy(undisturbed, out);
  const fs::path file = fs::path(out) / "last.checkpoint";
  std::string bytes = text_of(file);
  bytes[bytes.size() / 2] ^= 1;
  write_text(file, bytes);
  EXPECT_EQ(run({"train", "--resume", "--out", out}).code, 4);
  write_text(file, bytes.substr(0, bytes.size() / 3));
  EXPECT_EQ(run({"train", "--resume", "--out", out}).code, 4);
}

TEST_F(ResumeTest, ARunsFolderIsNeverOverwrittenOrShared) {
  const Ended finished = run(train(undisturbed));
  EXPECT_EQ(finished.code, 2);
  EXPECT_NE(finished.err.find("finished run"), std::string::npos) << finished.err;

  const std::string out = fresh("shared");
  fs::create_directories(out);
  const int lock = ::open((out + "/.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  EXPECT_EQ(run(train(out)).code, 9);
  ::close(lock);

  for (const char* file : {"config.toml", "metrics.csv", "steps.csv", "best.weights.h5", "scores.csv", "report.html"}) {
    const std::string theirs = fresh(fmt::format("theirs-{}", file));
    fs::create_directories(theirs);
    write_text(fs::path(theirs) / file, "mine");
    const Ended refused = run(train(theirs));
    EXPECT_EQ(refused.code, 2) << file;
    EXPECT_NE(refused.err.find(file), std::string::npos) << refused.err;
    EXPECT_EQ(text_of(fs::path(theirs) / file), "mine");
  }

  write_text(fresh("a-file"), "");
  EXPECT_EQ(run(train(fresh("a-file") + "/run")).code, 2);
}

}  // namespace
}  // namespace microtome
