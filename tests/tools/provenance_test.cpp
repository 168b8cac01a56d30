// What weights say of their own training, and what the programs make of it, seen from outside.
#include "tools/process.h"

#include "data/checkpoint.h"
#include "data/weights.h"
#include "nets/nets.h"
#include "tools/cli/json.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

namespace microtome {
namespace {

/// Two runs on one small data set, for all tests of the suite: one with settings that are nobody's defaults, a batch-norm in
/// every other row and population statistics; one in transfer.
class ProvenanceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TemporaryFolder>();
    ASSERT_EQ(
        run({"synthesize", "idc", "--out", path("data"), "--train", "96", "--valid", "32", "--test", "32", "--seed", "5"}).code,
        0);
    const Ended trained =
        run({"train",  "--net",        "mobilenet", "--data",   path("data"), "--device",     "cpu", "--preprocess",
             "native", "--split-seed", "3",         "--epochs", "2",          "--batch-size", "24",  "--dense-units",
             "8",      "--lr",         "1e-4",      "--out",    path("run")});
    ASSERT_EQ(trained.code, 0) << trained.err;
  }
  static void TearDownTestSuite() { folder.reset(); }

  static std::string path(const std::string& name) { return (*folder / name).string(); }
  static Json result(const std::string& run) { return Json::parse(text_of(path(run) + "/result.json")); }

  /// Of the last epoch of a run: all digits, where metrics.csv has fewer.
  static Json last_epoch(const std::string& run) {
    Json last;
    for (const std::string& line : lines_of(path(run) + "/log.jsonl")) {
      const Json event = Json::parse(line);
      if (event["event"] == "epoch") last = event;
    }
    return last;
  }

  static Ended evaluate(const std::string& weights, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"evaluate", "--data", path("data"), "--device", "cpu", "--json", "--weights", path(weights)};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }

  static std::unique_ptr<TemporaryFolder> folder;
};
std::unique_ptr<TemporaryFolder> ProvenanceTest::folder;

TEST_F(ProvenanceTest, EvaluateNeedsNothingButWeightsAndDataForTheRunsOwnFigures) {
  const Ended outcome = evaluate("run/best.weights.h5");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json json = Json::parse(outcome.out);
  for (const char* key : {"loss", "accuracy", "auc", "auc_ci95", "n"}) EXPECT_EQ(json[key], result("run")["test"][key]) << key;
  EXPECT_EQ(json["net"], "mobilenet");
  EXPECT_EQ(json["preprocess"], "native");
  EXPECT_EQ(json["split"], "test");
  EXPECT_EQ(json["same_data"], true);
  EXPECT_EQ(json["learned"], (Json{{"images", 0}, {"groups", 0}, {"group_images", 0}}));
  EXPECT_TRUE(
      contains(outcome.err, "weights: mobilenet for 50x50 images, 8 dense units, native preprocessing, trained in full"))
      << outcome.err;
  EXPECT_FALSE(contains(outcome.err, "note: ") && contains(outcome.err, "learned from")) << outcome.err;
}

