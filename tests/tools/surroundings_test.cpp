// What a machine does to programs that are right: file systems that do not lock, limits, closed descriptors, full disks.
#include "tools/process.h"

#include <gtest/gtest.h>

#include <sys/resource.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <cstdlib>
#include <regex>

namespace fs = std::filesystem;

namespace microtome {
namespace {

/// Variables of the programs that a test runs.
class Environment {
 public:
  Environment(std::initializer_list<std::pair<const char*, std::string>> variables) {
    for (const auto& [name, value] : variables) {
      setenv(name, value.c_str(), 1);
      names_.push_back(name);
    }
  }
  ~Environment() {
    for (const char* name : names_) unsetenv(name);
  }
  Environment(const Environment&) = delete;

 private:
  std::vector<const char*> names_;
};

TEST(SurroundingsTest, TheLevelOfInstructionsIsNamedAndMayBeALowerOne) {
  const auto level_in = [](const std::string& text) {
    std::smatch found;
    EXPECT_TRUE(std::regex_search(text, found, std::regex("(^|\\n)  cpu   (.+)\\n"))) << text;
    return found.str(2);
  };
  const std::string best = level_in(run({"train", "--version"}).out);
  const TemporaryFolder folder;
  write_small_pcam(folder / "data");
  {
    const Environment wrong({{"MICROTOME_ISA", "sse9"}});
    const Ended refused = run({"train", "--net", "b6", "--data", folder / "data", "--device", "cpu"});
    EXPECT_EQ(refused.code, 2);
    for (const std::string& part : {std::string("MICROTOME_ISA"), std::string("\"sse9\""), best})
      EXPECT_TRUE(contains(refused.err, part)) << refused.err;
  }
  if (best != "x86-64-v3" && best != "x86-64-v4") GTEST_SKIP() << "the CPU's code is for one level, " << best;
  const Environment lower({{"MICROTOME_ISA", "x86-64-v2"}});
  EXPECT_EQ(level_in(run({"data", "--version"}).out), "x86-64-v2");
  const Ended ended =
      run({"train", "--net", "b6", "--data", folder / "data", "--device", "cpu", "--epochs", "1", "--out", folder / "run"});
  ASSERT_EQ(ended.code, 0) << ended.err;
  EXPECT_TRUE(contains(ended.err, ", x86-64-v2, ")) << ended.err;
}

TEST(SurroundingsTest, AFileSystemWithoutLocksServes) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "run";
  write_small_pcam(data);
  for (const char* code : {"37", "95", "524"}) {
    SCOPED_TRACE(code);
    // A sanitizer's library wants to be the first, and need not be.
    const Environment without(
        {{"LD_PRELOAD", NO_FLOCK}, {"NO_FLOCK_ERRNO", code}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}});
    const Ended sound = run({"data", "verify", "--data", data});
    EXPECT_EQ(sound.code, 0) << sound.err;
    fs::remove_all(out);
    const std::vector<std::string> train{"train", "--net", "b6", "--data", data, "--device", "cpu", "--out", out, "-q"};
    std::vector<std::string> words = train;
    words.insert(words.end(), {"--epochs", "100000"});
    Process first(words);
    ASSERT_TRUE(wait_until([&] { return fs::exists(out + "/last.checkpoint"); }));
    const Ended second = run(train);
    EXPECT_EQ(second.code, 9) << second.err;
    for (const char* part : {"in use by another run", "process ", "rm "}) EXPECT_TRUE(contains(second.err, part)) << second.err;
    first.send(9);
    first.wait();
    std::size_t epochs = lines_of(out + "/metrics.csv").size() - 1;
    const Ended resumed = run({"train", "--resume", "--out", out, "-q", "--epochs", std::to_string(epochs + 1)});
    EXPECT_EQ(resumed.code, 0) << "what a killed process left is taken over\n" << resumed.err;
    EXPECT_FALSE(fs::exists(out + "/.lock.owner"));
  }
}

