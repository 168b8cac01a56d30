#include "data/provenance.h"

#include "data/support.h"

#include <algorithm>
#include <string>
#include <vector>

namespace microtome {
namespace {

Provenance provenance() {
  Provenance p{.network = "b6", .image = {50, 48}, .dense_units = 128};
  p.preprocess = "native";
  p.pixels = {{103.939f, 116.779f, 123.68f}, {1, 2, 3}, true};
  p.mode = "full", p.statistics = "population", p.moving_variance = "tf2", p.batch_size = 64;
  p.initial = "imagenet", p.commit = "abc-dirty";
  p.format = "idc", p.split_by = "patient", p.split_seed = 0xfedcba9876543210, p.valid_share = 0.1, p.test_share = 0.15;
  p.splits = {{{12, "00ff", {"a", "c"}}, {3, "1", {"b"}}, {4, "2", {}}}};
  p.learned_images = {0, 1, 0xffffffffffff};
  p.earlier_groups = {"z"};
  p.tensors = "0123";
  return p;
}

/// `groups` and labels in turn; each image of one colour, its number and `shade`.
Images images(const std::vector<std::string>& groups, int shade = 0) {
  Images all{.shape = {static_cast<int>(groups.size()), 2, 2, 3}, .pixels = {}, .labels = {}, .ids = {}, .groups = groups};
  for (std::size_t i = 0; i < groups.size(); ++i) {
    all.pixels.insert(all.pixels.end(), 12, static_cast<std::uint8_t>(shade + static_cast<int>(i)));
    all.labels.push_back(static_cast<std::uint8_t>(i % 2));
  }
  return all;
}

TEST(ProvenanceTest, ComesBackFromItsText) {
  EXPECT_EQ(parse_provenance(to_json(provenance()), "file"), provenance());
  EXPECT_EQ(parse_provenance(to_json(Provenance{.image = 1}), "file"), Provenance{.image = 1});
  const Provenance converted{.image = 50, .trained_image = {96, 90}};
  EXPECT_EQ(parse_provenance(to_json(converted), "file"), converted);
  EXPECT_EQ(converted.trained_size(), Extent(96, 90));
  EXPECT_EQ(Provenance{.image = 50}.trained_size(), Extent(50));
}

TEST(ProvenanceTest, EveryFlippedBitAndEveryTruncationIsFound) {
  const std::string text = to_json(provenance());
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      try {
        // White space between tokens is nothing's, and a number may be written in two ways.
        EXPECT_EQ(parse_provenance(damaged, "a.h5"), provenance()) << damaged;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::weights);
        EXPECT_NE(error.report().where.find("a.h5"), std::string::npos);
      }
    }
    expect_refusal([&] { parse_provenance(text.substr(0, i), "a.h5"); }, ExitCode::weights, {"is damaged", "a.h5"});
    ASSERT_FALSE(HasFailure()) << "byte " << i;
  }
}

TEST(ProvenanceTest, WhatIsNoneOfOursIsRefused) {
  for (const char* text : {"", "null", "[]", "{}", "{\"microtome\":1}", "{\"microtome\":\"1\"}", "\xff"})
    expect_refusal([&] { parse_provenance(text, "a.h5"); }, ExitCode::weights, {"is damaged", "a.h5"});
  expect_refusal([&] { parse_provenance(std::string(1000, '['), "a.h5"); }, ExitCode::weights, {"is damaged"});
  expect_refusal([&] { parse_provenance(R"({"microtome":2})", "a.h5"); }, ExitCode::weights, {"later version", "version 2"});
  Provenance impossible = provenance();
  impossible.dense_units = -1;
  expect_refusal([&] { parse_provenance(to_json(impossible), "a.h5"); }, ExitCode::weights, {"impossible sizes"});
}

TEST(ProvenanceTest, DataSaysWhoTrainsAndWhoTests) {
  Dataset data{.name = "idc", .train = images({"p2", "p1", "p2"}), .valid = images({"p3"}, 10), .test = images({"p4"}, 20)};
  data.split_by = "patient";
  Provenance p;
  describe_data(data, {.seed = 3}, p);
  EXPECT_EQ(p.format, "idc");
  EXPECT_EQ(p.split_seed, 3u);
  EXPECT_EQ(p.splits[0].groups, (std::vector<std::string>{"p1", "p2"}));
  EXPECT_EQ(p.splits[2].groups, (std::vector<std::string>{"p4"}));
  EXPECT_EQ(p.splits[0].images, 3);
  EXPECT_EQ(p.splits[1].digest, split_digest(data.valid));
  EXPECT_EQ(p.learned_images.size(), 3u);
  EXPECT_TRUE(std::ranges::is_sorted(p.learned_images));
}

