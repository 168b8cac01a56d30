#include "data/checkpoint.h"

#include "data/file.h"
#include "data/support.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/flatten.h"

#include <zlib.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

namespace microtome {
namespace {

constexpr std::size_t preamble_bytes = 16;

CheckpointInfo info() {
  return {.network = "b6", .image = {96, 50}, .parameters = 5, .options = "--lr 1e-3\nx = \"\xff\"", .commit = "abc-dirty"};
}

Snapshot snapshot() {
  Snapshot s;
  s.state = {.seed = 0xfedcba9876543210, .step = 1234567890123, .epoch = 3, .batch = 7, .learning_rate = 1e-3f, .finite = 1};
  s.weights = {1, -0.0f, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::quiet_NaN(),
               std::numeric_limits<float>::infinity()};
  s.first_moments = {1, 2, 3, 4, 5};
  s.second_moments = {6, 7, 8, 9, 10};
  s.batches = {{.loss = 0.1, .correct = 3, .count = 4},
               {.loss = std::numeric_limits<double>::infinity(), .correct = 0, .count = 32}};
  s.seconds = 1.0 / 3;
  s.history = {{.epoch = 1,
                .train_loss = 0.1,
                .train_accuracy = 2.0 / 3,
                .valid_loss = 0.7,
                .valid_accuracy = 0.5,
                .seconds = 12.5,
                .images_per_second = 99.9,
                .best = true},
               {.epoch = 2, .train_loss = 5e-324}};
  s.best_weights = {5, 4, 3, 2, 1};
  s.statistics = {0.5f, -0.25f};
  return s;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

void expect_equal(const Snapshot& a, const Snapshot& b) {
  EXPECT_EQ(a.state.seed, b.state.seed);
  EXPECT_EQ(a.state.step, b.state.step);
  EXPECT_EQ(a.state.epoch, b.state.epoch);
  EXPECT_EQ(a.state.batch, b.state.batch);
  EXPECT_EQ(a.state.learning_rate, b.state.learning_rate);
  EXPECT_EQ(a.state.finite, b.state.finite);
  EXPECT_TRUE(same_bits(a.weights.get(), b.weights.get()));
  EXPECT_TRUE(same_bits(a.first_moments.get(), b.first_moments.get()));
  EXPECT_TRUE(same_bits(a.second_moments.get(), b.second_moments.get()));
  EXPECT_TRUE(same_bits(a.best_weights, b.best_weights));
  EXPECT_TRUE(same_bits(a.statistics, b.statistics));
  EXPECT_EQ(a.seconds, b.seconds);
  ASSERT_EQ(a.batches.size(), b.batches.size());
  for (std::size_t i = 0; i < a.batches.size(); ++i) {
    EXPECT_EQ(a.batches[i].loss, b.batches[i].loss);
    EXPECT_EQ(a.batches[i].correct, b.batches[i].correct);
    EXPECT_EQ(a.batches[i].count, b.batches[i].count);
  }
  ASSERT_EQ(a.history.size(), b.history.size());
  for (std::size_t i = 0; i < a.history.size(); ++i) {
    const EpochRecord &x = a.history[i], &y = b.history[i];
    EXPECT_EQ(x.epoch, y.epoch);
    EXPECT_EQ(x.train_loss, y.train_loss);
    EXPECT_EQ(x.train_accuracy, y.train_accuracy);
    EXPECT_EQ(x.valid_loss, y.valid_loss);
    EXPECT_EQ(x.valid_accuracy, y.valid_accuracy);
    EXPECT_EQ(x.seconds, y.seconds);
    EXPECT_EQ(x.images_per_second, y.images_per_second);
    EXPECT_EQ(x.best, y.best);
  }
}

/// Puts a right checksum under changed bytes: what the checksum cannot find, the reader must.
std::vector<char> resealed(std::vector<char> bytes) {
  const std::size_t body = bytes.size() - 4;
  const auto sum = static_cast<std::uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), body));
  std::memcpy(bytes.data() + body, &sum, sizeof sum);
  return bytes;
}

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    write_checkpoint(file_, snapshot(), info());
    bytes_ = read_bytes(file_);
  }

  std::string header() const {
    std::uint32_t size = 0;
    std::memcpy(&size, bytes_.data() + 12, sizeof size);
    return {bytes_.data() + preamble_bytes, size};
  }
  /// The same file with another header and a right checksum.
  std::vector<char> with_header(const std::string& text) const {
    std::vector<char> bytes(bytes_.begin(), bytes_.begin() + preamble_bytes);
    const auto size = static_cast<std::uint32_t>(text.size());
    std::memcpy(bytes.data() + 12, &size, sizeof size);
    bytes.insert(bytes.end(), text.begin(), text.end());
    bytes.insert(bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(preamble_bytes + header().size()), bytes_.end());
    return resealed(bytes);
  }
  void expect_refused(const std::vector<char>& bytes, const std::vector<std::string>& parts = {}) const {
    write_bytes(file_, bytes);
    expect_refusal([&] { read_checkpoint(file_); }, ExitCode::weights, parts);
  }

  TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "last.checkpoint";
  std::vector<char> bytes_;
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return text.replace(at, from.size(), to);
}

