// convert, seen from outside.
#include "tools/process.h"

#include "data/checkpoint.h"
#include "data/weights.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "nets/nets.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace microtome {
namespace {

class ConvertTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// A file of the network, every value another.
  std::vector<float> write(const std::string& name, const std::string& net, int size, Head head = Head::study) const {
    const Graph graph = find_network(net).build(size, head);
    std::vector<float> weights(static_cast<std::size_t>(graph.parameter_count()));
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i);
    write_weights(path(name), graph, weights);
    return weights;
  }

  TemporaryFolder folder_;
};

TEST_F(ConvertTest, WeightsGoThroughEveryFormAndBack) {
  const std::vector<float> weights = write("a.h5", "mobilenet", 96);
  const std::string said = "mobilenet with the study's head, 96x96, 3,491,521 parameters";
  for (const auto& [from, to] :
       {std::pair{"a.h5", "b.weights.h5"}, {"b.weights.h5", "c.checkpoint"}, {"c.checkpoint", "d.h5"}}) {
    const Ended outcome = run({"convert", path(from), path(to)});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(contains(outcome.out, said)) << outcome.out;
  }
  EXPECT_EQ(read_weights(path("d.h5"), find_network("mobilenet").build(96)).values, weights);
  EXPECT_EQ(run({"convert", path("d.h5"), path("e.h5")}).code, 0);
  EXPECT_TRUE(text_of(path("e.h5")) == text_of(path("d.h5"))) << "the same content, the same bytes";
  EXPECT_EQ(open_weights(path("b.weights.h5")).layout, WeightFile::Layout::keras3);
}

TEST_F(ConvertTest, ACheckpointGivesWhatItsLastValidationUsed) {
  const Graph graph = find_network("b6").build(50);
  const auto count = static_cast<std::size_t>(graph.parameter_count());
  Snapshot snapshot;
  snapshot.weights = std::vector<float>(count, 1.0f);
  snapshot.first_moments = snapshot.second_moments = std::vector<float>(count);
  snapshot.statistics.assign(statistics_of(graph, snapshot.weights.get()).size(), 2.0f);
  const CheckpointInfo info{.network = "b6", .image = 50, .parameters = graph.parameter_count()};
  write_checkpoint(path("last.checkpoint"), snapshot, info);

  const Ended outcome = run({"convert", path("last.checkpoint"), path("last.weights.h5")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_FALSE(contains(outcome.err, "note:")) << outcome.err;
  std::vector<float> expected(count, 1.0f);
  put_statistics(graph, snapshot.statistics, expected);
  EXPECT_EQ(read_weights(path("last.weights.h5"), graph).values, expected);

  snapshot.state.batch = 1;
  write_checkpoint(path("within.checkpoint"), snapshot, info);
  const Ended within = run({"convert", path("within.checkpoint"), path("within.weights.h5")});
  EXPECT_TRUE(contains(within.err, "saved within epoch 1")) << within.err;
}

TEST_F(ConvertTest, TheNetworkTheHeadAndTheSizeAreGuessed) {
  write("b2.h5", "b2", 50);
  write("base.h5", "mobilenet", 96, Head::none);
  write("top.h5", "mobilenet", 224, Head::imagenet);
  EXPECT_TRUE(contains(run({"convert", path("b2.h5"), path("x.weights.h5")}).out, "b2 with the study's head, 50x50"));
  EXPECT_TRUE(contains(run({"convert", path("base.h5"), path("x.weights.h5")}).out, "mobilenet without a head"));
  EXPECT_TRUE(contains(run({"convert", path("top.h5"), path("x.weights.h5")}).out, "mobilenet with ImageNet's 1000 classes"));
}

TEST_F(ConvertTest, WithoutAnOutputTheFileIsListed) {
  write("b2.weights.h5", "b2", 50);
  const Ended whole = run({"convert", path("b2.weights.h5")});
  EXPECT_EQ(whole.code, 0) << whole.err;
  for (const char* part :
       {"conv2d_1", "(5, 5, 32, 64)", "4 layers with weights, 2,413,505 values", "fits b2 with the study's head"})
    EXPECT_TRUE(contains(whole.out, part)) << part << " in\n" << whole.out;
  Graph stranger;
  stranger.output(stranger.input(9) | conv(7, 9) | dense(1));
  write_weights(path("stranger.h5"), stranger, std::vector<float>(static_cast<std::size_t>(stranger.parameter_count())));
  const Ended other = run({"convert", path("stranger.h5")});
  EXPECT_EQ(other.code, 0) << other.err;
  EXPECT_TRUE(contains(other.out, "(9, 9, 3, 7)")) << other.out;
  EXPECT_TRUE(contains(other.out, "fits none of the networks")) << other.out;
}

TEST_F(ConvertTest, ValuesThatNoNetworkHasAreNamedWhateverTheNetwork) {
  const Graph graph = find_network("b6").build(50);
  const auto count = static_cast<std::size_t>(graph.parameter_count());
  for (const auto& [value, says] :
       {std::pair(NAN, "a weight is not a finite number"), {-1.0f, "a variance among the weights is negative"}}) {
    std::vector<float> weights;
    for (const Parameter& parameter : graph.parameters())
      weights.insert(weights.end(), static_cast<std::size_t>(parameter.shape.count()),
                     parameter.name == "moving_variance" ? value : 1.0f);
    ASSERT_EQ(weights.size(), count);
    write_weights(path("a.h5"), graph, weights);
    const Ended listed = run({"convert", path("a.h5")});
    EXPECT_TRUE(contains(listed.out, "layers with weights")) << listed.out;
    EXPECT_FALSE(contains(listed.out, "fits none")) << listed.out;
    for (const Ended& outcome : {listed, run({"convert", path("a.h5"), path("x.weights.h5")})}) {
      EXPECT_EQ(outcome.code, 4) << outcome.out;
      EXPECT_TRUE(contains(outcome.err, says)) << outcome.err;
    }
    EXPECT_FALSE(std::filesystem::exists(path("x.weights.h5")));
  }
}

TEST_F(ConvertTest, AnotherSizeIsNotWhatTheWeightsWereTrainedOn) {
  const Graph graph = find_network("mobilenet").build(96);
  const Provenance trained{.network = "mobilenet", .image = 96, .preprocess = "paper"};
  write_weights(path("a.weights.h5"), graph, std::vector<float>(static_cast<std::size_t>(graph.parameter_count())), trained);
  for (const auto& [in, out, size] : {std::array{"a.weights.h5", "b.h5", "50"}, {"b.h5", "c.weights.h5", "64"}}) {
    const Ended outcome = run({"convert", path(in), path(out), "--size", size});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, std::string("overrides 96x96, as the weights were trained"))) << outcome.err;
  }
  const std::optional<Provenance> said = open_weights(path("c.weights.h5")).provenance;
  ASSERT_TRUE(said);
  EXPECT_EQ(said->image, Extent(64));
  EXPECT_EQ(said->trained_size(), Extent(96));
  ASSERT_EQ(run({"synthesize", "idc", "--out", path("data"), "--train", "40", "--valid", "8", "--test", "8", "-q"}).code, 0);
  const Ended judged = run({"evaluate", "--weights", path("c.weights.h5"), "--data", path("data"), "--device", "cpu"});
  EXPECT_TRUE(contains(judged.err, "the images are 50x50; the weights were trained on 96x96, and converted for 64x64"))
      << judged.err;
  ASSERT_EQ(run({"convert", path("c.weights.h5"), path("d.weights.h5"), "--size", "96", "-q"}).code, 0);
  EXPECT_EQ(open_weights(path("d.weights.h5")).provenance, open_weights(path("a.weights.h5")).provenance);
}

