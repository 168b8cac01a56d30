// What scripts and people rely on in `profile`: sums, files, exit codes and messages, seen from outside.
#include "data/gzip.h"
#include "tools/cli/json.h"
#include "tools/process.h"
#include "tools/profile/chrome_trace.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>

namespace fs = std::filesystem;

namespace microtome {
namespace {

/// By the program of that name.
std::string gunzip(const std::string& packed) {
  const TemporaryFolder folder;
  write_text(folder / "text.gz", packed);
  EXPECT_EQ(std::system(("gunzip " + (folder / "text.gz").string()).c_str()), 0);
  return text_of(folder / "text");
}

/// One small profile of b6 for all tests.
class ProfileProgramTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TemporaryFolder>();
    data = (*folder / "data").string();
    out = (*folder / "profile").string();
    write_small_pcam(data);
    const Ended outcome = run({"profile", "--net", "b6", "--data", data, "--device", "cpu", "-b", "8", "--steps", "4",
                               "--warm-up", "2", "--json", "--out", out});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    printed = outcome.out;
    profile = Json::parse(printed);
  }
  static void TearDownTestSuite() { folder.reset(); }

  static std::string fresh(const std::string& name) { return (*folder / name).string(); }
  static Ended profile_b6(std::vector<std::string> more) {
    std::vector<std::string> words{"profile", "--net", "b6", "--data", data, "--device", "cpu"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  static std::unique_ptr<TemporaryFolder> folder;
  static std::string data, out, printed;
  static Json profile;
};
std::unique_ptr<TemporaryFolder> ProfileProgramTest::folder;
std::string ProfileProgramTest::data, ProfileProgramTest::out, ProfileProgramTest::printed;
Json ProfileProgramTest::profile;

TEST_F(ProfileProgramTest, TheLedgerSumsToTheEpochAndLeavesLittleUnnamed) {
  double seconds = 0, shares = 0;
  std::map<std::string, double> lines;
  for (const Json& line : profile["ledger"]) {
    seconds += line["seconds"].get<double>(), shares += line["share"].get<double>();
    lines[line["name"]] = line["share"];
  }
  EXPECT_NEAR(seconds, profile["epoch_seconds"], 1e-9 * seconds);
  EXPECT_NEAR(shares, 1, 1e-9);
  EXPECT_LE(lines.at("residual"), 0.02);
  for (const char* name : {"input", "forward", "backward", "update", "statistics", "validation", "saving"})
    EXPECT_GT(lines[name], 0) << name;
}

TEST_F(ProfileProgramTest, TheStepIsNamedByRowAndPass) {
  // The time between ops, when the machine does something else, is no op's: how much of a step is named is for a quiet machine.
  EXPECT_GT(profile["distortion"]["named_share"], 0.5);
  const double steps = profile["method"]["epoch_steps"];
  EXPECT_EQ(steps, 80.0 / 8);
  double named = 0;
  std::map<std::string, int> passes;
  for (const Json& layer : profile["layers"]) {
    named += layer["ns_per_step"].get<double>();
    EXPECT_NEAR(layer["seconds_per_epoch"], layer["ns_per_step"].get<double>() * 1e-9 * steps, 1e-12);
    EXPECT_EQ(layer["traced_samples_ns"].size(), 4u);
    EXPECT_LE(layer["ns_per_step_ci95"][0], layer["ns_per_step"]);
    if (layer["row"] == "conv2d_1") ++passes[layer["pass"]];
  }
  const double step = profile["distortion"]["untraced_ns_per_step"];
  EXPECT_NEAR(named / step, profile["distortion"]["named_share"], 0.02);
  EXPECT_EQ(passes.size(), 3u) << "forward, and both gradients";
  const Json& first = profile["layers"][0];
  EXPECT_EQ(first["pass"], "input") << "the network's order";
}

TEST_F(ProfileProgramTest, WhatIsAnalyticIsMarkedAndWhatIsUnknownIsNotZero) {
  double flop = 0;
  for (const Json& layer : profile["layers"]) {
    EXPECT_FALSE(layer["analytic_flop"] == 0 || layer["analytic_bytes"] == 0) << layer;
    if (layer["row"] == "conv2d" && layer["pass"] == "forward") flop = layer["analytic_flop"];
    EXPECT_EQ(layer["bound"].is_null(), layer["pass"] == "advance") << layer;
  }
  EXPECT_EQ(flop, 2.0 * 8 * 34 * 34 * 32 * 27);
  EXPECT_GT(profile["roofs"]["flop_per_second"], 1e8);
  EXPECT_GT(profile["roofs"]["bytes_per_second"], 1e8);
}

TEST_F(ProfileProgramTest, ItsFilesSayTheSame) {
  EXPECT_EQ(Json::parse(text_of(out + "/profile.json")), profile);
  EXPECT_EQ(lines_of(out + "/layers.csv").size(), 1 + profile["layers"].size());
  EXPECT_EQ(lines_of(out + "/layers.csv")[0].substr(0, 26), "row,kind,pass,ns_per_step,");
  EXPECT_TRUE(fs::exists(out + "/kernels.csv"));
  const std::string page = text_of(out + "/report.html");
  EXPECT_TRUE(contains(page, has_gnuplot() ? "<svg" : "gnuplot was not found"));
  EXPECT_FALSE(contains(page, "src=\"http") || contains(page, "href=\"http")) << "the page needs the network";
  for (const char* left : {"best.weights.h5", "last.checkpoint"}) EXPECT_FALSE(fs::exists(out + "/" + left)) << left;
}

TEST_F(ProfileProgramTest, TheTraceHasItsStepsAndNamesWhatRanInThem) {
  const Json trace = Json::parse(gunzip(text_of(out + "/trace.json.gz")));
  int steps = 0, ops = 0;
  double end = 0;
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    if (event["cat"] == "user_annotation") {
      EXPECT_EQ(event["name"], "ProfilerStep#" + std::to_string(steps++));
      end = event["ts"].get<double>() + event["dur"].get<double>();
      continue;
    }
    ++ops;
    EXPECT_LE(event["ts"].get<double>() + event["dur"].get<double>(), end + 1e-3) << event;
    EXPECT_FALSE(event["args"]["pass"].get<std::string>().empty());
  }
  EXPECT_EQ(steps, 3);
  EXPECT_GT(ops, 3 * 30);
}

TEST_F(ProfileProgramTest, MemoryFitsIntoTheArenaAtEachMoment) {
  std::map<int, double> use;
  int last = 0;
  for (const Json& life : profile["memory"]) {
    for (int m = life["first"]; m <= life["last"]; ++m) use[m] += life["bytes"].get<double>();
    last = std::max<int>(last, life["last"]);
  }
  const Ended plan = run({"train", "--net", "b6", "--data", data, "--device", "cpu", "-b", "8", "--memory-plan", "--json"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  double peak = 0;
  for (const auto& [moment, bytes] : use) peak = std::max(peak, bytes);
  const double arena = Json::parse(plan.out)["arena_bytes"];
  EXPECT_LE(peak, arena);
  EXPECT_GT(peak, 0.9 * arena);
}

TEST_F(ProfileProgramTest, TextShowsEveryTable) {
  const Ended outcome = profile_b6({"-b", "4", "--steps", "2", "--warm-up", "1", "--out", fresh("text"), "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part : {"EPOCH LEDGER", "residual", "KINDS OF ROWS", "ROWS,", "(all else)", "LAYERS by", "MEMORY of a step",
                           "PLANS", "WHERE THE NEXT SECONDS ARE", "scaled to untraced", "dropped records 0"})
    EXPECT_TRUE(contains(outcome.out, part)) << part << " in\n" << outcome.out;
  EXPECT_EQ(outcome.err, "");
}

TEST_F(ProfileProgramTest, ExplainShowsOneRowInFull) {
  const Ended outcome = profile_b6(
      {"-b", "4", "--steps", "2", "--warm-up", "1", "--explain", "conv2d_3", "--out", fresh("explained"), "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part : {"conv2d_3 (conv2d)", "conv2d_3 backward_filter", "95% interval", "plan ", "of activations"})
    EXPECT_TRUE(contains(outcome.out, part)) << part << " in\n" << outcome.out;
  EXPECT_FALSE(contains(outcome.out, "interval -")) << outcome.out;
}

TEST_F(ProfileProgramTest, OneStepHasNoInterval) {
  const Ended outcome =
      profile_b6({"-b", "4", "--steps", "1", "--warm-up", "1", "--explain", "conv2d_3", "--out", fresh("single"), "--quiet"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(contains(outcome.out, "95% interval unknown from 1 step\n")) << outcome.out;
  const Json single = Json::parse(text_of(fresh("single") + "/profile.json"));
  for (const Json& layer : single["layers"]) EXPECT_EQ(layer["ns_per_step_ci95"], Json::array({nullptr, nullptr}));
}

TEST_F(ProfileProgramTest, WhereNoCountersAreTheProfileSaysSoAndStands) {
  const Ended outcome =
      profile_b6({"-b", "4", "--steps", "2", "--warm-up", "1", "--counters", "dram", "--out", fresh("uncounted")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "note: no counters: counters are read on a GPU")) << outcome.err;
  EXPECT_TRUE(contains(outcome.out, "note     no counters") && contains(outcome.out, "LAYERS by")) << outcome.out;
}

TEST_F(ProfileProgramTest, TransferIsMeasuredOnKeptFeatures) {
  const Ended outcome = run({"profile", "--net", "mobilenet", "--data", data, "--device", "cpu", "-b", "4", "--mode",
                             "transfer", "--steps", "2", "--warm-up", "1", "--json", "--out", fresh("transfer")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json transfer = Json::parse(outcome.out);
  EXPECT_EQ(transfer["run"]["features"], "kept");
  EXPECT_GT(transfer["run"]["features_seconds"], 0);
  for (const Json& layer : transfer["layers"]) EXPECT_FALSE(contains(layer["row"], "conv")) << layer["row"];
}

TEST_F(ProfileProgramTest, MistakesAreToldBeforeAnythingRuns) {
  const Ended net = run({"profile", "--net", "resnet5", "--data", data});
  EXPECT_EQ(net.code, 2);
  EXPECT_TRUE(contains(net.err, "resnet50")) << net.err;
  const Ended row = profile_b6({"--explain", "conv2d_33"});
  EXPECT_EQ(row.code, 2);
  EXPECT_TRUE(contains(row.err, "b6 has no row \"conv2d_33\"") && contains(row.err, "did you mean conv2d_3?")) << row.err;
  const Ended counter = profile_b6({"--counters", "dram,tensors"});
  EXPECT_EQ(counter.code, 2);
  EXPECT_TRUE(contains(counter.err, "there is no counter \"tensors\"") && contains(counter.err, "did you mean tensor?"))
      << counter.err;
  const std::string refused = fresh("refused");
  EXPECT_EQ(profile_b6({"-b", "100", "--out", refused}).code, 2) << "more than there are images";
  EXPECT_FALSE(fs::exists(refused)) << "it leaves no folder";
  const Ended missing = run({"profile", "--net", "b6", "--data", fresh("nothing")});
  EXPECT_EQ(missing.code, 3) << missing.err;
  const Ended again = profile_b6({"--out", out});
  EXPECT_EQ(again.code, 2);
  EXPECT_TRUE(contains(again.err, "holds a profile")) << again.err;
}

TEST_F(ProfileProgramTest, ARunsFilesAreLeftAsTheyAre) {
  for (const char* file : {"best.weights.h5", "last.checkpoint", "report.html", "config.toml"}) {
    const TemporaryFolder own;
    write_text(own / file, "a run's");
    const Ended refused = profile_b6({"--steps", "4", "--warm-up", "1", "--out", (own / "").string()});
    EXPECT_EQ(refused.code, 2) << refused.err;
    EXPECT_TRUE(contains(refused.err, file) && contains(refused.err, "another --out")) << refused.err;
    EXPECT_EQ(text_of(own / file), "a run's");
  }
}

TEST_F(ProfileProgramTest, NsightsCommandsArePrintedAndNothingRuns) {
  const Ended nsys = profile_b6({"--print-nsys"});
  EXPECT_EQ(nsys.code, 0) << nsys.err;
  EXPECT_EQ(nsys.out.substr(0, 13), "nsys profile ");
  EXPECT_TRUE(contains(nsys.out, "--cuda-graph-trace=node") && contains(nsys.out, "--net b6 --data") &&
              !contains(nsys.out, "--print"))
      << nsys.out;
  const Ended ncu = profile_b6({"--print-ncu", "conv2d_2"});
  EXPECT_EQ(ncu.code, 0) << ncu.err;
  EXPECT_TRUE(contains(ncu.out, "--nvtx-include") && contains(ncu.out, "conv2d_2") && contains(ncu.out, "--graph off"))
      << ncu.out;
}

TEST_F(ProfileProgramTest, AProfileDoesNotDifferFromItself) {
  const Ended outcome = run({"profile", "diff", out, out, "--gate", "1%", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json diff = Json::parse(outcome.out);
  EXPECT_TRUE(diff["gate"]["passed"]);
  for (const Json& layer : diff["layers"]) EXPECT_EQ(layer["change"], 0.0) << layer;
}

TEST_F(ProfileProgramTest, DiffFindsTheRowThatBecameSlowerAndTheGateFails) {
  // Four steps a side show a change of one pass in few; so of a profile with few passes.
  Json few = profile;
  Json kept = Json::array();
  for (const Json& layer : few["layers"])
    if (layer["row"] == "conv2d_1") kept.push_back(layer);
  few["layers"] = kept;
  for (Json& layer : few["layers"])
    for (std::size_t i = 0; i < 4; ++i)
      layer["traced_samples_ns"][i] = layer["ns_per_step"].get<double>() * (1 + 0.001 * static_cast<double>(i));
  Json slow = few;
  for (Json& sample : slow["layers"][0]["traced_samples_ns"]) sample = sample.get<double>() * 1.5;
  for (Json* side : {&few, &slow}) {
    for (Json& layer : (*side)["layers"])
      for (int i = 0; i < 16; ++i)
        layer["traced_samples_ns"].push_back(layer["traced_samples_ns"][static_cast<std::size_t>(i % 4)]);
  }
  write_text(fresh("before.json"), few.dump());
  write_text(fresh("after.json"), slow.dump());
  const Ended outcome = run({"profile", "diff", fresh("before.json"), fresh("after.json"), "--gate", "3%"});
  EXPECT_EQ(outcome.code, 7) << outcome.err;
  EXPECT_TRUE(contains(outcome.out, "SLOWER     conv2d_1 forward")) << outcome.out;
  EXPECT_TRUE(contains(outcome.out, "+50.0%") && contains(outcome.out, "gate 3%: failed by 1")) << outcome.out;
  EXPECT_EQ(run({"profile", "diff", fresh("after.json"), fresh("before.json"), "--gate", "3%"}).code, 0) << "faster passes";
}

TEST_F(ProfileProgramTest, WhatTwoProfilesOfOneCommitDifferByIsNoChange) {
  const auto with_step = [&](const char* name, double factor) {
    Json other = profile;
    for (Json& sample : other["distortion"]["untraced_samples_ns"]) sample = 1e6 * factor;
    for (int i = 0; i < 16; ++i) other["distortion"]["untraced_samples_ns"].push_back(1e6 * factor * (1 + 0.001 * (i % 4)));
    other["layers"] = Json::array();
    write_text(fresh(name), other.dump());
    return fresh(name);
  };
  const std::string before = with_step("before.json", 1), after = with_step("after.json", 1.1),
                    same = with_step("same.json", 1.12);
  EXPECT_EQ(run({"profile", "diff", before, after, "--gate", "5%"}).code, 7);
  const Ended outcome = run({"profile", "diff", before, after, "--gate", "5%", "--floor", before, same});
  EXPECT_EQ(outcome.code, 0) << outcome.out;
}

TEST_F(ProfileProgramTest, AGateSaysThatItCannotTellWhereTheStepItselfIsAmbiguous) {
  Json scattered = profile;
  scattered["distortion"]["untraced_samples_ns"] = {1.0e6, 1.3e6, 1.1e6, 1.4e6, 1.2e6};
  scattered["layers"] = Json::array();
  write_text(fresh("scattered.json"), scattered.dump());
  const Ended outcome = run({"profile", "diff", fresh("scattered.json"), fresh("scattered.json"), "--gate", "3%"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(contains(outcome.out, "gate 3%: cannot tell: the step itself is AMBIGUOUS")) << outcome.out;
  EXPECT_FALSE(contains(outcome.out, "passed")) << outcome.out;
}

TEST_F(ProfileProgramTest, AProfileThatLostRecordsIsIncompleteAndFailsAGate) {
  Json lossy = profile;
  lossy["method"]["dropped_records"] = 500;
  write_text(fresh("lossy.json"), lossy.dump());
  const Ended shown = run({"profile", "diff", out, fresh("lossy.json")}),
              gated = run({"profile", "diff", out, fresh("lossy.json"), "--gate", "3%"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_TRUE(contains(shown.out, "INCOMPLETE")) << shown.out;
  EXPECT_EQ(gated.code, 7) << gated.out;
}

TEST_F(ProfileProgramTest, DiffNamesAPlanThatChanged) {
  Json changed = profile;
  changed["plans"][0]["implementation"] = "another";
  write_text(fresh("plans.json"), changed.dump());
  const Ended outcome = run({"profile", "diff", out, fresh("plans.json")});
  EXPECT_TRUE(contains(outcome.out, "-> another")) << outcome.out;
}

TEST_F(ProfileProgramTest, DiffRefusesWhatIsNotTheSameThing) {
  Json other = profile;
  other["device"]["description"] = "another machine";
  write_text(fresh("other.json"), other.dump());
  const Ended refused = run({"profile", "diff", out, fresh("other.json")});
  EXPECT_EQ(refused.code, 2);
  EXPECT_TRUE(contains(refused.err, "another machine") && contains(refused.err, "--allow-different")) << refused.err;
  EXPECT_EQ(run({"profile", "diff", out, fresh("other.json"), "--allow-different"}).code, 0);
  other = profile;
  other["run"]["data_name"] = "idc";
  write_text(fresh("other.json"), other.dump());
  EXPECT_EQ(run({"profile", "diff", out, fresh("other.json")}).code, 2) << "other data";

  Json old = profile;
  old["schema"] = "microtome.profile.0";
  write_text(fresh("old.json"), old.dump());
  const Ended schema = run({"profile", "diff", out, fresh("old.json")});
  EXPECT_EQ(schema.code, 3);
  EXPECT_TRUE(contains(schema.err, "microtome.profile.1") && contains(schema.err, "microtome.profile.0")) << schema.err;
  write_text(fresh("list.json"), "[1, 2]");
  EXPECT_EQ(run({"profile", "diff", out, fresh("list.json")}).code, 3);
  EXPECT_EQ(run({"profile", "diff", out, fresh("nothing")}).code, 3);
  EXPECT_EQ(run({"profile", "diff", out, out, "--gate", "nan%"}).code, 2);
}

TEST_F(ProfileProgramTest, DiffRefusesADamagedProfile) {
  const auto refused = [&](const Json& damaged, const std::string& what) {
    write_text(fresh("damaged.json"), damaged.dump());
    const Ended outcome = run({"profile", "diff", out, fresh("damaged.json")});
    EXPECT_EQ(outcome.code, 3) << what << ": " << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(contains(outcome.err, "the profile is damaged") && contains(outcome.err, "damaged.json")) << outcome.err;
  };
  for (const char* part : {"run", "device", "method", "distortion", "layers", "plans"}) {
    Json without = profile, odd = profile;
    without.erase(part);
    refused(without, std::string("without ") + part);
    odd[part] = "text";
    refused(odd, std::string("odd ") + part);
  }
  refused(Json{{"schema", "microtome.profile.1"}}, "empty");
  Json timeless = profile;
  timeless["distortion"]["untraced_samples_ns"] = Json::array();
  refused(timeless, "no samples");
  timeless["distortion"]["untraced_samples_ns"] = {1e6, 0.0};
  refused(timeless, "no time");
  timeless = profile;
  timeless["layers"][0]["traced_samples_ns"][0] = -1.0;
  refused(timeless, "less than no time");
  Json twice = profile;
  twice["layers"].push_back(twice["layers"][0]);
  refused(twice, "a pass twice");
}

TEST_F(ProfileProgramTest, APassThatSomeStepsDoWithoutIsComparedInThoseThatHaveIt) {
  Json gappy = profile;
  for (Json& layer : gappy["layers"]) layer["traced_samples_ns"][0] = 0.0;
  write_text(fresh("gappy.json"), gappy.dump());
  const Ended outcome = run({"profile", "diff", out, fresh("gappy.json")});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

TEST_F(ProfileProgramTest, AGateThatCouldNotFailIsRefused) {
  Json few = profile;
  few["distortion"]["untraced_samples_ns"] = {1e6, 1e6, 1e6};
  write_text(fresh("few.json"), few.dump());
  EXPECT_EQ(run({"profile", "diff", fresh("few.json"), fresh("few.json")}).code, 0);
  const Ended outcome = run({"profile", "diff", fresh("few.json"), fresh("few.json"), "--gate", "5%"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_TRUE(contains(outcome.err, "too few repetitions for a gate")) << outcome.err;
}

TEST_F(ProfileProgramTest, AForecastIsComparedWithItsLikeAlone) {
  Json bench{{"context", {{"microtome_schema", "1"}, {"device", "cpu"}, {"precision", "f32"}, {"sizes", "36"}}},
             {"benchmarks", Json::array()}};
  for (int i = 0; i < 2; ++i)
    bench["benchmarks"].push_back({{"name", "loss_forward/b2@36:loss/cpu/f32/n8"}, {"real_time", 1.0}, {"time_unit", "us"}});
  const std::string file = fresh("bench.json");
  write_text(file, bench.dump());
  const Ended same = run({"profile", "forecast", "--bench", file, "--measured", out, "--json"});
  EXPECT_EQ(same.code, 0) << same.err;
  const Json forecast = Json::parse(same.out)["networks"][0];
  EXPECT_EQ(forecast["net"], "b6");
  EXPECT_LT(forecast["pieces_benched"], forecast["pieces"]);
  for (const char* sum : {"step_seconds", "epoch_seconds", "error"})
    EXPECT_TRUE(forecast[sum].is_null()) << "of a part: " << sum;
  const auto refused = [&](std::vector<std::string> words, const std::string& what) {
    words.insert(words.begin(), {"profile", "forecast", "--bench", file});
    const Ended outcome = run(words);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, what)) << outcome.err;
  };
  refused({"--precision", "bf16"}, "another precision");
  refused({"--plan", "deferred"}, "--plan");
  Json other = profile;
  other["run"]["mode"] = "transfer";
  fs::create_directory(fresh("head"));
  write_text(fresh("head") + "/profile.json", other.dump());
  refused({"--measured", fresh("head")}, "head alone");
  other["run"]["mode"] = "full";
  other["run"]["precision"] = "bf16";
  write_text(fresh("head") + "/profile.json", other.dump());
  refused({"--measured", fresh("head")}, "another precision");
}

TEST(ProfileTraceTest, ControlCharactersAndForeignBytesLeaveTheTraceReadable) {
  Activity odd{.kind = Activity::Kind::kernel, .name = std::string("a\x01\"\xff<>"), .start_ns = 10, .end_ns = 20};
  const Recorded step{.activities = {odd}, .start_ns = 0, .end_ns = 30};
  const Json trace = Json::parse(gunzip(gzip(trace_events({&step, 1}, "a device"))));
  EXPECT_EQ(trace["traceEvents"].back()["name"], "thread_name");
  EXPECT_FALSE(trace["traceEvents"].empty());
}

}  // namespace
}  // namespace microtome