TEST_F(CheckpointTest, ComesBackBitForBit) {
  const Checkpoint back = read_checkpoint(file_);
  EXPECT_EQ(back.info, info());
  expect_equal(back.snapshot, snapshot());
}

TEST_F(CheckpointTest, ProvenanceComesBack) {
  CheckpointInfo with = info();
  with.provenance = Provenance{.network = "b6", .image = {96, 50}, .preprocess = "native"};
  for (int i = 0; i < 10'000; ++i) with.provenance->splits[0].groups.push_back(fmt::format("patient_{:05}", i));
  write_checkpoint(file_, snapshot(), with);
  EXPECT_EQ(read_checkpoint(file_).info, with);
  with.provenance->image = 50;
  write_checkpoint(file_, snapshot(), with);
  expect_refusal([&] { read_checkpoint(file_); }, ExitCode::weights, {"says two things of its network", "b6 for 50x50"});
}

TEST_F(CheckpointTest, AnEmptyHistoryComesBackToo) {
  Snapshot s = snapshot();
  s.history.clear(), s.batches.clear(), s.best_weights.clear(), s.statistics.clear();
  write_checkpoint(file_, s, info());
  expect_equal(read_checkpoint(file_).snapshot, s);
}

TEST_F(CheckpointTest, WrittenTwiceTheBytesAreTheSame) {
  const Checkpoint back = read_checkpoint(file_);
  write_checkpoint(folder_ / "again", back.snapshot, back.info);
  EXPECT_EQ(read_bytes(folder_ / "again"), bytes_);
}

TEST_F(CheckpointTest, EveryFlippedBitIsFound) {
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    std::vector<char> bytes = bytes_;
    bytes[i] = static_cast<char>(bytes[i] ^ (1 << i % 8));
    expect_refused(bytes);
    ASSERT_FALSE(HasFailure()) << "byte " << i;
  }
}

TEST_F(CheckpointTest, EveryFlippedByteOfTheHeaderIsRefusedOrReadAlikeUnderARightChecksum) {
  const Checkpoint whole = read_checkpoint(file_);
  int refused = 0;
  for (std::size_t i = 0; i < preamble_bytes + header().size(); ++i) {
    std::vector<char> bytes = bytes_;
    bytes[i] = static_cast<char>(bytes[i] ^ (1 << i % 8));
    write_bytes(file_, resealed(bytes));
    try {
      // A changed letter of a name or digit of a number is a checkpoint of something else, never of something impossible.
      const Checkpoint other = read_checkpoint(file_);
      EXPECT_TRUE(same_bits(other.snapshot.weights.get(), whole.snapshot.weights.get())) << "byte " << i;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::weights) << "byte " << i;
      ++refused;
    }
  }
  EXPECT_GT(refused, static_cast<int>(header().size() / 2));
}

TEST_F(CheckpointTest, EveryTruncationIsFound) {
  for (std::size_t size = 0; size < bytes_.size(); ++size) {
    expect_refused({bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(size)});
    ASSERT_FALSE(HasFailure()) << size << " bytes";
  }
}

TEST_F(CheckpointTest, BytesAfterTheEndAreFound) {
  std::vector<char> bytes = bytes_;
  bytes.push_back(0);
  expect_refused(bytes, {"damaged"});
  bytes.insert(bytes.end() - 5, 0);
  expect_refused(resealed(bytes), {"more than its header tells"});
}