TEST(SurroundingsTest, HDF5sOwnLockIsNoReasonToRefuse) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  write_small_pcam(data);
  const Environment asked(
      {{"LD_PRELOAD", NO_FLOCK}, {"HDF5_USE_FILE_LOCKING", "TRUE"}, {"ASAN_OPTIONS", "verify_asan_link_order=0"}});
  const Ended refused = run({"data", "verify", "--data", data});
  EXPECT_EQ(refused.code, 3);
  EXPECT_TRUE(contains(refused.err, "HDF5_USE_FILE_LOCKING=FALSE")) << refused.err;
  EXPECT_FALSE(contains(refused.err, "damaged")) << refused.err;
}

TEST(SurroundingsTest, RunsOfOneSecondGetFoldersOfTheirOwn) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  write_small_pcam(data);
  const fs::path before = fs::current_path();
  fs::current_path(folder / "");
  std::vector<std::unique_ptr<Process>> runs;
  for (int i = 0; i < 4; ++i)
    runs.push_back(std::make_unique<Process>(
        std::vector<std::string>{"train", "--net", "b6", "--data", data, "--device", "cpu", "--epochs", "1", "-q"}));
  fs::current_path(before);
  for (const auto& each : runs) {
    const Ended ended = each->wait();
    EXPECT_EQ(ended.code, 0) << ended.err;
  }
  int folders = 0;
  for (const fs::directory_entry& each : fs::directory_iterator(folder / "runs")) {
    ++folders;
    EXPECT_TRUE(fs::exists(each.path() / "result.json")) << each.path();
    EXPECT_TRUE(contains(text_of(each.path() / "config.toml"), each.path().filename().string())) << each.path();
  }
  EXPECT_EQ(folders, 4);
}

TEST(SurroundingsTest, ClosedStreamsDoNotBecomeFilesOfTheRun) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "run";
  write_small_pcam(data);
  const Ended ended = run({"train", "--net", "b6", "--data", data, "--device", "cpu", "--epochs", "1", "--out", out}, {}, [] {
    for (int fd = 0; fd <= 2; ++fd) ::close(fd);
  });
  EXPECT_EQ(ended.code, 0);
  for (const char* name : {"metrics.csv", "log.jsonl", "result.json", ".lock"}) {
    const std::string text = text_of(out + "/" + name);
    EXPECT_FALSE(contains(text, "train: ") || contains(text, "epoch 1/1")) << name << ": " << text;
  }
  EXPECT_EQ(run({"data", "verify", "--data", data}).code, 0) << "and nothing was printed into the data";
}

// Sanitizers reserve terabytes of addresses.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
std::function<void()> address_space(std::size_t bytes) {
  return [bytes] {
    const rlimit limit{bytes, bytes}, no_core{0, 0};
    setrlimit(RLIMIT_AS, &limit);
    setrlimit(RLIMIT_CORE, &no_core);
  };
}

/// MiB of addresses in which `train` starts at all, rounded up to 25: what its libraries take, which is some 100 MiB, or 1 GiB
/// with a vendor's. Below, the dynamic loader has its own words.
std::size_t start_mebibytes() {
  static const std::size_t least = [] {
    std::size_t limit = 25;
    while (limit < 4000 && run({"train", "--help"}, {}, address_space(limit << 20)).code != 0) limit += 25;
    return limit;
  }();
  return least;
}

TEST(SurroundingsTest, TooLittleAddressSpaceIsOneMessageAndNeverACrash) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  write_small_pcam(data);
  int enough = 0, too_little = 0;
  for (std::size_t megabytes = start_mebibytes(); megabytes <= start_mebibytes() + 600; megabytes += 25) {
    const Ended ended = run({"train", "--net", "b6", "--data", data, "--device", "cpu", "--epochs", "1", "--out",
                             folder / ("run-" + std::to_string(megabytes)), "-q"},
                            {}, address_space(megabytes << 20));
    EXPECT_TRUE(ended.code == 0 || ended.code == 5) << megabytes << " MiB: exit " << ended.code << "\n" << ended.err;
    (ended.code == 0 ? enough : too_little) += 1;
    if (ended.code != 5) continue;
    EXPECT_EQ(ended.err.rfind("train: error: "), 0u) << megabytes << "\n" << ended.err;
    EXPECT_TRUE(contains(ended.err, "memory")) << megabytes << "\n" << ended.err;
    EXPECT_TRUE(contains(ended.err, "ulimit -v")) << "which limit it is\n" << megabytes << "\n" << ended.err;
  }
  EXPECT_GT(enough, 0);
  EXPECT_GT(too_little, 0);
}

