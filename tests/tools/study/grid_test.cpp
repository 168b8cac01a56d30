#include "tools/study/grid.h"

#include "engine/check.h"
#include "nets/nets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace microtome {
namespace {

const StudyOptions both{.pcam = Extent(96), .idc = Extent(50)};

StudyOptions with(void (*change)(StudyOptions&)) {
  StudyOptions options = both;
  change(options);
  return options;
}

std::string no_study(const StudyOptions& options) {
  try {
    make_grid(options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    return error.what();
  }
  return "";
}

int count(const Grid& grid, std::string_view data, std::string_view mode) {
  return static_cast<int>(
      std::ranges::count_if(grid.cells, [&](const PlannedCell& p) { return p.cell.data == data && p.cell.mode == mode; }));
}

TEST(StudyGridTest, ThePapersExperimentHasTheRowsOfItsTables3And4) {
  const Grid grid = make_grid(both);
  EXPECT_EQ(count(grid, "pcam", "full"), 12);
  EXPECT_EQ(count(grid, "pcam", "transfer"), 10) << "b2 and b6 have no published base";
  EXPECT_EQ(count(grid, "idc", "full"), 11) << "InceptionV3 needs larger images";
  EXPECT_EQ(count(grid, "idc", "transfer"), 9);
  ASSERT_EQ(grid.notes.size(), 1u) << "said once, for both modes";
  EXPECT_TRUE(grid.notes[0].starts_with("inception_v3 has no cell on idc, whose images are 50x50")) << grid.notes[0];
}

TEST(StudyGridTest, EveryCellIsThereOnceUnderItsOwnName) {
  const Grid grid = make_grid(
      with([](StudyOptions& o) { o.seeds = "0,7", o.preprocess = "native,paper", o.augment = "none,d4", o.nets = "b6,mn"; }));
  std::set<std::string> names;
  for (const PlannedCell& planned : grid.cells) names.insert(planned.cell.name());
  EXPECT_EQ(names.size(), grid.cells.size());
  EXPECT_EQ(grid.cells.size(), 2u * 2 * 2 * (1 + 2 + 2)) << "data, seeds, augmentations; b6 is preprocessed in one way alone";
  EXPECT_TRUE(names.contains("idc-mobilenet-transfer-paper-d4-7"));
}

TEST(StudyGridTest, ABaseFromTheOtherDataSetComesBeforeWhatBeginsWithIt) {
  const Grid grid = make_grid(
      with([](StudyOptions& o) { o.weights = "other", o.nets = "b2,iv3,mn", o.preprocess = "paper,native", o.seeds = "1,2"; }));
  std::set<std::string> before;
  for (const auto& [cell, parent] : grid.cells) {
    if (cell.mode == "full") {
      EXPECT_EQ(parent, "") << cell.name();
    } else {
      EXPECT_EQ(cell.net, "mobilenet") << "the only one that both data sets can train";
      EXPECT_EQ(parent, fmt::format("{}-mobilenet-full-native-none-{}", cell.data == "pcam" ? "idc" : "pcam", cell.seed));
      EXPECT_TRUE(before.contains(parent)) << cell.name();
    }
    before.insert(cell.name());
  }
  EXPECT_EQ(count(grid, "pcam", "transfer"), 4);
  EXPECT_EQ(grid.notes.size(), 2u) << "InceptionV3 on IDC, and its transfer from there";
}

TEST(StudyGridTest, ShardsDealEveryCellOnceChildrenWithTheirParents) {
  const StudyOptions options = with([](StudyOptions& o) {
    o.weights = "other", o.nets = "b2,b6,mn,rn50,enb0", o.preprocess = "paper,native", o.seeds = "0,1,2";
  });
  const std::vector<PlannedCell> cells = make_grid(options).cells;
  for (const int shards : {1, 2, 5}) {
    const std::vector<int> dealt = deal(options, cells, shards);
    ASSERT_EQ(dealt.size(), cells.size());
    std::map<std::string, int> shard_of;
    std::map<int, int> sizes;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      shard_of[cells[i].cell.name()] = dealt[i];
      ++sizes[dealt[i]];
    }
    EXPECT_EQ(sizes.begin()->first, 1);
    EXPECT_EQ(sizes.rbegin()->first, shards);
    EXPECT_EQ(static_cast<int>(sizes.size()), shards) << "none is idle";
    for (const auto& [cell, parent] : cells) EXPECT_TRUE(parent.empty() || shard_of[cell.name()] == shard_of[parent]);
  }
}

TEST(StudyGridTest, ABasesParametersAreTheFirstOfItsNetwork) {  // so that they can be taken out of the whole
  for (const Network& network : networks()) {
    if (!network.top) continue;
    const Graph whole = network.build(96), base = network.build(96, Head::none);
    ASSERT_LT(base.parameters().size(), whole.parameters().size());
    for (std::size_t p = 0; p < base.parameters().size(); ++p) {
      EXPECT_EQ(base.parameters()[p].name, whole.parameters()[p].name);
      EXPECT_EQ(base.parameters()[p].shape, whole.parameters()[p].shape);
    }
  }
}

TEST(StudyGridTest, WhatMakesNoStudyIsRefused) {
  EXPECT_EQ(no_study({}), "a study needs data");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.nets = "b2,,b6"; })), "--nets has an empty entry");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.nets = ""; })), "--nets has an empty entry");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.nets = "rn50,resnet50"; })), "--nets names the same twice");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.nets = "rn51"; })), "there is no network \"rn51\"");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.modes = "frozen"; })), "unknown word in --modes");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.augment = "none,flip"; })), "unknown word in --augment");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.seeds = "0,-1"; })), "--seeds takes whole numbers, commas between");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.seeds = "3,3"; })), "--seeds names the same twice");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.weights = "none"; })),
            "a frozen base at its random start is not worth a cell");
  EXPECT_EQ(no_study(with([](StudyOptions& o) { o.weights = "other"; })),
            "--weights other lacks the cells whose bases it transfers")
      << "without --preprocess native";
  EXPECT_EQ(no_study({.idc = Extent(50), .nets = "iv3"}), "the study has no cell");
  EXPECT_EQ(no_study({.idc = Extent(50), .nets = "b2", .modes = "transfer"}), "the study has no cell");
}

}  // namespace
}  // namespace microtome