TEST_F(ConvertTest, AModelIsWrittenAsOnnx) {
  write("a.h5", "b2", 50);
  const Ended outcome = run({"convert", path("a.h5"), path("a.onnx")});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(contains(text_of(path("a.onnx")), "microtome"));
}

TEST_F(ConvertTest, WhatCannotBeIsRefusedAndNothingIsWritten) {
  write("b2.h5", "b2", 40);
  write("base.h5", "mobilenet", 96, Head::none);
  struct Bad {
    std::vector<std::string> words;
    int code;
    std::string says;
  };
  const std::vector<Bad> all{
      {{"convert", path("b2.h5"), path("x.txt")}, 2, "the ending does not tell"},
      {{"convert", path("none.h5"), path("x.h5")}, 4, "no such file"},
      {{"convert", path("b2.h5"), path("x.h5")}, 4, "fit none of the networks"},
      {{"convert", path("b2.h5"), path("x.h5"), "--net", "b6"}, 4, "layer 0 \"conv2d\" for row \"conv2d\""},
      {{"convert", path("base.h5"), path("x.checkpoint")}, 4, "with the study's head"},
      {{"convert", path("base.h5"), path("x.onnx")}, 4, "with the study's head"},
  };
  for (const Bad& bad : all) {
    const Ended outcome = run(bad.words);
    EXPECT_EQ(outcome.code, bad.code) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, bad.says)) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(bad.words[2]));
  }
  EXPECT_EQ(run({"convert", path("b2.h5"), path("x.h5"), "--size", "40"}).code, 0);
}

TEST_F(ConvertTest, OnlyAnOlderOneOfItsKindIsReplaced) {
  write("a.h5", "b6", 50);
  EXPECT_EQ(run({"convert", path("a.h5"), path("b.h5")}).code, 0);
  EXPECT_EQ(run({"convert", path("a.h5"), path("b.h5")}).code, 0);
  EXPECT_EQ(run({"convert", path("a.h5"), path("c.checkpoint")}).code, 0);
  EXPECT_EQ(run({"convert", path("a.h5"), path("c.checkpoint")}).code, 0);

  const Graph graph = find_network("b6").build(50);
  Snapshot snapshot;
  snapshot.weights = snapshot.first_moments = snapshot.second_moments =
      std::vector<float>(static_cast<std::size_t>(graph.parameter_count()));
  write_checkpoint(path("last.checkpoint"), snapshot,
                   {.network = "b6", .image = 50, .parameters = graph.parameter_count(), .options = "seed = 0\n"});
  write_small_pcam(path("data"));
  write_text(path("notes.h5"), "not weights\n");
  std::filesystem::create_directory(path("run"));
  write_text(path("run/config.toml"), "net = \"b6\"\n");
  std::filesystem::create_symlink(path("last.checkpoint"), path("link.checkpoint"));
  const std::string images = path("data/camelyonpatch_level_2_split_test_x.h5");
  for (const std::string& out : {path("last.checkpoint"), path("link.checkpoint"), images, path("notes.h5")}) {
    const std::string before = text_of(out);
    const Ended refused = run({"convert", path("a.h5"), out});
    EXPECT_EQ(refused.code, 2) << out;
    EXPECT_TRUE(contains(refused.err, "another kind of file")) << refused.err;
    EXPECT_EQ(text_of(out), before);
    const Ended predicted = run({"predict", "--net", "b6", "--weights", path("a.h5"), "--data", images, "--out", out, "-q"});
    EXPECT_EQ(contains(predicted.err, "would overwrite"), out != path("notes.h5"))
        << "a text may replace a text: " << predicted.err;
  }
  EXPECT_EQ(run({"convert", path("a.h5"), path("run/best.weights.h5")}).code, 2) << "which a run will write";
}

}  // namespace
}  // namespace microtome