TEST(ProvenanceTest, ASplitsDigestTellsPixelsLabelsAndOrder) {
  const Images one = images({"a", "b", "c"});
  Images other = one;
  EXPECT_EQ(split_digest(other), split_digest(one));
  other.pixels[5] ^= 1;
  EXPECT_NE(split_digest(other), split_digest(one));
  other = one, other.labels[0] ^= 1;
  EXPECT_NE(split_digest(other), split_digest(one));
  other = one, std::swap_ranges(other.pixels.begin(), other.pixels.begin() + 12, other.pixels.begin() + 12);
  EXPECT_NE(split_digest(other), split_digest(one));
}

TEST(ProvenanceTest, ImagesAndPatientsThatWereLearnedFromAreCounted) {
  Dataset data{.name = "idc", .train = images({"p1", "p1", "p2"}), .valid = images({"p3"}, 10), .test = images({"p4"}, 20)};
  Provenance p;
  describe_data(data, {}, p);
  const auto counted = [&](const Images& set) {
    const Overlap o = overlap(p, set);
    return std::vector<std::int64_t>{o.images, o.groups, o.group_images};
  };
  EXPECT_EQ(counted(data.test), (std::vector<std::int64_t>{0, 0, 0}));
  EXPECT_EQ(counted(data.train), (std::vector<std::int64_t>{3, 2, 3}));
  EXPECT_EQ(counted(images({"p9", "p2", "p2"}, 1)), (std::vector<std::int64_t>{2, 1, 2})) << "shades 1 and 2 were trained on";
  Images unknown = images({"", ""}, 2);
  unknown.groups.clear();
  EXPECT_EQ(counted(unknown), (std::vector<std::int64_t>{1, 0, 0}));
}

TEST(ProvenanceTest, WhatInitialWeightsHadLearnedFromCountsToo) {
  Provenance base, run;
  describe_data({.name = "idc", .train = images({"p1", "p2"}), .valid = images({"p3"}, 10), .test = images({"p4"}, 20)}, {},
                base);
  describe_data({.name = "idc", .train = images({"p2", "p5"}, 50), .valid = images({"p6"}, 60), .test = images({"p1"})}, {},
                run);
  EXPECT_FALSE(overlap(run, images({"p1"})).any());
  add_learned(base, run);
  EXPECT_EQ(overlap(run, images({"p1"})).images, 1);
  EXPECT_EQ(overlap(run, images({"p1"})).groups, 1);
  EXPECT_EQ(run.earlier_groups, (std::vector<std::string>{"p1"})) << "p2 is among its own";
  Provenance third;
  add_learned(run, third);
  EXPECT_EQ(third.earlier_groups, (std::vector<std::string>{"p1", "p2", "p5"}));
}

TEST(ProvenanceTest, EachSplitsDigestIsThereByItsName) {
  EXPECT_EQ(split_digests(provenance()),
            (std::map<std::string, std::string>{{"train", "00ff"}, {"valid", "1"}, {"test", "2"}}));
}

TEST(ProvenanceTest, NamesThatAreNoUtf8AreFoundAgain) {
  Provenance p;
  describe_data({.name = "idc", .train = images({"p\xff", "q"}), .valid = images({"r"}, 10), .test = images({"s"}, 20)}, {}, p);
  p.image = 2;
  EXPECT_EQ(overlap(parse_provenance(to_json(p), "file"), images({"p\xff"}, 90)).groups, 1);
}

TEST(ProvenanceTest, OneLineTellsPeople) {
  EXPECT_EQ(describe(provenance()),
            "b6 for 50x48 images, 128 dense units, native preprocessing, trained in full on 12 images of idc, split by patient "
            "with seed 18364758544493064720, population statistics, commit abc-dirty");
  EXPECT_EQ(describe({.network = "b2", .image = 96}), "b2 for 96x96 images");
  EXPECT_EQ(describe({.network = "b2", .image = 50, .trained_image = 96}), "b2 for 50x50 images, trained on 96x96");
}

}  // namespace
}  // namespace microtome