TEST(SurroundingsTest, TheBatchThatIsPromisedToFitFits) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  ASSERT_EQ(run({"synthesize", "pcam", "--out", data, "--train", "200", "--valid", "16", "--test", "8", "-q"}).code, 0);
  for (const char* net : {"b2", "mobilenet"}) {
    const auto limit = address_space((start_mebibytes() + 400) << 20);
    const std::vector<std::string> train{"train", "--net", net, "--data", data, "--device", "cpu", "-q", "--epochs", "1"};
    const auto with = [&](const std::vector<std::string>& more) {
      std::vector<std::string> words = train;
      words.insert(words.end(), more.begin(), more.end());
      return run(words, {}, limit);
    };
    const Ended planned = with({"--memory-plan", "--json"});
    ASSERT_EQ(planned.code, 0) << planned.err;
    const auto plan = nlohmann::json::parse(planned.out);
    const int batch = plan["largest_batch"];
    ASSERT_GT(batch, 0) << planned.out;
    ASSERT_LT(batch, 200) << "the limit decides, or there is nothing to see";
    const Ended again = with({"-b", std::to_string(batch), "--memory-plan", "--json"});
    ASSERT_EQ(again.code, 0) << again.err;
    EXPECT_NEAR(nlohmann::json::parse(again.out)["largest_batch"].get<int>(), batch, 1 + batch / 10) << net;
    const Ended fits = with({"-b", std::to_string(batch), "--out", folder / (std::string(net) + "-fits")});
    EXPECT_EQ(fits.code, 0) << net << " in batches of " << batch << "\n" << fits.err;
    const Ended beyond = with({"-b", "200", "--out", folder / (std::string(net) + "-beyond")});
    EXPECT_EQ(beyond.code, 5) << beyond.err;
    const std::string says = "a batch size of ";
    const std::size_t at = beyond.err.find(says);
    ASSERT_NE(at, std::string::npos) << beyond.err;
    const std::string advised = std::to_string(std::stoi(beyond.err.substr(at + says.size())));
    EXPECT_EQ(with({"-b", advised, "--out", folder / (std::string(net) + "-advised")}).code, 0) << net << " " << advised;
  }
}

TEST(SurroundingsTest, ImagesThatDoNotFitAreNotBlamedOnTheBatch) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  ASSERT_EQ(run({"synthesize", "pcam", "--out", data, "--train", "2400", "--valid", "40", "--test", "8", "-q"}).code, 0);
  const Ended ended = run({"train", "--net", "b2", "--data", data, "--device", "cpu", "--out", folder / "run", "-q"}, {},
                          address_space((start_mebibytes() + 50) << 20));
  EXPECT_EQ(ended.code, 5) << ended.err;
  for (const char* part : {"the images do not fit", "0.07 GB of them", " available", "fewer images"})
    EXPECT_TRUE(contains(ended.err, part)) << part << " in\n" << ended.err;
  EXPECT_FALSE(contains(ended.err, "--batch-size")) << ended.err;
}
#endif

TEST(SurroundingsTest, WhatALargerBatchTakesIsWhatThePlanSays) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  ASSERT_EQ(run({"synthesize", "pcam", "--out", data, "--train", "96", "--valid", "8", "--test", "8", "-q"}).code, 0);
  for (const char* net : {"b2", "mobilenet"}) {
    std::int64_t total[2], peak[2];
    const char* batches[] = {"8", "96"};
    for (int i = 0; i < 2; ++i) {
      const std::vector<std::string> train{"train", "--net",  net,  "--data",   data,       "--device", "cpu",
                                           "-q",    "--json", "-b", batches[i], "--epochs", "2"};
      const auto with = [&](const std::string& more) {
        std::vector<std::string> words = train;
        words.push_back(more);
        if (more == "--out") words.push_back(folder / (std::string(net) + batches[i]));
        const Ended ended = run(words);
        EXPECT_EQ(ended.code, 0) << ended.err;
        return nlohmann::json::parse(ended.out);
      };
      total[i] = with("--memory-plan")["total_bytes"];
      peak[i] = with("--out")["peak_memory_bytes"];
    }
    const double planned = static_cast<double>(total[1] - total[0]), taken = static_cast<double>(peak[1] - peak[0]);
    EXPECT_LT(taken, planned * 1.02 + (4 << 20)) << net << ": more than was planned";
    // Scratch is planned as ops may ask for it, of which they need not touch every page.
    EXPECT_GT(taken, planned * 0.6) << net << ": much less than was planned, and a larger batch would have fitted";
  }
}