TEST_F(CheckpointTest, ACraftedHeaderIsRefusedThoughItsChecksumIsRight) {
  const std::string good = header();
  const std::string weights = R"("name":"weights","offset":)";
  const std::size_t at = good.find(weights) + weights.size();
  const std::string offset = good.substr(at, good.find(',', at) - at);
  // Overlapping, with a hole, beyond the file, more than 64 bits.
  for (const std::string other : {"0", "100", "9223372036854775807", "18446744073709551616", "-1", "1.5"}) {
    if (other == offset) continue;
    expect_refused(with_header(replaced(good, weights + offset, weights + other)));
  }
  expect_refused(
      with_header(replaced(good, R"("count":5,"name":"weights")", R"("count":4611686018427387904,"name":"weights")")),
      {"beyond the file"});
  expect_refused(with_header(replaced(good, R"("commit")", R"("commit":"x","commit")")), {"not one of ours"});
  expect_refused(with_header(replaced(good, R"("name":"weights")", R"("name":"Weights")")));
  expect_refused(with_header(replaced(good, R"("parameters":5)", R"("parameters":-5)")), {"differ in size"});
  expect_refused(with_header(replaced(good, R"("parameters":5)", R"("parameters":6)")), {"differ in size"});
  expect_refused(with_header(replaced(good, R"("seed":)", R"("sead":)")));
  expect_refused(with_header(""));
  expect_refused(with_header("[]"));
  expect_refused(with_header(std::string(1 << 19, '[')));
  expect_refused(with_header(std::string(1 << 18, '[') + std::string(1 << 18, ']')));
  expect_refused(with_header(std::string(2 << 20, ' ')), {"too long"});
}

TEST_F(CheckpointTest, BestWeightsOfAnotherNumberAreRefusedThoughTheChecksumIsRight) {
  // Their last one is said to be the first of the statistics, which lie behind them.
  const std::string statistics = R"("name":"statistics","offset":)", good = header();
  const std::size_t at = good.find(statistics) + statistics.size(), offset = std::stoul(good.substr(at));
  std::string text = replaced(good, R"("count":5,"name":"best_weights")", R"("count":4,"name":"best_weights")");
  text = replaced(text, fmt::format(R"("count":2,{}{})", statistics, offset),
                  fmt::format(R"("count":3,{}{})", statistics, offset - sizeof(float)));
  expect_refused(with_header(text), {"differ in size", "5, 5, 5 and 4"});
}

TEST_F(CheckpointTest, AForeignFileOrVersionIsNamed) {
  write_bytes(file_, {'P', 'K'});
  expect_refusal([&] { read_checkpoint(file_); }, ExitCode::weights, {"no checkpoint of ours", file_.string()});
  EXPECT_FALSE(is_checkpoint(file_));
  std::vector<char> newer = bytes_;
  newer[8] = 3;
  expect_refused(resealed(newer), {"version 3", "version 1 to 2"});
  newer[8] = 0;
  expect_refused(resealed(newer), {"version 0"});
  EXPECT_TRUE(is_checkpoint(file_));
  expect_refusal([&] { read_checkpoint(folder_ / "none"); }, ExitCode::weights, {"none"});
  EXPECT_FALSE(is_checkpoint(folder_ / "none"));
}

/// A batch-norm of one channel between a convolution and the logit: a kernel, gamma, beta, mean, variance; a kernel and a bias.
Graph with_norm() {
  Graph graph;
  graph.output(graph.input(1, 1) | conv(1, 1, {.bias = false}) | batch_norm() | flatten() | logit());
  return graph;
}

Checkpoint of_with_norm() {
  Checkpoint checkpoint{.info = info(), .snapshot = snapshot(), .version = 2};
  checkpoint.snapshot.weights = {1, 2, 3, 4, 5, 6, 7};
  return checkpoint;
}

TEST(CheckpointStatisticsTest, WhatIsJudgedHasThoseOfTheLastValidation) {
  Checkpoint checkpoint = of_with_norm();
  checkpoint.snapshot.statistics = {40, 50};
  EXPECT_EQ(checkpoint.judged_weights(with_norm()), (std::vector<float>{1, 2, 3, 40, 50, 6, 7}));
  EXPECT_EQ(checkpoint.snapshot.weights.get(), (std::vector<float>{1, 2, 3, 4, 5, 6, 7})) << "a resumed run goes on with these";
  checkpoint.snapshot.statistics.clear();
  EXPECT_EQ(checkpoint.judged_weights(with_norm()), checkpoint.snapshot.weights.get());
  checkpoint.snapshot.statistics = {1, 2, 3};
  expect_refusal([&] { checkpoint.judged_weights(with_norm()); }, ExitCode::weights, {"2 values", "3"});
}

