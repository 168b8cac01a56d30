#include "data/patient.h"

#include <gtest/gtest.h>

namespace microtome {
namespace {

TEST(PatientTest, StandsBeforeTheIndexAndTheCoordinates) {
  EXPECT_EQ(patient_in_name("8863_idx5_x51_y1251_class0.png"), "8863");
  EXPECT_EQ(patient_in_name("a_idx5_b_idx12_x0_y7.tif"), "a_idx5_b");
  EXPECT_EQ(patient_in_name("_idx5_x51_y1251"), "");
}

TEST(PatientTest, NoOtherNameHoldsOne) {
  for (const char* name :
       {"", "8863.png", "8863_x51_y1251_class0.png", "8863_idx_x51_y1251_class0.png", "8863_idx5_x_y1251.png",
        "8863_idx5_x51_y.png", "8863_idx5_y51_x1251.png", "8863_idx5 _x51_y1251.png", "8863_idx5_x51"})
    EXPECT_EQ(patient_in_name(name), "") << name;
}

TEST(PatientTest, APathSaysOneByItsFileOrItsFolders) {
  EXPECT_EQ(patient_in_path("d/9_idx5_x1_y2_class1.png"), "9");
  EXPECT_EQ(patient_in_path("/data/77/0/a.png"), "77");
  EXPECT_EQ(patient_in_path("77\\1\\a.png"), "77");
  for (const char* path : {"0/a.png", "77/2/a.png", "a.png", ""}) EXPECT_EQ(patient_in_path(path), "") << path;
}

TEST(PatientTest, WhatSaysNobodyIsUnknownInAnyCase) {
  for (const char* nobody : {"", "NA", "n/a", "NaN", "None", "NULL", "?", "-", "Unknown"})
    EXPECT_TRUE(is_unknown(nobody)) << nobody;
  for (const char* somebody : {"0", "8863", "Nan Li", "NA12878"}) EXPECT_FALSE(is_unknown(somebody)) << somebody;
}

}  // namespace
}  // namespace microtome