TEST(SurroundingsTest, PathsThatCannotBeUsedAreTheUsersMistake) {
  const TemporaryFolder folder;
  const std::string data = folder / "data", out = folder / "run", circle = folder / "circle", far(300, 'x');
  write_small_pcam(data);
  fs::create_symlink(circle, circle);
  const std::string weights = folder / "none.h5";
  for (const std::string& path : {circle, std::string(folder / far), circle + "/below"}) {
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {"train", "--net", "b2", "--data", path, "--device", "cpu", "--out", out},
             {"train", "--net", "b2", "--data", data, "--device", "cpu", "--out", path},
             {"train", "--net", "b2", "--data", data, "--device", "cpu", "--weights", path, "--out", out},
             {"train", "--resume", "--out", path},
             {"train", "--config", path},
             {"tune", "--net", "b2", "--data", data, "--device", "cpu", "--out", path},
             {"tune", "--net", "b2", "--data", data, "--device", "cpu", "--weights", path, "--out", out},
             {"study", "--pcam", path, "--out", out},
             {"study", "--pcam", data, "--out", path},
             {"study", "status", "--out", path},
             {"evaluate", "--scores", path},
             {"evaluate", "--net", "b2", "--data", data, "--weights", path, "--device", "cpu"},
             {"predict", "--net", "b2", "--weights", weights, "--data", path, "--device", "cpu"},
             {"profile", "--net", "b2", "--data", path, "--out", out},
             {"profile", "--net", "b2", "--data", data, "--out", path},
             {"profile", "diff", path, path},
             {"synthesize", "pcam", "--out", path, "--train", "8", "--valid", "8", "--test", "8"},
             {"data", "verify", "--data", path},
             {"convert", path, weights}}) {
      const Ended ended = run(words);
      std::string call;
      for (const std::string& word : words) call += word + " ";
      EXPECT_GT(ended.code, 1) << call << "\n" << ended.err;
      EXPECT_LT(ended.code, 10) << call << "\n" << ended.err;
      EXPECT_TRUE(contains(ended.err, "where: ") || contains(ended.err, "found: ")) << call << "\n" << ended.err;
    }
  }
}

TEST(SurroundingsTest, ASetWhoseMakingWasInterruptedIsNotSound) {
  const TemporaryFolder folder;
  const std::string data = folder / "idc";
  Process process({"synthesize", "idc", "--out", data, "--train", "40000", "--valid", "40", "--test", "40", "-q"});
  ASSERT_TRUE(wait_until([&] { return fs::exists(data + "/10002/0") && !fs::is_empty(data + "/10002/0"); }));
  process.send(SIGKILL);
  ASSERT_EQ(process.wait().code, 137);
  const Ended verified = run({"data", "verify", "--data", data});
  EXPECT_EQ(verified.code, 3) << verified.out;
  EXPECT_TRUE(contains(verified.err, "not finished")) << verified.err;
  EXPECT_EQ(run({"synthesize", "idc", "--out", folder / "whole", "--train", "60", "--valid", "20", "--test", "20", "-q"}).code,
            0);
  EXPECT_EQ(run({"data", "verify", "--data", folder / "whole"}).code, 0);
}

TEST(SurroundingsTest, AFullDiskLeavesNoLabelsOfZero) {
  const TemporaryFolder folder;
  for (std::size_t limit = 256; limit < 4096; limit += 128) {  // labels are in the smallest file
    const std::string data = folder / ("data-" + std::to_string(limit));
    const Ended ended = run({"synthesize", "pcam", "--out", data, "--train", "64", "--valid", "8", "--test", "8", "-q"}, limit);
    EXPECT_EQ(ended.code, 5) << limit << "\n" << ended.err;
    EXPECT_FALSE(fs::exists(data + "/camelyonpatch_level_2_split_train_y.h5")) << limit;
  }
}

}  // namespace
}  // namespace microtome