TEST_F(ProvenanceTest, ALastCheckpointIsJudgedAsTheRunValidatedIt) {
  EXPECT_EQ(result("run")["statistics"], "population") << "or this test is of nothing";
  ASSERT_EQ(run({"convert", path("run/last.checkpoint"), path("last.weights.h5")}).code, 0);
  for (const char* weights : {"run/last.checkpoint", "last.weights.h5"}) {
    const Ended outcome = evaluate(weights, {"--split", "valid"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Json json = Json::parse(outcome.out);
    EXPECT_EQ(json["loss"], last_epoch("run")["valid_loss"]) << weights;
    EXPECT_EQ(json["accuracy"], last_epoch("run")["valid_accuracy"]) << weights;
  }
}

TEST_F(ProvenanceTest, TransferIsJudgedAsTheRunValidatedItToo) {
  const Ended trained = run({"train",
                             "--net",
                             "mobilenet",
                             "--data",
                             path("data"),
                             "--device",
                             "cpu",
                             "--mode",
                             "transfer",
                             "--weights",
                             path("run/best.weights.h5"),
                             "--dense-units",
                             "8",
                             "--preprocess",
                             "native",
                             "--split-seed",
                             "3",
                             "--epochs",
                             "1",
                             "--out",
                             path("transfer")});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const Ended outcome = evaluate("transfer/last.checkpoint", {"--split", "valid"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["loss"], last_epoch("transfer")["valid_loss"]);
  EXPECT_TRUE(contains(outcome.err, "its head trained")) << outcome.err;
}

TEST_F(ProvenanceTest, TheCommandLineOverridesAndThatIsSaid) {
  const Ended paper = evaluate("run/best.weights.h5", {"--preprocess", "paper"});
  ASSERT_EQ(paper.code, 0) << paper.err;
  EXPECT_TRUE(contains(paper.err, "--preprocess paper overrides native")) << paper.err;
  EXPECT_NE(Json::parse(paper.out)["loss"], result("run")["test"]["loss"]);
  const Ended same = evaluate("run/best.weights.h5", {"--preprocess", "native", "--net", "mn", "--split-seed", "3"});
  EXPECT_FALSE(contains(same.err, "overrides")) << same.err;
}

TEST_F(ProvenanceTest, ImagesAndPatientsThatWereTrainedOnAreCounted) {
  const Ended other = evaluate("run/best.weights.h5", {"--split-seed", "4"});
  ASSERT_EQ(other.code, 0) << other.err;
  EXPECT_TRUE(contains(other.err, "--split-seed 4 overrides 3")) << other.err;
  EXPECT_TRUE(contains(other.err, "not the test split that the run had")) << other.err;
  const Json learned = Json::parse(other.out)["learned"];
  EXPECT_GT(learned["images"], 0) << "another seed tests on patients that trained";
  EXPECT_GT(learned["groups"], 0);
  EXPECT_GE(learned["group_images"], learned["images"]);
  EXPECT_TRUE(contains(other.err, "the weights have learned from " + learned["images"].dump())) << other.err;
  EXPECT_TRUE(contains(other.err, learned["groups"].dump() + " patients or slides of split test")) << other.err;

  const Json train = Json::parse(evaluate("run/best.weights.h5", {"--split", "train"}).out);
  EXPECT_EQ(train["learned"]["images"], train["n"]);
  EXPECT_EQ(train["same_data"], true);
}

TEST_F(ProvenanceTest, OfAnotherDataSetThatNamesNoSplitsAllIsJudged) {
  ASSERT_EQ(
      run({"synthesize", "idc", "--out", path("other"), "--train", "40", "--valid", "16", "--test", "16", "--seed", "6"}).code,
      0);
  const Ended all = evaluate("run/best.weights.h5", {"--data", path("other")});
  ASSERT_EQ(all.code, 0) << all.err;
  const Json json = Json::parse(all.out);
  EXPECT_EQ(json["split"], "all");
  EXPECT_EQ(json["n"], 72);
  EXPECT_EQ(json["same_data"], false);
  EXPECT_EQ(json["learned"]["images"], 0);
  EXPECT_TRUE(contains(all.err, "not the data set of the run")) << all.err;
  const Ended asked = evaluate("run/best.weights.h5", {"--data", path("other"), "--split", "test"});
  EXPECT_EQ(Json::parse(asked.out)["split"], "test") << asked.err;
}

TEST_F(ProvenanceTest, FilesFromElsewhereAreTakenForWhatTheCommandLineSays) {
  const Graph graph = find_network("mobilenet").build(50, Head::study, 8);
  write_weights(path("foreign.weights.h5"), graph, read_weights(path("run/best.weights.h5"), graph).values);
  const Ended nameless = evaluate("foreign.weights.h5");
  EXPECT_EQ(nameless.code, 2) << nameless.err;
  EXPECT_TRUE(contains(nameless.err, "--net is missing, and the weights do not say it")) << nameless.err;
  const Ended named = evaluate("foreign.weights.h5", {"--net", "mobilenet", "--dense-units", "8", "--split-seed", "3"});
  ASSERT_EQ(named.code, 0) << named.err;
  EXPECT_TRUE(contains(named.err,
                       "does not say how it was trained: taken for mobilenet with 8 dense units, paper "
                       "preprocessing, a split by patient with seed 3"))
      << named.err;
  EXPECT_TRUE(Json::parse(named.out)["learned"].is_null());
  const Ended native = evaluate("foreign.weights.h5", {"--net", "mobilenet", "--dense-units", "8", "--split-seed", "3",
                                                       "--preprocess", "native", "--batch-size", "24"});
  EXPECT_EQ(Json::parse(native.out)["loss"], result("run")["test"]["loss"]) << native.err;
}

TEST_F(ProvenanceTest, PredictTakesTheSameFromTheFile) {
  ASSERT_EQ(evaluate("run/best.weights.h5", {"--split", "all", "--save-scores", path("evaluated.csv")}).code, 0);
  const Ended outcome = run({"predict", "--weights", path("run/best.weights.h5"), "--data", path("data"), "--device", "cpu",
                             "--out", path("predicted.csv")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "of the 160 images of")) << outcome.err;
  std::map<std::string, std::string> evaluated, predicted;           // score, in all its digits, of each id
  for (const std::string& line : lines_of(path("evaluated.csv"))) {  // id,label,score,group
    const std::size_t at = line.find(',', line.find(',') + 1) + 1;
    evaluated[line.substr(0, line.find(','))] = line.substr(at, line.find(',', at) - at);
  }
  for (const std::string& line : lines_of(path("predicted.csv")))  // id,score
    predicted[line.substr(0, line.find(','))] = line.substr(line.find(',') + 1);
  EXPECT_EQ(evaluated.size(), 1u + 160);
  EXPECT_EQ(predicted, evaluated);
}

TEST_F(ProvenanceTest, PredictKnowsPatientsByTheirNames) {
  const std::string namesakes = path("namesakes");
  ASSERT_EQ(
      run({"synthesize", "idc", "--out", namesakes, "--train", "40", "--valid", "16", "--test", "16", "--seed", "9"}).code, 0);
  const Json judged = Json::parse(evaluate("run/best.weights.h5", {"--data", namesakes}).out);
  EXPECT_EQ(judged["learned"]["images"], 0);
  ASSERT_GT(judged["learned"]["groups"], 0);
  const Ended predicted = run({"predict", "--weights", path("run/best.weights.h5"), "--data", namesakes, "--device", "cpu",
                               "--out", path("namesakes.csv")});
  ASSERT_EQ(predicted.code, 0) << predicted.err;
  EXPECT_TRUE(contains(predicted.err, judged["learned"]["groups"].dump() + " patients or slides of " + namesakes + ", with " +
                                          judged["learned"]["group_images"].dump() + " images"))
      << predicted.err;
}

TEST_F(ProvenanceTest, AnOnnxModelGetsTheRunsSizeAndPixels) {
  for (const char* weights : {"run/best.weights.h5", "run/last.checkpoint"}) {
    const Ended outcome = run({"convert", path(weights), path("model.onnx")});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(contains(outcome.out, "mobilenet with the study's head, 50x50")) << outcome.out;
    EXPECT_FALSE(contains(outcome.err, "note:")) << outcome.err;
    EXPECT_TRUE(contains(text_of(path("model.onnx")), R"("divisor":[127.5,127.5,127.5])"));
    const float mean[3] = {127.5f, 127.5f, 127.5f};
    EXPECT_TRUE(contains(text_of(path("model.onnx")), std::string(reinterpret_cast<const char*>(mean), sizeof mean)));
  }
  const Ended paper =
      run({"convert", path("run/best.weights.h5"), path("paper.onnx"), "--preprocess", "paper", "--size", "64"});
  EXPECT_TRUE(contains(paper.err, "--preprocess paper overrides native")) << paper.err;
  EXPECT_TRUE(contains(paper.err, "--size 64x64 overrides 50x50")) << paper.err;
}

TEST_F(ProvenanceTest, OfACheckpointFromBeforeProvenanceTheOptionsTell) {
  const Graph graph = find_network("mobilenet").build(50, Head::study, 8);
  Snapshot snapshot;
  snapshot.weights = read_weights(path("run/best.weights.h5"), graph).values;
  snapshot.first_moments = snapshot.second_moments = std::vector<float>(snapshot.weights.size());
  write_checkpoint(path("old.checkpoint"), snapshot,
                   {.network = "mobilenet",
                    .image = 50,
                    .parameters = graph.parameter_count(),
                    .options = "net = \"mobilenet\"\ndense-units = 8\nmode = \"full\"\npreprocess = \"native\"\n"
                               "split-by = \"patient\"\nsplit-seed = 3\nbatch-size = 24\n",
                    .commit = "abc"});
  const Ended outcome = evaluate("old.checkpoint");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["loss"], result("run")["test"]["loss"]);
  ASSERT_EQ(run({"convert", path("old.checkpoint"), path("old.onnx")}).code, 0);
  EXPECT_TRUE(contains(text_of(path("old.onnx")), R"("divisor":[127.5,127.5,127.5])"));
}

TEST_F(ProvenanceTest, ProvenanceGoesThroughEveryConversion) {
  for (const auto& [from, to] :
       {std::pair{"run/best.weights.h5", "a.h5"}, {"a.h5", "b.checkpoint"}, {"b.checkpoint", "c.weights.h5"}})
    ASSERT_EQ(run({"convert", path(from), path(to)}).code, 0) << to;
  EXPECT_EQ(open_weights(path("c.weights.h5")).provenance, open_weights(path("run/best.weights.h5")).provenance);
  const Ended listed = run({"convert", path("c.weights.h5")});
  EXPECT_TRUE(contains(listed.out, "mobilenet for 50x50 images, 8 dense units")) << listed.out;
}

TEST_F(ProvenanceTest, NetworksThatTuneMakesAreConvertedWithoutProvenanceToo) {
  const Graph graph = find_network("b2").build(50, Head::study, 64);
  write_weights(path("tuned.h5"), graph, std::vector<float>(static_cast<std::size_t>(graph.parameter_count())));
  const Ended outcome = run({"convert", path("tuned.h5"), path("tuned.weights.h5")});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(open_weights(path("tuned.weights.h5")).provenance->dense_units, 64);
  EXPECT_EQ(run({"convert", path("tuned.h5"), path("never.h5"), "--dense-units", "65"}).code, 4);
}

TEST_F(ProvenanceTest, WeightsThatContradictWhatTheySayAreRefused) {
  const Graph graph = find_network("b2").build(50);
  write_weights(path("liar.weights.h5"), graph, std::vector<float>(static_cast<std::size_t>(graph.parameter_count())),
                Provenance{.network = "b6", .image = 50});
  for (const Ended& outcome : {evaluate("liar.weights.h5"), run({"convert", path("liar.weights.h5"), path("never.onnx")})}) {
    EXPECT_EQ(outcome.code, 4) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "not of the network that it says")) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, "b6 for 50x50")) << outcome.err;
  }
}

