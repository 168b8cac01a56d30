#include "data/csv.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
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

TEST(CsvTest, ALineBreakInAQuotedFieldEndsNoRecord) {
  const std::string text = "a,\"b\nc\",d\r\n\"\"\"\n\",5\" tile,\ne,f,\"\n";
  std::vector<Fields> records;
  for (std::string_view left = text, record; take_csv_record(left, record);) records.push_back(csv_fields(record));
  EXPECT_EQ(records, (std::vector<Fields>{{"a", "b\nc", "d"}, {"\"\n", "5\" tile", ""}, {"e", "f", ""}}));
  for (const char* field : {"p\n1", "p\r\n1", "\n", "\"\n,\""}) {
    const std::string line = "0," + csv_field(field) + "\nnext";
    std::string_view left = line, record;
    ASSERT_TRUE(take_csv_record(left, record));
    EXPECT_EQ(csv_fields(record), (Fields{"0", field}));
    EXPECT_EQ(left, "next");
  }
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
