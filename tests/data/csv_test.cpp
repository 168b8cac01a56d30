#include "data/csv.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace microtome {
namespace {

using Fields = std::vector<std::string>;

TEST(CsvTest, WhatIsWrittenComesBack) {
  const Fields fields{"plain", "", "a,b", "say \"no\"", "\"", "\"\"", "\",\"", " blanks ", "\"a\",b", ",", "5\" tile, left"};
  std::string line;
  for (const std::string& field : fields) {
    EXPECT_EQ(csv_fields(csv_field(field)), Fields{field});
    if (!line.empty()) line += ',';
    line += csv_field(field);
  }
  EXPECT_EQ(csv_fields(line), fields);
  EXPECT_EQ(csv_fields(line + "\r"), fields);
}

TEST(CsvTest, SemicolonsAndTabsSeparateToo) {
  EXPECT_EQ(csv_fields("a;\"b;c\";0,5", ';'), (Fields{"a", "b;c", "0,5"}));
  EXPECT_EQ(csv_fields("a b\t\tc", '\t'), (Fields{"a b", "", "c"}));
}

TEST(CsvTest, QuotesStandOnlyWhereTheyMust) {
  EXPECT_EQ(csv_field("a b/c.png"), "a b/c.png");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("a\"b"), "\"a\"\"b\"");
}

TEST(CsvTest, WhatHandsWriteIsRead) {
  EXPECT_EQ(csv_fields("a , b,c "), (Fields{"a", "b", "c"}));
  EXPECT_EQ(csv_fields(" \"a, b\" , c"), (Fields{"a, b", "c"}));
  EXPECT_EQ(csv_fields(""), Fields{""});
  EXPECT_EQ(csv_fields("a,"), (Fields{"a", ""}));
  EXPECT_EQ(csv_fields("\"never closed, b"), Fields{"never closed, b"});
}

}  // namespace
}  // namespace microtome