TEST_F(ProvenanceTest, WeightsForImagesOfAnotherSizeSayWhatHelps) {
  const Graph graph = find_network("b2").build(96);
  write_weights(path("large.weights.h5"), graph, std::vector<float>(static_cast<std::size_t>(graph.parameter_count())),
                Provenance{.network = "b2", .image = 96});
  const Ended outcome = evaluate("large.weights.h5");
  EXPECT_EQ(outcome.code, 4) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "the weights of b2 are for images of another size")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "expected: images of 96x96\n  found:    50x50\n")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "predict pads")) << outcome.err;
}

TEST_F(ProvenanceTest, InitialWeightsSayWhatTheyHadLearnedFrom) {
  const Ended outcome =
      run({"train", "--net", "mobilenet", "--data", path("data"), "--device", "cpu", "--weights", path("run/best.weights.h5"),
           "--dense-units", "8", "--split-seed", "4", "--epochs", "1", "--json", "--out", path("continued")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "initial weights: mobilenet for 50x50")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "trained with native preprocessing, and go on with paper")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "images of the test split the weights have learned from")) << outcome.err;
  const Json learned = Json::parse(outcome.out)["test_learned"];
  EXPECT_GT(learned["images"], 0);
  // The continued weights have learned from both runs' training images.
  const Json again = Json::parse(evaluate("continued/best.weights.h5").out);
  EXPECT_EQ(again["learned"], learned);
  EXPECT_EQ(again["loss"], Json::parse(outcome.out)["test"]["loss"]);
  EXPECT_EQ(result("run")["test_learned"]["images"], 0);
  const std::string said = "The weights had learned from " + learned["images"].dump() + " of the test images";
  EXPECT_TRUE(contains(text_of(path("continued/report.html")), said));
  EXPECT_FALSE(contains(text_of(path("run/report.html")), "had learned"));
}

}  // namespace
}  // namespace microtome
