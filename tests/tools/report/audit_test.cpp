#include "tools/report/audit.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

Audit sound() {
  Audit audit{.format = &find_format("pcam")};
  for (Audit::Split& split : audit.splits) split.classes = {1000, 1234};
  audit.sizes = {{96, 6702}};
  return audit;
}

TEST(AuditTextTest, ASoundDataSetHasNothingToSay) {
  const std::string text = to_text(sound());
  for (const char* part : {"train       2,234      1,000      1,234", "6,702 of 96x96", "no two images are equal",
                           "slides      not known", "no leak found between the splits as far as images tell"})
    EXPECT_NE(text.find(part), text.npos) << part << " in\n" << text;
  EXPECT_EQ(to_json(sound())["leaks"], false);
  Audit known = sound();
  for (Audit::Split& split : known.splits) split.groups = 3;
  EXPECT_NE(to_text(known).find("no leak found between the splits\n"), std::string::npos);
  EXPECT_FALSE(to_json(sound())["splits"]["train"].contains("groups")) << "not known is not 0";
}

TEST(AuditTextTest, SlidesThatAreNotKnownOfOneSplitAreNotSaidToBeApart) {
  Audit audit = sound();
  audit.splits[0].groups = 20, audit.splits[1].groups = 5;
  const std::string text = to_text(audit);
  for (const char* part : {"slides      not known of test", "slides      none is in two splits of the others"})
    EXPECT_NE(text.find(part), text.npos) << part << " in\n" << text;
  EXPECT_EQ(to_json(audit)["groups_known"], false);
  EXPECT_EQ(to_json(audit)["splits"]["train"]["groups"], 20);
  EXPECT_FALSE(to_json(audit)["splits"]["test"].contains("groups"));
  audit.splits[1].groups = 0;
  EXPECT_EQ(to_text(audit).find("none is in two"), std::string::npos) << "one alone is not apart from anything";
}

TEST(AuditTextTest, AFileUnderAnothersNameIsToldFromADamagedOne) {
  Audit audit = sound();
  audit.files = {{.name = "valid_x.h5.gz", .md5 = "d8", .published_as = "test_x.h5.gz"},
                 {.name = "train_x.h5.gz", .md5 = "15", .published_as = "train_x.h5.gz"},
                 {.name = "train_y.h5.gz", .md5 = "00", .published_as = ""}};
  const std::string text = to_text(audit);
  for (const char* part : {"valid_x.h5.gz: holds what is published as test_x.h5.gz", "train_x.h5.gz: as published",
                           "train_y.h5.gz: MD5 00 was never published", "in each other's place"})
    EXPECT_NE(text.find(part), text.npos) << part << " in\n" << text;
  EXPECT_TRUE(to_json(audit)["files"][2]["published_as"].is_null());
}

TEST(AuditTextTest, WhereNothingIsUnpackedNoVerdictIsGiven) {
  const Audit audit{.format = &find_format("pcam"),
                    .files = {{.name = "test_x.h5.gz", .md5 = "d8", .published_as = "test_x.h5.gz"}}};
  EXPECT_EQ(to_text(audit).find("leak"), std::string::npos) << to_text(audit);
  EXPECT_TRUE(to_json(audit)["leaks"].is_null());
}

TEST(AuditTextTest, LongListsAreCutAndJsonHoldsThemWhole) {
  Audit audit = sound();
  for (Audit::Split& split : audit.splits) split.groups = 20;
  Audit::Duplicates equal;
  for (int i = 0; i < 9; ++i) {
    equal.images.push_back({.split = i % 2 == 0 ? 0u : 2u, .id = std::to_string(i), .label = 1});
    audit.groups_across.push_back({.name = "slide" + std::to_string(i), .images = {3, 0, 2}});
    audit.sizes.push_back({{50, 40 - i}, 1});
  }
  audit.duplicates.assign(9, equal);
  const std::string text = to_text(audit);
  for (const char* part :
       {"9 images are there more than once, 81 times in all (0 of them of a single colour)", "36 of test are in train too",
        "0 of valid are in train too", "crosses: train:0 (1) = test:1 (1) = train:2 (1) = test:3 (1) = train:4 (1) = …",
        "slides      9 in several splits: slide0 (3, 0, 2),", "slide4 (3, 0, 2), …", "2 more sizes", "LEAKS"})
    EXPECT_NE(text.find(part), text.npos) << part << " in\n" << text;
  const Json json = to_json(audit);
  EXPECT_EQ(json["duplicates"].size(), 9u);
  EXPECT_EQ(json["duplicates"][0]["images"].size(), 9u);
  EXPECT_EQ(json["groups_across"].size(), 9u);
  EXPECT_EQ(json["sizes"].size(), 10u);
  EXPECT_EQ(json["shared"]["train"]["test"], 45);
  EXPECT_EQ(json["shared"]["test"]["train"], 36);
}

}  // namespace
}  // namespace microtome