TEST(CheckpointStatisticsTest, ANoteTellsWhereTheyAreNotTheLastValidations) {
  Checkpoint checkpoint = of_with_norm();
  checkpoint.snapshot.state.batch = 0;
  EXPECT_EQ(checkpoint.statistics_note(with_norm()), "");
  checkpoint.snapshot.state.batch = 7;
  EXPECT_NE(checkpoint.statistics_note(with_norm()).find("within epoch 4"), std::string::npos);
  checkpoint.version = 1;
  EXPECT_NE(checkpoint.statistics_note(with_norm()).find("moving averages"), std::string::npos);
  Graph without;
  without.output(without.input(1, 1) | flatten() | logit());
  EXPECT_EQ(checkpoint.statistics_note(without), "");
}

TEST_F(CheckpointTest, ThoseOfVersion1AreReadStill) {
  Snapshot s = snapshot();
  s.statistics.clear();
  write_checkpoint(file_, s, info());
  bytes_ = read_bytes(file_);
  // What it lacked is empty here, and stands last in the list.
  std::string text = header();
  const std::size_t entry = text.find(R"(,{"count":0,"name":"statistics")");
  ASSERT_NE(entry, text.npos);
  text.erase(entry, text.find(']', entry) - entry);
  std::vector<char> old = with_header(text);
  expect_refused(old);
  old[8] = 1;
  write_bytes(file_, resealed(old));
  const Checkpoint back = read_checkpoint(file_);
  EXPECT_EQ(back.version, 1);
  EXPECT_EQ(back.info, info());
  expect_equal(back.snapshot, s);
}

TEST_F(CheckpointTest, AnotherNetworkSizeOrCountIsRefused) {
  const Checkpoint checkpoint = read_checkpoint(file_);
  require_network(checkpoint, file_, "b6", {96, 50}, 5);
  expect_refusal(
      [&] {
        require_network(checkpoint, file_, "b2", {96, 50}, 5);
      },
      ExitCode::weights, {"of another network", "b2 for 96x50", "b6 for 96x50", "--net b6"});
  expect_refusal([&] { require_network(checkpoint, file_, "b6", 96, 5); }, ExitCode::weights,
                 {"images of another size", "96x96", "next:     give images of 96x50"});
  expect_refusal(
      [&] {
        require_network(checkpoint, file_, "b6", {96, 50}, 6);
      },
      ExitCode::weights, {"another number of parameters", "6 parameters", "next:     ask for its --dense-units"});
  Checkpoint dense = checkpoint;
  dense.info.provenance = Provenance{.dense_units = 4};
  expect_refusal(
      [&] {
        require_network(dense, file_, "b6", {96, 50}, 6);
      },
      ExitCode::weights, {"5 parameters, 4 dense units", "ask for --dense-units 4"});
}

TEST_F(CheckpointTest, WithoutOptionsItIsNoRuns) {
  Checkpoint checkpoint = read_checkpoint(file_);
  require_run(checkpoint, file_);
  checkpoint.info.options.clear();
  expect_refusal([&] { require_run(checkpoint, file_); }, ExitCode::weights, {"not a run's", "convert writes such a file"});
}

TEST_F(CheckpointTest, AFullDiskLeavesTheOldOne) {
  const FileOperations saved = file_operations();
  int writes = 0;
  file_operations().write = [&](int fd, const void* bytes, std::size_t count) -> ssize_t {
    if (++writes < 4) return saved.write(fd, bytes, count);
    errno = ENOSPC;
    return -1;
  };
  Snapshot newer = snapshot();
  newer.state.step += 1;
  expect_refusal([&] { write_checkpoint(file_, newer, info()); }, ExitCode::memory,
                 {"the checkpoint could not be written", "make room"});
  file_operations() = saved;
  EXPECT_EQ(read_bytes(file_), bytes_);
  EXPECT_FALSE(std::filesystem::exists(temporary_name(file_)));
}

}  // namespace
}  // namespace microtome
